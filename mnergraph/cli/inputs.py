"""What several commands are given, as one dataclass each: posts, and stores of their images' features."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mnergraph.cli.post_stream import PostStream

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Inputs:
    """The posts of a command: a text and what belongs to it, or a file and what lies in the same folder.

    Args:
        text: one post's text.
        image: its image.
        caption: one sentence on what the image shows.
        posts: a file of posts instead: .jsonl, or the CoNLL format (.txt, .conll, .bio, .tsv).
        images: folder of the images of a CoNLL file.
        objects: objects.jsonl of a CoNLL file.
        captions: captions.jsonl of a CoNLL file.
        features: features.safetensors of a CoNLL file.
        context: context.jsonl of a CoNLL file, or texts about the one text by source, such as "{knowledge: ...}".
        allow_paths: whether the images of a .jsonl file may lie outside its folder.
    """

    text: str | None = None
    image: Path | None = None
    caption: str | None = None
    posts: Path | None = None
    images: Path | None = None
    objects: Path | None = None
    captions: Path | None = None
    features: Path | None = None
    context: dict[str, str] | Path | None = None
    allow_paths: bool = False

    @property
    def given(self) -> list[str]:
        """The names of the options that were given."""
        return [name for name, value in vars(self).items() if value is not None and value is not False]

    def stream(self) -> PostStream:
        """Return the posts, of a file read one by one; a line that holds none is an `UnreadablePost`.

        Raises:
            ValueError: for neither or both, for what can't go with the one given, and for a text's image that can't be
                read.
            FileNotFoundError: for a file that is not there.
        """
        from mnergraph.data.evidence import Evidence
        from mnergraph.data.formats.jsonl import JSONL, count_posts, require_file, stream_posts
        from mnergraph.data.image_files import check_image
        from mnergraph.pair import ContextText, Pair

        if (self.text is None) == (self.posts is None):
            raise ValueError("give either text, with image and caption if there are any, or posts, a file of them")
        main, others = (
            ("text", ("image", "caption", "context")) if self.posts is None else ("posts", (*_CONLL, "allow_paths"))
        )
        unused = [name for name in self.given if name != main and name not in others]
        if unused:
            raise ValueError(f"{', '.join(unused)} can't go with {main}")
        if self.text is not None:
            image = None if self.image is None else require_file(self.image)
            issue = check_image(image, image.name) if image else None
            if issue is not None and not issue.usable:
                raise ValueError(f"{image} can't be read as an image: {issue.detail}")
            if isinstance(self.context, Path):
                raise ValueError(f"context={str(self.context)!r} goes with a file of posts; with text give {_TEXTS}")
            texts = tuple(ContextText(source, text) for source, text in (self.context or {}).items())
            pair = Pair.from_text(self.text, image_path=image, caption=self.caption, context=texts)
            return PostStream.of([pair])
        assert self.posts is not None
        if self.posts.suffix.lower() != JSONL and self.allow_paths:
            raise ValueError(f"allow_paths goes with .jsonl; images of {self.posts} are found by id, in one folder")
        if self.posts.suffix.lower() == JSONL and set(self.given) - {"posts", "allow_paths"}:
            raise ValueError(
                f"images and files of evidence go with the CoNLL format; {self.posts} names its own in each line"
            )
        if isinstance(self.context, dict):
            raise ValueError(f"context={self.context} goes with a text; with posts give the path of context.jsonl")
        if not self.posts.is_file():
            raise FileNotFoundError(f"there is no file of posts {self.posts}")
        read = partial(stream_posts, self.posts, images=self.images, allow_paths=self.allow_paths)
        read()  # what can't be read at all
        if self.posts.suffix.lower() == JSONL or not any((self.captions, self.objects, self.features, self.context)):
            return PostStream(read, partial(count_posts, self.posts))
        # by id: the files are read once, and the posts are kept
        evidence = Evidence(self.captions, self.objects, self.features, caption_phrases=False, context=self.context)
        pairs = evidence.attach(pair for pair in read() if isinstance(pair, Pair))
        return PostStream.of(pairs)

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folder of the file of posts, in which files of evidence may be; empty for a text."""
        return () if self.posts is None else (self.posts.parent,)


_CONLL = ("images", "objects", "captions", "features", "context")
_TEXTS = "its texts by source, such as '{knowledge: Ann Lee is a singer}'"


@dataclass(frozen=True)
class StoreOptions:
    """Where the features of images come from.

    Args:
        stores: folders of feature stores in which images are looked up, made as those of the training were.
        run_extractors: whether to run the training's extractors on images that no store has.
        allow_missing: kinds of evidence, such as "detected objects", that the model reads and all posts may lack.
    """

    stores: tuple[Path, ...] = ()
    run_extractors: bool = True
    allow_missing: tuple[str, ...] = ()
