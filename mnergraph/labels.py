"""Tags, the spans they spell, and the ordered label set of a task.

The scheme is BIO2 (Tjong Kim Sang and Veenstra, 1999): ``B-T`` opens a span of type T, ``I-T`` continues it,
``O`` is outside. Spans are half-open: ``Span(2, 4, "PER")`` covers words 2 and 3.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

OUTSIDE = "O"


#: Tags that some released codes give to [CLS], [SEP], padding and the later pieces of a word. They name no
#: entity: where one is predicted for a word, the word counts as outside.
SPECIAL_TAGS = ("PAD", "X", "[CLS]", "[SEP]")


class Span(NamedTuple):
    """Words ``start`` to ``end`` (not included) form an entity of this type."""

    start: int
    end: int
    type: str


@dataclass(frozen=True)
class Entity:
    """Words ``start`` to ``end`` (not included) are an entity of this type; ``score`` is its probability, 0 to 1."""

    start: int
    end: int
    type: str
    score: float


def is_tag(tag: str) -> bool:
    """Whether this is a BIO2 tag: ``O``, or ``B-`` or ``I-`` and a type."""
    return tag == OUTSIDE or (tag[:2] in ("B-", "I-") and len(tag) > 2)


def tags_to_spans(tags: Sequence[str], *, strict: bool = False) -> list[Span]:
    """The spans that tags spell, in order.

    Lenient (what papers report, seqeval's default): an ``I-T`` that continues nothing opens a span.
    Strict: such an orphan belongs to no span, and only ``B-T`` opens one.
    """
    found: list[Span] = []
    for position, tag in enumerate(tags):
        if tag.startswith("I-") and found and found[-1][1:] == (position, tag[2:]):
            found[-1] = found[-1]._replace(end=position + 1)
        elif tag.startswith("B-") or (tag.startswith("I-") and not strict):
            found.append(Span(position, position + 1, tag[2:]))
    return found


def spans_to_tags(found: Iterable[tuple[int, int, str]], length: int) -> list[str]:
    """Spans back to BIO2 tags of a sentence with ``length`` words.

    Raises:
        ValueError: when a span leaves the sentence or overlaps another.
    """
    tags = [OUTSIDE] * length
    for start, end, kind in found:
        if not 0 <= start < end <= length:
            raise ValueError(f"span {start}:{end} ({kind}) does not fit a sentence of {length} words")
        if any(tag != OUTSIDE for tag in tags[start:end]):
            raise ValueError(f"span {start}:{end} ({kind}) overlaps another span")
        tags[start:end] = [f"B-{kind}"] + [f"I-{kind}"] * (end - start - 1)
    return tags


def invalid_inside_tags(tags: Sequence[str]) -> list[int]:
    """Positions of ``I-T`` tags that follow neither ``B-T`` nor ``I-T``."""
    before = [OUTSIDE, *tags]
    return [
        position
        for position, tag in enumerate(tags)
        if tag.startswith("I-") and (before[position] == OUTSIDE or before[position][2:] != tag[2:])
    ]


def fix_bio(tags: Sequence[str]) -> list[str]:
    """Tags with every orphan ``I-T`` turned into ``B-T``; the lenient spans stay the same."""
    found = set(invalid_inside_tags(tags))
    return ["B" + tag[1:] if position in found else tag for position, tag in enumerate(tags)]


def span_label(tag: str) -> str:
    """The span-detection label of a tag: its B, I or O without the type (UMT, section 2.4)."""
    return tag[0] if tag[:2] in ("B-", "I-") else tag


@dataclass(frozen=True)
class LabelSet:
    """An ordered label set: a tag's index is its place.

    >>> labels = Labels.of_types(["PER", "LOC"])
    >>> labels.tags
    ('O', 'B-PER', 'I-PER', 'B-LOC', 'I-LOC')
    >>> labels.index("B-LOC")
    3
    """

    tags: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(set(self.tags)) != len(self.tags):
            raise ValueError(f"a label stands twice in {list(self.tags)}")

    @classmethod
    def from_types(cls, types: Iterable[str]) -> LabelSet:
        """O, then B and I of every type in the order given."""
        return cls((OUTSIDE, *(f"{prefix}-{kind}" for kind in types for prefix in "BI")))

    @classmethod
    def from_data(cls, sequences: Iterable[Sequence[str]]) -> LabelSet:
        """The label set of a data set: O, then B and I of every type that occurs, types in sorted order."""
        return cls.from_types(sorted({tag[2:] for tags in sequences for tag in tags if tag != OUTSIDE}))

    @property
    def types(self) -> tuple[str, ...]:
        """Entity types in the order of their first tag."""
        return tuple(dict.fromkeys(tag[2:] for tag in self.tags if tag[:2] in ("B-", "I-")))

    @property
    def span_labels(self) -> LabelSet:
        """The labels of span detection, in the order of their first tag: ``O``, ``B``, ``I`` and the like."""
        return LabelSet(tuple(dict.fromkeys(map(span_label, self.tags))))

    def index(self, tag: str) -> int:
        """The place of a tag; a KeyError that lists the tags there are when it is none of them."""
        try:
            return self._places[tag]
        except KeyError:
            raise KeyError(f"{tag!r} is not among the labels {', '.join(self.tags)}") from None

    @cached_property
    def _places(self) -> dict[str, int]:
        return {tag: place for place, tag in enumerate(self.tags)}

    def __len__(self) -> int:
        return len(self.tags)

    def __iter__(self) -> Iterator[str]:
        return iter(self.tags)
