"""Objects and captions of images, and context of posts, per post id, in plain JSON lines.

``objects.jsonl``, one image per line; boxes in pixels of an image of this width and height::

    {"id": "7", "width": 600, "height": 800, "objects": [{"label": "man", "score": 0.9, "box": [1, 2, 3, 4]}]}

An object may carry ``"words": [start, end]``, the half-open span of the sentence that grounds it. Box edges
may overhang the image (detectors round); they are clipped to it. A box wholly outside, empty, or with its
corners swapped is a fault. ``captions.jsonl`` has lines ``{"id": "7", "caption": "a man"}``, and ``context.jsonl``
has texts about the post by source: ``{"id": "7", "context": [{"source": "ocr", "text": "SALE"}]}``. Further keys are
ignored. An id occurs once; where lines of one id differ (a feed that renumbered its posts), the last line
is used, as the last image of that name is the one on disk, and a warning names the lines.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mnergraph.files import write_atomically
from mnergraph.pair import Box, ContextText, DetectedObject
from mnergraph.quoting import MAX_NAMES, quoted

#: The longest side of an image, in pixels, and what is said of another.
MAX_SIDE = 100_000
RIGHT_SIZE = f"right are two whole numbers from 1 to {MAX_SIDE}"

OBJECT_EXAMPLE = '{"label": "person", "score": 0.9, "box": [x1, y1, x2, y2]}'


OBJECTS_EXAMPLE = f'{{"id": "7", "width": 600, "height": 800, "objects": [{OBJECT_EXAMPLE}, ...]}}'


CAPTION_EXAMPLE = '{"id": "7", "caption": "a man on stage"}'


CONTEXT_EXAMPLE = '{"id": "7", "context": [{"source": "knowledge", "text": "Ann Lee is a singer"}]}'


class EvidenceError(ValueError):
    """A fault in a file of evidence: its location, the value found, and the form expected."""


@dataclass(frozen=True)
class Detections:
    """Detected objects of one image, in the file's order, and the image's size in pixels.

    Args:
        width: of the image.
        height: of the image.
        objects: the objects.
        where: file and line that they were read from, for messages; "" for others.
    """

    width: int
    height: int
    objects: tuple[DetectedObject, ...]
    where: str = field(default="", compare=False)


def read_objects(path: str | Path) -> dict[str, Detections]:
    """Return the detections of every image by post id, with boxes clipped to the image."""
    found = {}
    for where, key, entry in json_entries(Path(path), OBJECTS_EXAMPLE):
        size: tuple[Any, Any] = entry.get("width"), entry.get("height")
        if not is_size(size):
            raise EvidenceError(f"{where}: width and height are {quoted(size)}; {RIGHT_SIZE}")
        if not isinstance(entry.get("objects"), list):
            raise EvidenceError(f'{where}: no list "objects"; right is {OBJECTS_EXAMPLE}')
        objects = (parse_object(raw, size, f"{where}: object {place}") for place, raw in enumerate(entry["objects"], 1))
        found[key] = Detections(size[0], size[1], tuple(objects), where)
    return found


def write_objects(detections: Mapping[str, Detections], path: str | Path) -> None:
    """Write detections by post id for `read_objects`.

    Raises:
        EvidenceError: for an object without a box.
    """
    lines = []
    for key, image in detections.items():
        objects = []
        for item in image.objects:
            if item.box is None:
                raise EvidenceError(f"{path}: object {item.label!r} of {key!r} has no box")
            entry: dict[str, Any] = {"label": item.label, "score": item.score, "box": list(item.box)}
            objects.append(entry if item.span is None else {**entry, "words": list(item.span)})
        lines.append({"id": key, "width": image.width, "height": image.height, "objects": objects})
    write_json_lines(lines, path)


def read_captions(path: str | Path) -> dict[str, str]:
    """Return the captions by post id."""
    found = {}
    for where, key, entry in json_entries(Path(path), CAPTION_EXAMPLE):
        if not isinstance(entry.get("caption"), str):
            raise EvidenceError(f'{where}: no text "caption"; right is {CAPTION_EXAMPLE}')
        found[key] = entry["caption"]
    return found


def write_captions(captions: Mapping[str, str], path: str | Path) -> None:
    """Write captions by post id for `read_captions`."""
    write_json_lines([{"id": key, "caption": caption} for key, caption in captions.items()], path)


def read_context(path: str | Path) -> dict[str, tuple[ContextText, ...]]:
    """Return the texts about every post by its id."""
    return {
        key: parse_context(entry.get("context"), where)
        for where, key, entry in json_entries(Path(path), CONTEXT_EXAMPLE)
    }


def write_context(context: Mapping[str, Sequence[ContextText]], path: str | Path) -> None:
    """Write texts about posts by post id for `read_context`."""
    lines = [{"id": key, "context": [entry._asdict() for entry in texts]} for key, texts in context.items()]
    write_json_lines(lines, path)


def parse_context(raw: Any, where: str) -> tuple[ContextText, ...]:
    """Return texts about a post from their JSON form; ``where`` begins errors."""
    if not isinstance(raw, list):
        raise EvidenceError(f'{where}: no list "context"; right is {CONTEXT_EXAMPLE}')
    for entry in raw:
        values = (entry.get("source"), entry.get("text")) if isinstance(entry, dict) else (None, None)
        if not all(isinstance(value, str) for value in values) or not values[0]:
            raise EvidenceError(f"{where}: context {quoted(entry)} has no source and text; right is {CONTEXT_EXAMPLE}")
    return tuple(ContextText(entry["source"], entry["text"]) for entry in raw)


def json_entries(path: Path, form: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield location, id and content of every line that is not blank; warn at the end of ids whose lines differ."""
    entries: dict[str, list[tuple[int, Any]]] = {}
    for number, raw in enumerate(path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        where = f"{path}:{number}"
        if not raw.strip():
            continue
        try:
            entry = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise EvidenceError(f"{where}: not JSON ({quoted(str(error))}); right is {form}") from None
        if not isinstance(entry, dict) or not isinstance(entry.get("id"), str) or not entry["id"]:
            raise EvidenceError(f'{where}: no text "id"; right is {form}')
        entries.setdefault(entry["id"], []).append((number, entry))
        yield where, entry["id"], entry
    clashes = {key: lines for key, lines in entries.items() if any(entry != lines[0][1] for _, entry in lines)}
    if clashes:
        first = list(clashes.items())[:MAX_NAMES]
        places = "; ".join(f"{key!r} on lines {[number for number, _ in at][:MAX_NAMES]}" for key, at in first)
        more = f" and {len(clashes) - len(first)} more" if len(clashes) > len(first) else ""
        warnings.warn(f"{path}: lines of one id differ ({places}{more}); the last is used, one is right", stacklevel=4)


def is_size(size: tuple[Any, Any]) -> bool:
    """Return whether these are the width and height of an image."""
    return all(type(side) is int and 0 < side <= MAX_SIDE for side in size)


def parse_object(raw: Any, size: tuple[int, int], where: str) -> DetectedObject:
    """Return an object from its JSON form; ``size`` is the image's (width, height), ``where`` begins errors."""
    if not isinstance(raw, dict) or not isinstance(raw.get("label"), str) or "box" not in raw:
        raise EvidenceError(f'{where}: no "label" or no "box"; right is {OBJECT_EXAMPLE}')
    score: Any = raw.get("score")
    if not _number(score) or not 0 <= score <= 1:
        raise EvidenceError(f"{where}: score {quoted(score)}; right is a number from 0 to 1")
    span = parse_words(raw.get("words"), where)
    return DetectedObject(raw["label"], parse_box(raw["box"], size, where), float(score), span)


def parse_words(raw: Any, where: str) -> tuple[int, int] | None:
    """Return a half-open span of words from its JSON form, None for none; ``where`` begins errors."""
    if raw is None:
        return None
    if not isinstance(raw, list) or len(raw) != 2 or any(type(end) is not int for end in raw):
        raise EvidenceError(f"{where}: words {quoted(raw)}; right is [start, end], counted from 0, end not included")
    return raw[0], raw[1]


def parse_box(raw: Any, size: tuple[int, int], where: str) -> Box:
    """Return a box of an image of this (width, height), clipped to it; ``where`` begins errors."""
    right = f"right is [x1, y1, x2, y2] in pixels with x1 < x2 and y1 < y2 in an image of {size[0]} x {size[1]}"
    if not isinstance(raw, list) or len(raw) != 4 or not all(map(_number, raw)):
        raise EvidenceError(f"{where}: box {quoted(raw)} is not four finite numbers; {right}")
    x1, y1, x2, y2 = map(float, raw)
    if x1 >= x2 or y1 >= y2:
        raise EvidenceError(f"{where}: box {quoted(raw)} is empty or has its corners swapped; {right}")
    if x2 <= 0 or y2 <= 0 or x1 >= size[0] or y1 >= size[1]:
        raise EvidenceError(f"{where}: box {quoted(raw)} lies outside the image; {right}")
    return max(x1, 0.0), max(y1, 0.0), min(x2, float(size[0])), min(y2, float(size[1]))


def _number(value: Any) -> bool:
    # False for NaN as well.
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e9 < value < 1e9


def write_json_lines(lines: list[dict[str, Any]], path: str | Path) -> None:
    """Write one JSON object per line, atomically."""
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    write_atomically(Path(path), text.encode())
