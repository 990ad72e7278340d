"""Files of posts to predict on: JSON lines or the CoNLL format, with or without tags."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mnergraph.data.evidence import Evidence, TooManyObjects
from mnergraph.data.formats.conll import BYTE_ORDER_MARK, stream_conll
from mnergraph.data.formats.evidence_jsonl import RIGHT_SIZE, EvidenceError, is_size, parse_context, parse_object
from mnergraph.data.image_files import Refused, attach_images, image_path_in, image_path_of
from mnergraph.pair import DetectedObject, Pair
from mnergraph.quoting import listed, quoted

#: Suffixes of files of posts.
JSONL, CONLL = ".jsonl", (".txt", ".conll", ".bio", ".tsv")


def read_posts(
    path: Path, *, images: Path | None = None, evidence: Evidence | None = None, allow_paths: bool = False
) -> list[Pair]:
    """Return the posts of a file: ``.jsonl``, or ``.txt`` and the like in the CoNLL format, with or without tags.

    For the CoNLL format images are looked for in ``images`` and evidence is attached by id. A line of JSON
    holds ``text`` or ``words`` and, if there are any, ``id``, ``image`` (a path, from the file's own folder),
    ``caption``, ``context`` as in context.jsonl, and ``objects`` with ``width`` and ``height`` as in objects.jsonl; an
    object without a box is one that a caption names. Data under names of one's own are in ``extra``, an object.

    A post whose image leads out of the folder has none, and a warning counts these; see `image_path_in`.

    Args:
        path: the file.
        images: folder of the images of the CoNLL format.
        evidence: of the posts of the CoNLL format.
        allow_paths: whether images of ``.jsonl`` may lie anywhere, by absolute paths, ``..`` and links.

    Raises:
        ValueError: for a file of another suffix, and for a line that holds no post, naming file and line.
        FileNotFoundError: when ``images`` is no folder.
    """
    posts = []
    for post in stream_posts(path, images=images, allow_paths=allow_paths):
        if isinstance(post, UnreadablePost):
            raise ValueError(post.error)
        posts.append(post)
    return evidence.attach(posts) if evidence and path.suffix.lower() != JSONL else posts


def stream_posts(
    path: Path, *, images: Path | None = None, allow_paths: bool = False
) -> Iterator[Pair | UnreadablePost]:
    """Return the posts of a file, read one by one; for a line of JSON that holds none an `UnreadablePost`.

    Args:
        path: the file; see `read_posts`.
        images: folder of the images of the CoNLL format.
        allow_paths: whether images of ``.jsonl`` may lie anywhere.

    Raises:
        ValueError: for a file of another suffix; later, for a fault of the CoNLL format.
        FileNotFoundError: when ``images`` is no folder.
    """
    if images is not None and not images.is_dir():
        raise FileNotFoundError(f"images={str(images)!r} is no folder; give the one that holds <id>.jpg")
    if path.suffix.lower() not in (JSONL, *CONLL):
        raise ValueError(f"{path} is no file of posts: these are {JSONL}, or {', '.join(CONLL)} in the CoNLL format")
    if path.suffix.lower() == JSONL:
        return _stream_jsonl(path, allow_paths=allow_paths)
    pairs = stream_conll(path, labelled=is_labelled(path))
    if images is None:
        return pairs
    folder = images
    return attach_images(pairs, lambda pair: replace(pair, image_path=image_path_of(folder, pair.id)))


@dataclass(frozen=True)
class UnreadablePost:
    """A line of a file that holds no post.

    Attributes:
        error: what is wrong with it, naming file and line.
        id: its id, as far as it has one.
    """

    error: str
    id: str = ""

    def line(self) -> dict[str, Any]:
        """Return what is written in the place of its entities."""
        return {"id": self.id, "error": self.error}


def _stream_jsonl(path: Path, *, allow_paths: bool) -> Iterator[Pair | UnreadablePost]:
    """Yield the posts of a file of JSON lines; what is refused or left out is counted in a warning at the end."""
    refused, many = Refused(), TooManyObjects()
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            line = line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line
            if not line.strip():
                continue
            fields: Any = None
            try:
                fields = json.loads(line)
                post, image = parse_post(fields)
                if image is not None:
                    try:
                        found = path.parent / image if allow_paths else image_path_in(path.parent, image)
                    except ValueError as error:
                        refused.add(f"{path}:{number}: {error}")
                    else:
                        post = replace(post, image_path=require_file(found))
            except (ValueError, RecursionError) as error:
                advice = "" if isinstance(error, EvidenceError) else f"; right is {_RIGHT}"
                name = str(fields.get("id", "")) if isinstance(fields, dict) else ""
                yield UnreadablePost(f"{path}:{number}: {error}{advice}", name)
            else:
                yield many.limit(post)
    refused.warn()
    many.warn()


def count_posts(path: Path) -> int:
    """Return the number of posts of a file, one that can't be read included.

    Raises:
        ConllError: for a fault of the CoNLL format.
    """
    if path.suffix.lower() != JSONL:
        return sum(1 for _ in stream_conll(path, labelled=is_labelled(path)))
    with path.open("rb") as file:
        return sum(1 for line in file if line.removeprefix(BYTE_ORDER_MARK).strip())


def is_labelled(path: Path) -> bool:
    """Whether the first word of a CoNLL file has a tag behind it."""
    with path.open("rb") as file:
        lines = (line.removeprefix(b"\xef\xbb\xbf").strip(b" \t\r\n") for line in file)
        first = next((line for line in lines if line and not line.startswith(b"IMGID:")), b"")
    return b" " in first or b"\t" in first


_RIGHT = '{"text": "Thousands march in Paris", "image": "1.jpg"} or {"words": ["Thousands", "march"], "id": "7"}'


def parse_post(line: Mapping[str, Any]) -> tuple[Pair, str | None]:
    """Return the post of a line of JSON without its image, and the path that the line has for it.

    Raises:
        ValueError: when it holds no post.
    """
    known = {"id", "text", "words", "image", "caption", "objects", "width", "height", "context", "extra"}
    if not isinstance(line, dict) or ("text" in line) == ("words" in line):
        raise ValueError("a post is an object with either text or words")
    if strange := set(line) - known:
        raise ValueError(
            f"{listed(sorted(strange))} is not among {', '.join(sorted(known))}; data of your own go into extra"
        )
    for key in ("text", "image", "caption"):
        if not isinstance(line.get(key, ""), str | None) or (key == "text" and line.get(key, "") is None):
            raise ValueError(f"{key} is {quoted(line[key])}, which is no text")
    size = (line.get("width"), line.get("height"))
    if size != (None, None) and not is_size(size):
        raise ValueError(f"width and height are {quoted(size)}; {RIGHT_SIZE}")
    if not isinstance(line.get("objects", []), list):
        raise ValueError("objects is no list")
    if not isinstance(line.get("extra", {}), dict):
        raise ValueError(f"extra is {quoted(line['extra'])}, which is no object")
    sized = None if line.get("width") is None else (line["width"], line["height"])
    evidence: dict[str, Any] = {
        "id": str(line.get("id", "")),
        "caption": line.get("caption"),
        "size": sized,
        "objects": tuple(_object(raw, sized, place) for place, raw in enumerate(line.get("objects", []), 1)),
        "context": parse_context(line["context"], "the post") if "context" in line else (),
        "extra": line.get("extra", {}),
    }
    if "text" in line:
        return Pair.from_text(line["text"], **evidence), line.get("image")
    words = line["words"]
    if not isinstance(words, list) or not all(isinstance(word, str) and word for word in words):
        raise ValueError(f"words is {quoted(words)}, which is no list of words")
    return Pair.from_words(words, **evidence), line.get("image")


def _object(raw: Any, size: tuple[int, int] | None, place: int) -> DetectedObject:
    """An object as in objects.jsonl, where the score may be missing, and the box."""
    where = f"object {place}"
    if not isinstance(raw, dict) or raw.get("box") is None:
        if not isinstance(raw, dict) or not isinstance(raw.get("label"), str):
            raise ValueError(f"{where}: {quoted(raw)} has neither a label nor a box")
        return replace(parse_object({"score": 1.0, **raw, "box": [0, 0, 1, 1]}, (1, 1), where), box=None)
    if size is None:
        raise ValueError(f"{where} has a box, so the post needs width and height of the image in pixels")
    return parse_object({"label": "", "score": 1.0, **raw}, size, where)


def require_file(path: Path) -> Path:
    """The path of an image that is there.

    Raises:
        ValueError: when there is no such file.
    """
    try:
        found = path.is_file()
    except OSError as error:  # a name that is too long, a folder that may not be read
        raise ValueError(f"there is no image {quoted(str(path))}: {error.strerror}") from None
    if not found:
        raise ValueError(f"there is no image {path}")
    return path
