"""Posts that a command is given: one text, or a file with what lies beside it."""

from __future__ import annotations

from pathlib import Path

from mnergraph.data.evidence import Evidence
from mnergraph.data.formats.jsonl import read_posts, require_file
from mnergraph.pair import Post


def load_inputs(
    text: str | None = None,
    *,
    image: Path | None = None,
    caption: str | None = None,
    posts: Path | None = None,
    images: Path | None = None,
    objects: Path | None = None,
    captions: Path | None = None,
    features: Path | None = None,
) -> list[Post]:
    """The posts that a command was given: a text and what belongs to it, or a file and what lies beside it.

    Raises:
        ValueError: for neither or both, and for what can't go with the one given.
        FileNotFoundError: for a file that is not there.
    """
    if (text is None) == (posts is None):
        raise ValueError("give either text, with image and caption if there are any, or posts, a file of them")
    beside_text = {"image": image, "caption": caption}
    beside_posts = {"images": images, "objects": objects, "captions": captions, "features": features}
    idle = [name for name, given in (beside_posts if posts is None else beside_text).items() if given is not None]
    if idle:
        raise ValueError(f"{', '.join(idle)} can't go with {'text' if posts is None else 'posts'}")
    if posts is None:
        picture = None if image is None else require_file(image)
        return [Post.of_text(text or "", image_path=picture, caption=caption)]
    if posts.suffix == ".jsonl" and any(beside_posts.values()):
        raise ValueError(f"images and files of evidence go with the CoNLL format; {posts} names its own in each line")
    evidence = Evidence(captions, objects, features, caption_phrases=False)
    return read_posts(posts, images=images, evidence=evidence)
