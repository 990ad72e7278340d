"""BIO2 tags, the spans that they encode, and the ordered label set of a task.

The scheme is BIO2 (Tjong Kim Sang and Veenstra, 1999): ``B-T`` opens a span of type T, ``I-T`` continues it,
``O`` is outside. Spans are half-open: ``Span(2, 4, "PER")`` covers words 2 and 3.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

OUTSIDE = "O"


#: Tags that some released codes assign to [CLS], [SEP], padding and the later pieces of a word. A word predicted as
#: one of these counts as outside.
SPECIAL_TAGS = ("PAD", "X", "[CLS]", "[SEP]")


class Span(NamedTuple):
    """An entity: its type and the half-open range of its words."""

    start: int
    end: int
    type: str


@dataclass(frozen=True)
class Region:
    """Where an image shows an entity: one of the post's objects, or nowhere.

    Args:
        score: the probability of this choice, 0 to 1, given the entity.
        object: index of the object among the post's objects; None where the entity is not in the image.
        box: the object's box, xyxy in pixels of the image.
        label: the object's label.
    """

    score: float
    object: int | None = None
    box: tuple[float, float, float, float] | None = None
    label: str = ""

    @property
    def boxes(self) -> tuple[tuple[float, float, float, float], ...]:
        """The box, or none."""
        return () if self.box is None else (self.box,)


@dataclass(frozen=True)
class Entity:
    """Words ``start`` to ``end`` (not included) are an entity of this type; ``score`` is its probability, 0 to 1.

    ``region`` is where the image shows it, of a model that grounds entities (`Grounding`), else None.
    """

    start: int
    end: int
    type: str
    score: float
    region: Region | None = None


def is_tag(tag: str) -> bool:
    """Return whether this is a BIO2 tag: ``O``, or ``B-`` or ``I-`` and a type."""
    return tag == OUTSIDE or (tag[:2] in ("B-", "I-") and len(tag) > 2)


def tags_to_spans(tags: Sequence[str], *, strict: bool = False) -> list[Span]:
    """Return the spans of a tag sequence, in order.

    Args:
        tags: BIO2 tags of one sentence, or span labels B, I and O, whose spans have the type "".
        strict: if False (seqeval's default, what papers report), an ``I-T`` that continues no span opens one; if
            True, only ``B-T`` opens a span and such an ``I-T`` belongs to none.
    """
    found: list[Span] = []
    for position, tag in enumerate(tags):
        prefix, _, entity_type = tag.partition("-")
        if prefix == "I" and found and found[-1][1:] == (position, entity_type):
            found[-1] = found[-1]._replace(end=position + 1)
        elif prefix == "B" or (prefix == "I" and not strict):
            found.append(Span(position, position + 1, entity_type))
    return found


def spans_to_tags(spans: Iterable[tuple[int, int, str]], length: int) -> list[str]:
    """Return the BIO2 tags of a sentence with ``length`` words and these spans.

    Raises:
        ValueError: when a span leaves the sentence or overlaps another.
    """
    tags = [OUTSIDE] * length
    for start, end, entity_type in spans:
        if not 0 <= start < end <= length:
            raise ValueError(f"span {start}:{end} ({entity_type}) does not fit a sentence of {length} words")
        if any(tag != OUTSIDE for tag in tags[start:end]):
            raise ValueError(f"span {start}:{end} ({entity_type}) overlaps another span")
        tags[start:end] = [f"B-{entity_type}"] + [f"I-{entity_type}"] * (end - start - 1)
    return tags


def invalid_inside_tags(tags: Sequence[str]) -> list[int]:
    """Return the positions of ``I-T`` tags that follow neither ``B-T`` nor ``I-T``."""
    before = [OUTSIDE, *tags]
    return [
        position
        for position, tag in enumerate(tags)
        if tag.startswith("I-") and (before[position] == OUTSIDE or before[position][2:] != tag[2:])
    ]


def fix_bio(tags: Sequence[str]) -> list[str]:
    """Return the tags with every invalid ``I-T`` replaced by ``B-T``; the lenient spans stay the same."""
    invalid = set(invalid_inside_tags(tags))
    return ["B" + tag[1:] if position in invalid else tag for position, tag in enumerate(tags)]


def span_label(tag: str) -> str:
    """Return the span-detection label of a tag: B, I or O without the type (UMT, section 2.4)."""
    return tag[0] if tag[:2] in ("B-", "I-") else tag


@dataclass(frozen=True)
class LabelSet:
    """An ordered label set that maps tags to class indices.

    >>> labels = LabelSet.from_types(["PER", "LOC"])
    >>> labels.tags
    ('O', 'B-PER', 'I-PER', 'B-LOC', 'I-LOC')
    >>> labels.index("B-LOC")
    3
    """

    tags: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(set(self.tags)) != len(self.tags):
            raise ValueError(f"labels must be unique, but one occurs twice in {list(self.tags)}")

    @classmethod
    def from_types(cls, types: Iterable[str]) -> LabelSet:
        """Return the label set ``O``, then B and I of every type, in the order given."""
        return cls((OUTSIDE, *(f"{prefix}-{entity_type}" for entity_type in types for prefix in "BI")))

    @classmethod
    def from_data(cls, sequences: Iterable[Sequence[str]]) -> LabelSet:
        """Return the label set of tagged sentences: ``O``, then B and I of every type that occurs, types sorted."""
        return cls.from_types(sorted({tag[2:] for tags in sequences for tag in tags if tag != OUTSIDE}))

    @property
    def types(self) -> tuple[str, ...]:
        """The entity types, in the order of their first tag."""
        return tuple(dict.fromkeys(tag[2:] for tag in self.tags if tag[:2] in ("B-", "I-")))

    @property
    def span_labels(self) -> LabelSet:
        """The labels of span detection, in the order of their first tag: ``O``, ``B``, ``I`` and the like."""
        return LabelSet(tuple(dict.fromkeys(map(span_label, self.tags))))

    def index(self, tag: str) -> int:
        """Return the class index of a tag.

        Raises:
            KeyError: for a tag that is not in the set; the message lists those that are.
        """
        try:
            return self._index[tag]
        except KeyError:
            raise KeyError(f"{tag!r} is not among the labels {', '.join(self.tags)}") from None

    @cached_property
    def _index(self) -> dict[str, int]:
        return {tag: index for index, tag in enumerate(self.tags)}

    def __len__(self) -> int:
        return len(self.tags)

    def __iter__(self) -> Iterator[str]:
        return iter(self.tags)
