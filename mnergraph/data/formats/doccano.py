"""doccano's JSON lines of sequence labeling: a text and spans of its characters.

Read are both of doccano's forms, and those of its earlier versions::

    {"text": "Kawhi Leonard wins", "label": [[0, 13, "PER"]]}
    {"text": "Kawhi Leonard wins", "entities": [{"start_offset": 0, "end_offset": 13, "label": "PER"}], "relations": []}

and the first one is written. What doccano has no field for (id, image, words, split) is in ``post``, an object, which
it keeps as a document's metadata and exports again. Offsets are code points, or in a project with doccano's option
of grapheme clusters, these.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import regex

from mnergraph.data.formats.label_studio import parse_words_field
from mnergraph.data.formats.text_spans import (
    AnnotatedText,
    AnnotationError,
    Notes,
    TextSpan,
    read_json_lines,
    tokenizer_of,
)
from mnergraph.files import write_atomically
from mnergraph.quoting import listed, quoted

_RIGHT = '{"text": "Kawhi Leonard wins", "label": [[0, 13, "PER"]]}'
_SPANS = ("label", "labels", "entities")


def read_doccano(
    path: str | Path, *, text_key: str = "text", graphemes: bool = False, notes: Notes | None = None
) -> list[AnnotatedText]:
    """Return the texts of a doccano export, JSON lines.

    Args:
        path: the file.
        text_key: the field with the text.
        graphemes: whether offsets count grapheme clusters, as a project with that option does.
        notes: where what was left out is counted.

    Raises:
        AnnotationError: at the first fault, naming file and line.
    """
    notes = Notes() if notes is None else notes
    return [_read_line(line, where, text_key, graphemes, notes) for where, line in read_json_lines(path, _RIGHT)]


def write_doccano(
    texts: Iterable[AnnotatedText], path: str | Path, *, graphemes: bool = False, notes: Notes | None = None
) -> None:
    """Write texts for import into doccano, format JSONL.

    Args:
        texts: the texts.
        path: the file.
        graphemes: whether offsets are to count grapheme clusters.
        notes: where what doccano has no place for is counted: boxes and scores.

    Raises:
        AnnotationError: for an entity that begins or ends within a grapheme cluster, where these are counted, and text
            that can't be encoded.
    """
    notes = Notes() if notes is None else notes
    lines = [json.dumps(_line(text, graphemes, notes), ensure_ascii=False) for text in texts]
    try:
        content = "".join(f"{line}\n" for line in lines).encode()
    except UnicodeEncodeError as error:
        raise AnnotationError(f"{path}: {error.object[error.start]!r} is half a character; no UTF-8 has it") from None
    write_atomically(Path(path), content)


def _read_line(line: Any, where: str, text_key: str, graphemes: bool, notes: Notes) -> AnnotatedText:
    text = line.get(text_key, line.get("data")) if isinstance(line, dict) else None
    if not isinstance(text, str):
        names = f", but {listed(sorted(line))}" if isinstance(line, dict) else ""
        raise AnnotationError(f"{where}: no text {text_key!r}{names}; right is {_RIGHT}, or name the field by text_key")
    if isinstance(line.get("annotations"), list):
        raise AnnotationError(f"{where}: labels are numbers here; export as JSONL with the labels' names")
    given = next((line[key] for key in _SPANS if line.get(key) is not None), None)
    if given is not None and not isinstance(given, list):
        raise AnnotationError(f"{where}: {quoted(given)} is no list of spans; right is {_RIGHT}")
    bounds = _boundaries(text) if graphemes else None
    spans = None
    if given is not None:
        spans = tuple(_read_span(raw, bounds, f"{where}: span {place}") for place, raw in enumerate(given, 1))
    relations = line.get("relations") or []
    notes.add("relations were left out", where, len(relations) if isinstance(relations, list) else 1)
    post: Mapping[str, Any] = line["post"] if isinstance(line.get("post"), dict) else {}
    image, split = post.get("image"), post.get("split")
    return AnnotatedText(
        text,
        spans,
        id=str(post.get("id", line.get("id", ""))),
        image=image if isinstance(image, str) else None,
        word_offsets=parse_words_field(post.get("words"), where),
        split=split if isinstance(split, str) else None,
        where=where,
    )


def _read_span(raw: Any, bounds: list[int] | None, where: str) -> TextSpan:
    if isinstance(raw, dict):
        raw = [raw.get("start_offset"), raw.get("end_offset"), raw.get("label")]
    if not isinstance(raw, list) or len(raw) != 3 or not isinstance(raw[2], str):
        raise AnnotationError(f'{where}: {quoted(raw)}; right is [0, 13, "PER"]')
    start, end, kind = raw
    if type(start) is not int or type(end) is not int or not 0 <= start < end:
        raise AnnotationError(f"{where}: {quoted(raw)} has no offsets of characters; right is [0, 13, {kind!r}]")
    if bounds is not None:
        if end >= len(bounds):
            raise AnnotationError(f"{where}: {quoted(raw)} leaves the text of {len(bounds) - 1} grapheme clusters")
        start, end = bounds[start], bounds[end]
    return TextSpan(start, end, kind)


def _boundaries(text: str) -> list[int]:
    """The offsets of a text's grapheme clusters in code points, and its length."""
    return [*(match.start() for match in regex.finditer(r"\X", text)), len(text)]


def _line(text: AnnotatedText, graphemes: bool, notes: Notes) -> dict[str, Any]:
    image = text.image or (None if text.image_path is None else text.image_path.name)
    post: dict[str, Any] = {"id": text.id} if text.id else {}
    post |= {} if image is None else {"image": image}
    post |= {} if text.split is None else {"split": text.split}
    if tokenizer_of(text) != "tweets":
        post["words"] = [list(word) for word in text.word_offsets or ()]
    line: dict[str, Any] = {"text": text.text}
    if text.spans is not None:
        place = {offset: number for number, offset in enumerate(_boundaries(text.text))} if graphemes else None
        line["label"] = [_span(span, place, text) for span in text.spans]
        note_of_boxes(text, "doccano", notes)
    return line | ({"post": post} if post else {})


def _span(span: TextSpan, place: Mapping[int, int] | None, text: AnnotatedText) -> list[Any]:
    if place is None:
        return [span.start, span.end, span.type]
    if span.start not in place or span.end not in place:
        raise AnnotationError(
            f"{text.where}: {quoted(text.text[span.start : span.end])} begins or ends within a grapheme cluster; write "
            "it without graphemes"
        )
    return [place[span.start], place[span.end], span.type]


def note_of_boxes(text: AnnotatedText, tool: str, notes: Notes) -> None:
    """Count the boxes of a text, for a tool that has none."""
    boxes = sum(len(span.boxes) for span in text.spans or ()) + len(text.objects)
    notes.add(f"boxes were left out, which {tool} does not have", "", boxes)
