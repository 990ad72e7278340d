"""What annotation tools hold: a text with spans of characters, and how it becomes a pair with a tag per word."""

from __future__ import annotations

import codecs
import json
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import regex

from mnergraph.features.text.tweet_tokenizer import split_words
from mnergraph.labels import Entity, spans_to_tags, tags_to_spans
from mnergraph.pair import Box, DetectedObject, GroundedEntity, Pair, SourceText
from mnergraph.quoting import MAX_NAMES, quoted

#: How a text is split into words: as tweets, see `split_words`, or at white space.
Tokenizer = Literal["tweets", "spaces"]
#: What is done with a span that begins or ends within a word.
Align = Literal["error", "expand"]
#: What is done with spans that share words.
Overlap = Literal["error", "longest"]


class AnnotationError(ValueError):
    """A fault in a file of an annotation tool: the place, what was found, and what would be right."""


class TextSpan(NamedTuple):
    """Characters ``text[start:end]`` are an entity.

    Attributes:
        start: the first character, counted in code points from 0.
        end: the character after the last one.
        type: the entity's type.
        boxes: where the image shows it, xyxy in pixels.
        score: its probability, of a predicted one; else None.
        box_score: the probability of the box given the entity, of a predicted one; else None.
    """

    start: int
    end: int
    type: str
    boxes: tuple[Box, ...] = ()
    score: float | None = None
    box_score: float | None = None


class Annotated(Protocol):
    """What has a form as an annotated text, such as a result of `mnergraph.pipeline`."""

    def to_annotated_text(self) -> AnnotatedText:
        """Return the text with its entities as spans; without spans where there is no annotation."""


@dataclass(frozen=True)
class AnnotatedText:
    """A text with its entities as spans of characters, as annotation tools hold it.

    Args:
        text: the text.
        spans: the entities; None for a text without annotation, () for one without entities.
        id: the post's id.
        image: name or address of its image, as the tool has it.
        image_path: path of the image's file.
        size: width and height of the image in pixels.
        objects: boxes that belong to no entity.
        word_offsets: start and end of every word in characters; None where the tool knows no words.
        grounded: whether boxes of entities are annotated, so that an entity without one is not in the image.
        split: ``train``, ``valid`` or ``test``; None where there is none.
        where: file and place in it, for messages.
    """

    text: str
    spans: tuple[TextSpan, ...] | None = None
    id: str = ""
    image: str | None = None
    image_path: Path | None = None
    size: tuple[int, int] | None = None
    objects: tuple[DetectedObject, ...] = ()
    word_offsets: tuple[tuple[int, int], ...] | None = None
    grounded: bool = False
    split: str | None = None
    where: str = field(default="", compare=False)

    @classmethod
    def from_pair(
        cls, pair: Pair, entities: Sequence[Entity] | None = None, *, split: str | None = None
    ) -> AnnotatedText:
        """Return the text of a pair.

        Args:
            pair: the post.
            entities: predicted ones, which take the place of the pair's own labels.
            split: its split.
        """
        offsets = pair.word_offsets
        grounded = pair.grounding is not None

        def span(start: int, end: int, kind: str, boxes: tuple[Box, ...] = (), *scores: float | None) -> TextSpan:
            return TextSpan(offsets[start][0], offsets[end - 1][1], kind, boxes, *scores)

        spans: tuple[TextSpan, ...] | None = None
        if entities is not None:
            grounded = any(entity.region is not None for entity in entities)
            spans = tuple(
                span(e.start, e.end, e.type, e.region.boxes, e.score, e.region.score)
                if e.region is not None
                else span(e.start, e.end, e.type, (), e.score)
                for e in entities
            )
        elif pair.grounding is not None:
            spans = tuple(span(entity.start, entity.end, entity.type, entity.boxes) for entity in pair.grounding)
        elif pair.labels is not None:
            spans = tuple(span(*found) for found in tags_to_spans(pair.labels))
        return cls(
            pair.text,
            spans,
            id=pair.id,
            image_path=pair.image_path,
            size=pair.size,
            objects=tuple(item for item in pair.objects if item.box is not None),
            word_offsets=offsets,
            grounded=grounded,
            split=split,
            where=f"post {pair.id!r}",
        )

    def to_pair(
        self,
        *,
        align: Align = "error",
        overlap: Overlap = "error",
        tokenizer: Tokenizer = "tweets",
        notes: Notes | None = None,
    ) -> Pair:
        """Return the pair: the words, a BIO2 tag each, and the entities with their boxes.

        Args:
            align: what is done with a span that begins or ends within a word: it is an error, or takes the whole
                word. White space at a span's ends is left out in any case.
            overlap: what is done with spans that share words: they are an error, or the longest is kept, the first of
                those that are as long.
            tokenizer: how the text is split where its words are not known.
            notes: where what was changed is counted.

        Raises:
            AnnotationError: for a text without words, a span outside the text or of white space alone, a type with
                white space, and what ``align`` and ``overlap`` refuse; names the post.
        """
        notes = Notes() if notes is None else notes
        offsets = self.word_offsets
        if offsets is None:
            offsets = word_offsets(self.text, tokenizer)
        if not offsets:
            raise AnnotationError(f"{self.where}: the text {quoted(self.text)} holds no word; delete the post")
        words = tuple(self.text[start:end] for start, end in offsets)
        joined = self.text == " ".join(words) and all(right[0] == left[1] + 1 for left, right in pairwise(offsets))
        pair = Pair(
            words,
            id=self.id,
            image_path=self.image_path,
            size=self.size,
            objects=self.objects,
            source=None if joined and offsets[0][0] == 0 else SourceText(self.text, tuple(offsets)),
        )
        if self.spans is None:
            return pair
        entities = [self._entity(span, offsets, align, notes) for span in self.spans]
        entities = self._disjoint(entities, overlap, notes)
        tags = spans_to_tags([(entity.start, entity.end, entity.type) for entity in entities], len(words))
        return replace(pair, labels=tuple(tags), grounding=tuple(entities) if self.grounded else None)

    def _entity(
        self,
        span: TextSpan,
        offsets: Sequence[tuple[int, int]],
        align: Align,
        notes: Notes,
    ) -> GroundedEntity:
        start, end, text = span.start, span.end, self.text
        name = f"{self.where}: span {start}:{end} ({span.type})"
        if not 0 <= start < end <= len(text):
            raise AnnotationError(f"{name} leaves the text of {len(text)} characters, or is empty")
        kind = span.type
        if not kind or regex.search(r"\s", kind):
            raise AnnotationError(
                f"{self.where}: type {quoted(kind)} holds white space, which no tag may; rename it by mapping, "
                f"{{{kind}: {'-'.join(kind.split()) or 'TYPE'}}}"
            )
        stripped = text[start:end].strip()
        if not stripped:
            raise AnnotationError(f"{name} covers white space alone; delete it in the tool")
        if len(stripped) < end - start:
            notes.add("spans have white space at their ends, which is left out", self.where)
            start += len(text[start:end]) - len(text[start:end].lstrip())
            end = start + len(stripped)
        first = bisect_right(offsets, start, key=lambda word: word[1])
        last = bisect_left(offsets, end, key=lambda word: word[0])
        if first >= last:
            raise AnnotationError(f"{name} {quoted(text[start:end])} covers no word")
        if (offsets[first][0], offsets[last - 1][1]) != (start, end):
            if align == "error":
                cut = [text[slice(*word)] for word in (offsets[first], offsets[last - 1])]
                raise AnnotationError(
                    f"{name} {quoted(text[start:end])} cuts {' or '.join(dict.fromkeys(map(quoted, cut)))}; move it in "
                    "the tool, or set align to expand for whole words"
                )
            notes.add("spans cut a word and were expanded to whole words", self.where)
        return GroundedEntity(first, last, kind, span.boxes)

    def _disjoint(self, entities: Iterable[GroundedEntity], overlap: Overlap, notes: Notes) -> list[GroundedEntity]:
        """Return the entities in order, none of which share words."""
        merged: dict[tuple[int, int, str], GroundedEntity] = {}
        for entity in entities:
            key = (entity.start, entity.end, entity.type)
            if key in merged:
                notes.add("spans occur twice and were merged", self.where)
                boxes = tuple(dict.fromkeys((*merged[key].boxes, *entity.boxes)))
                entity = replace(entity, boxes=boxes)
            merged[key] = entity
        kept: list[GroundedEntity] = []
        for entity in sorted(merged.values(), key=lambda entity: (entity.start - entity.end, entity.start)):
            other = next((one for one in kept if entity.start < one.end and one.start < entity.end), None)
            if other is None:
                kept.append(entity)
            elif overlap == "error":
                raise AnnotationError(
                    f"{self.where}: {self._named(entity)} and {self._named(other)} share words, and a word has one "
                    "tag; delete one in the tool, or set overlap to longest to keep the longest"
                )
            else:
                notes.add("spans share words with a longer one and were left out", self.where)
        return sorted(kept, key=lambda entity: entity.start)

    def _named(self, entity: GroundedEntity) -> str:
        offsets = self.word_offsets or word_offsets(self.text, "tweets")
        if entity.end > len(offsets):
            return f"words {entity.start}:{entity.end} ({entity.type})"
        return f"{quoted(self.text[offsets[entity.start][0] : offsets[entity.end - 1][1]])} ({entity.type})"


class Notes:
    """What a conversion changed or left out, counted, with the first places of each kind.

    Attributes:
        counts: how often, by what.
        said: lines of their own.
    """

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.said: list[str] = []
        self._places: dict[str, list[str]] = {}

    def add(self, what: str, where: str = "", count: int = 1) -> None:
        """Count what happened ``count`` times.

        Args:
            what: what it is, in the plural: "spans were expanded".
            where: the place of this one, for the message; "" for none.
            count: how many there are.
        """
        if count:
            self.counts[what] = self.counts.get(what, 0) + count
            places = self._places.setdefault(what, [])
            if where and where not in places and len(places) <= MAX_NAMES:
                places.append(where)

    def say(self, line: str) -> None:
        """Add a line of its own."""
        self.said.append(line)

    def lines(self) -> list[str]:
        """Return the lines of `say`, then one for each kind."""
        return [*self.said, *(self._line(what) for what in self.counts)]

    def _line(self, what: str) -> str:
        places = [place.rpartition("/")[2] for place in self._places[what]]
        more = ", ..." if len(places) > MAX_NAMES else ""
        shown = f" ({', '.join(places[:MAX_NAMES])}{more})" if places else ""
        return f"{self.counts[what]:,} {what}{shown}"


def read_json_lines(path: str | Path, example: str) -> Iterator[tuple[str, Any]]:
    """Yield file and line, for messages, and the value of every line of a file that is not blank.

    Args:
        path: the file.
        example: a right line, for messages.

    Raises:
        AnnotationError: for a line that is not JSON.
    """
    with Path(path).open("rb") as file:
        for number, raw in enumerate(file, 1):
            where, content = f"{path}:{number}", raw.removeprefix(codecs.BOM_UTF8)
            if content.strip():
                try:
                    value = json.loads(content)
                except (ValueError, RecursionError) as error:
                    raise AnnotationError(f"{where}: not JSON ({quoted(str(error))}); right is {example}") from None
                yield where, value


def word_offsets(text: str, tokenizer: Tokenizer) -> tuple[tuple[int, int], ...]:
    """Return start and end of every word of a text, in characters."""
    if tokenizer == "tweets":
        return tuple((word.start, word.end) for word in split_words(text))
    return tuple(match.span() for match in regex.finditer(r"[^ \t\r\n]+", text))


def tokenizer_of(text: AnnotatedText) -> Tokenizer | None:
    """Return by which tokenizer the text's words are found again; None for none, "tweets" where they are not known."""
    if text.word_offsets is None:
        return "tweets"
    names: tuple[Tokenizer, ...] = ("tweets", "spaces")
    return next((name for name in names if word_offsets(text.text, name) == text.word_offsets), None)


def entity_types(texts: Iterable[AnnotatedText]) -> list[str]:
    """Return the types of the texts' entities, sorted."""
    return sorted({span.type for text in texts for span in text.spans or ()})


def require_text_at(text: str, start: int, end: int, expected: str, where: str) -> None:
    """Check that a span has the characters that the tool wrote beside it; line breaks may be blanks.

    Raises:
        AnnotationError: where it has others.
    """
    if "".join(text[start:end].split()) != "".join(expected.split()):
        raise AnnotationError(
            f"{where}: span {start}:{end} is {quoted(text[start:end])} in the text, but {quoted(expected)} in the "
            "annotation; text and annotation are not of one export"
        )
