"""The JSON lines of ``mnergraph predict`` as annotated texts, for pre-annotation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from mnergraph.data.formats.text_spans import (
    AnnotatedText,
    AnnotationError,
    Notes,
    TextSpan,
    Tokenizer,
    read_json_lines,
    word_offsets,
)
from mnergraph.pair import Box, Pair
from mnergraph.quoting import quoted

_RIGHT = '{"id": "7", "text": "...", "entities": [{"type": "PER", "score": 0.9, "start": 0, "end": 13}]}'


def read_predictions(
    path: str | Path, *, posts: Iterable[Pair] | None = None, notes: Notes | None = None
) -> list[AnnotatedText]:
    """Return the texts of a file of ``mnergraph predict`` with their predicted entities, scores and boxes.

    A post with an error in the place of entities is a text without annotation, and is counted.

    Args:
        path: the file, JSON lines.
        posts: the posts that were predicted, in their order, for images and words; without them the words are those
            of the tokenizer that fits all entities.
        notes: where what was left out is counted.

    Raises:
        AnnotationError: for a line that is no prediction, or that is not of its post, naming file and line.
    """
    notes = Notes() if notes is None else notes
    lines = [
        (line, _read_line(line, where, notes))
        for where, line in read_json_lines(path, _RIGHT)
        if not (isinstance(line, dict) and "posts_with_errors" in line)  # the last line, which counts them
    ]
    tokenizer = _fitting_tokenizer(lines)
    texts = [replace(text, word_offsets=tokenizer and word_offsets(text.text, tokenizer)) for _, text in lines]
    return texts if posts is None else _with_posts(texts, posts, Path(path))


def _read_line(line: Any, where: str, notes: Notes) -> AnnotatedText:
    if not isinstance(line, dict) or not isinstance(line.get("text", "" if "error" in line else None), str):
        raise AnnotationError(f"{where}: {quoted(line)} is no line of mnergraph predict; right is {_RIGHT}")
    common: dict[str, Any] = {"id": str(line.get("id", "")), "where": where}
    if "error" in line:
        notes.add("posts could not be predicted and have no entities", where)
        return AnnotatedText(line.get("text", ""), None, **common)
    entities = line.get("entities")
    if not isinstance(entities, list):
        raise AnnotationError(f'{where}: no list "entities"; right is {_RIGHT}')
    spans = tuple(_span(entity, f"{where}: entity {place}") for place, entity in enumerate(entities, 1))
    grounded = any("box" in entity for entity in entities)
    return AnnotatedText(line["text"], spans, grounded=grounded, **common)


def _span(entity: Any, where: str) -> TextSpan:
    try:
        start, end, kind, score = entity["start"], entity["end"], entity["type"], entity["score"]
        box, probability = entity.get("box"), entity.get("box_probability")
        if not (type(start) is int and type(end) is int and isinstance(kind, str) and 0 <= score <= 1):
            raise TypeError
        boxes: tuple[Box, ...] = () if box is None else (_box(box),)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise AnnotationError(f"{where}: {quoted(entity)} is no predicted entity; right is {_RIGHT}") from None
    return TextSpan(start, end, kind, boxes, float(score), None if box is None else probability)


def _box(raw: Any) -> Box:
    left, top, right, bottom = (float(side) for side in raw)
    if not all(map(math.isfinite, (left, top, right, bottom))):
        raise ValueError(raw)
    return left, top, right, bottom


def _fitting_tokenizer(lines: Iterable[tuple[Mapping[str, Any], AnnotatedText]]) -> Tokenizer | None:
    """The tokenizer by which every entity has the words that its line says; None for neither."""
    fitting: list[Tokenizer] = ["tweets", "spaces"]
    for line, text in lines:
        for name in list(fitting):
            offsets = word_offsets(text.text, name)
            if not all(_has_words(entity, offsets) for entity in line.get("entities", ())):
                fitting.remove(name)
    return next(iter(fitting), None)


def _has_words(entity: Mapping[str, Any], offsets: tuple[tuple[int, int], ...]) -> bool:
    first, end = entity.get("word_start"), entity.get("word_end")
    if first is None or end is None:
        return True
    ends = tuple(chain.from_iterable(offsets[first:end]))
    return 0 <= first < end <= len(offsets) and (ends[0], ends[-1]) == (entity["start"], entity["end"])


def _with_posts(texts: list[AnnotatedText], posts: Iterable[Pair], path: Path) -> list[AnnotatedText]:
    pairs = list(posts)
    if len(pairs) != len(texts):
        raise AnnotationError(f"{path} has {len(texts)} posts, and the posts given with it are {len(pairs)}")
    joined = []
    for text, pair in zip(texts, pairs, strict=True):
        if text.text not in (pair.text, "") or (text.text == "" and text.spans is not None):
            raise AnnotationError(
                f"{text.where}: its text {quoted(text.text)} is not that of the post in its place, {pair.id!r}, "
                f"{quoted(pair.text)}; give the file that was predicted"
            )
        own = AnnotatedText.from_pair(pair)
        joined.append(replace(own, spans=text.spans, grounded=text.grounded, id=text.id or own.id, where=text.where))
    return joined
