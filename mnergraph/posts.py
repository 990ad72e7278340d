"""Posts as people have them, text and a picture, and files of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mnergraph.data import Evidence, EvidenceError, Word, picture_path, read_conll, split_words
from mnergraph.data.records import parse_object
from mnergraph.graph import Object, Pair


@dataclass(frozen=True)
class Post:
    """A pair and the text it was made from, with the place of each word in it."""

    pair: Pair
    text: str
    words: tuple[Word, ...]

    @classmethod
    def of_text(cls, text: str, **evidence: Any) -> Post:
        """A post of plain text, split into words the way the Twitter data is.

        Raises:
            ValueError: when the text holds no word.
        """
        words = tuple(split_words(text))
        if not words:
            raise ValueError(f"post {evidence.get('id', '')!r}: the text {text!r} holds no word")
        return cls(Pair(words=tuple(word.text for word in words), **evidence), text, words)

    @classmethod
    def of_words(cls, pair: Pair) -> Post:
        """A post that is words already; its text is the words with single spaces between them."""
        words, start = [], 0
        for word in pair.words:
            words.append(Word(word, start, start + len(word)))
            start += len(word) + 1
        return cls(pair, " ".join(pair.words), tuple(words))


def read_posts(path: Path, *, images: Path | None = None, evidence: Evidence | None = None) -> list[Post]:
    """Posts of a file: ``.jsonl``, or else in the CoNLL format, with or without tags.

    For the CoNLL format pictures are looked for in ``images`` and evidence is attached by id. A line of JSON
    holds ``text`` or ``words`` and, if there are any, ``id``, ``image`` (a path, from the file's own folder),
    ``caption``, and ``objects`` with ``width`` and ``height`` as in objects.jsonl; an object without a box is
    one that the picture is told to show.

    Raises:
        ValueError: for a line that holds no post, naming file and line.
        FileNotFoundError: when ``images`` is no folder.
    """
    if images is not None and not images.is_dir():
        raise FileNotFoundError(f"images={str(images)!r} is no folder; give the one that holds <id>.jpg")
    if path.suffix != ".jsonl":
        pairs = read_conll(path, labelled=_has_tags(path))
        if images is not None:
            pairs = [replace(pair, picture=picture_path(images, pair.id)) for pair in pairs]
        posts = [Post.of_words(pair) for pair in (evidence.attach(pairs) if evidence else pairs)]
    else:
        posts = []
        for number, line in enumerate(path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
            if line.strip():
                try:
                    posts.append(_post(json.loads(line), path.parent))
                except EvidenceError as error:
                    raise ValueError(f"{path}:{number}: {error}") from error
                except ValueError as error:
                    raise ValueError(f"{path}:{number}: {error}; right is {_RIGHT}") from error
    return posts


def _has_tags(path: Path) -> bool:
    """Whether the first word of a CoNLL file has a tag behind it."""
    with path.open("rb") as file:
        lines = (line.removeprefix(b"\xef\xbb\xbf").strip(b" \t\r\n") for line in file)
        first = next((line for line in lines if line and not line.startswith(b"IMGID:")), b"")
    return b" " in first or b"\t" in first


def given_posts(
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
        raise ValueError(
            "give either text, with image and caption if there are any, or posts, a file of them"
        )
    beside_text = {"image": image, "caption": caption}
    beside_posts = {"images": images, "objects": objects, "captions": captions, "features": features}
    idle = [
        name for name, given in (beside_posts if posts is None else beside_text).items() if given is not None
    ]
    if idle:
        raise ValueError(f"{', '.join(idle)} can't go with {'text' if posts is None else 'posts'}")
    if posts is None:
        picture = None if image is None else existing(image)
        return [Post.of_text(text or "", picture=picture, caption=caption)]
    if posts.suffix == ".jsonl" and any(beside_posts.values()):
        raise ValueError(
            f"images and files of evidence go with the CoNLL format; {posts} names its own in each line"
        )
    evidence = Evidence(captions, objects, features, caption_phrases=False)
    return read_posts(posts, images=images, evidence=evidence)


_RIGHT = (
    '{"text": "Thousands march in Paris", "image": "1.jpg"} or {"words": ["Thousands", "march"], "id": "7"}'
)


def _post(line: Mapping[str, Any], folder: Path) -> Post:
    known = {"id", "text", "words", "image", "caption", "objects", "width", "height"}
    if not isinstance(line, dict) or ("text" in line) == ("words" in line):
        raise ValueError("a post is an object with either text or words")
    if strange := set(line) - known:
        raise ValueError(f"{', '.join(sorted(strange))} is not among {', '.join(sorted(known))}")
    for key in ("text", "image", "caption"):
        if not isinstance(line.get(key, ""), str | None) or (key == "text" and line.get(key, "") is None):
            raise ValueError(f"{key} is {line[key]!r}, which is no text")
    size = (line.get("width"), line.get("height"))
    if size != (None, None) and not all(type(side) is int and side > 0 for side in size):
        raise ValueError(f"width and height are {size}, not two whole numbers above 0")
    if not isinstance(line.get("objects", []), list):
        raise ValueError("objects is no list")
    sized = None if line.get("width") is None else (line["width"], line["height"])
    evidence: dict[str, Any] = {
        "id": str(line.get("id", "")),
        "picture": None if line.get("image") is None else existing(folder / line["image"]),
        "caption": line.get("caption"),
        "size": sized,
        "objects": tuple(_object(raw, sized, place) for place, raw in enumerate(line.get("objects", []), 1)),
    }
    if "text" in line:
        return Post.of_text(line["text"], **evidence)
    words = line["words"]
    if not isinstance(words, list) or not all(isinstance(word, str) and word.strip() for word in words):
        raise ValueError(f"words is {words!r}, which is no list of words")
    return Post.of_words(Pair(words=tuple(words), **evidence))


def _object(raw: Any, size: tuple[int, int] | None, place: int) -> Object:
    """An object as in objects.jsonl, where the score may be missing, and the box."""
    where = f"object {place}"
    if not isinstance(raw, dict) or raw.get("box") is None:
        if not isinstance(raw, dict) or not isinstance(raw.get("label"), str):
            raise ValueError(f"{where}: {raw!r} has neither a label nor a box")
        return replace(parse_object({"score": 1.0, **raw, "box": [0, 0, 1, 1]}, (1, 1), where), box=None)
    if size is None:
        raise ValueError(f"{where} has a box, so the post needs width and height of the picture in pixels")
    return parse_object({"label": "", "score": 1.0, **raw}, size, where)


def existing(path: Path) -> Path:
    """The path of a picture that is there.

    Raises:
        ValueError: when there is no such file.
    """
    if not path.is_file():
        raise ValueError(f"there is no picture {path}")
    return path
