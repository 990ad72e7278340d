"""Errors of entities by kind: missed, spurious, wrong boundary, wrong type, or both wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mnergraph.labels import Span, tags_to_spans
from mnergraph.metrics.scores import check_lengths

#: What an entity is that has no error.
RIGHT = "right"
#: Kinds of errors.
ERROR_KINDS = ("boundary", "type", "both", "missed", "spurious")
#: Kinds that a gold entity can have, and those that a predicted one can have.
GOLD_KINDS, PREDICTED_KINDS = (RIGHT, *ERROR_KINDS[:4]), (RIGHT, *ERROR_KINDS[:3], "spurious")


def classify_errors(gold: Sequence[Span], predicted: Sequence[Span]) -> tuple[list[str], list[str]]:
    """Return, for every gold and every predicted entity of a sentence, ``right`` or one of `ERROR_KINDS`.

    ``type``: the other side has the same words with another type. ``boundary``: it has no entity of the same words,
    and one of the same type that shares some of them. ``both``: it has only entities of other types that share some.
    Else a gold entity is ``missed``, and a predicted one ``spurious``.
    """
    return [_classify_error(span, predicted, "missed") for span in gold], [
        _classify_error(span, gold, "spurious") for span in predicted
    ]


def _classify_error(span: Span, others: Sequence[Span], alone: str) -> str:
    start, end, entity_type = span
    same_words = [other for other in others if (other.start, other.end) == (start, end)]
    if same_words:
        return RIGHT if any(other.type == entity_type for other in same_words) else "type"
    overlapping = [other for other in others if other.start < end and other.end > start]
    if not overlapping:
        return alone
    return "boundary" if any(other.type == entity_type for other in overlapping) else "both"


@dataclass(frozen=True)
class ErrorCounts:
    """Numbers of entities by kind of error, see `classify_errors`.

    Attributes:
        gold: of every gold type the numbers of its entities by `GOLD_KINDS`, whose sum is the number of them all.
        predicted: of every predicted type the numbers of its entities by `PREDICTED_KINDS`. An entity that is
            predicted as two is one error of gold and two of the prediction.
    """

    gold: dict[str, dict[str, int]]
    predicted: dict[str, dict[str, int]]

    @property
    def types(self) -> list[str]:
        """The types of either side, sorted."""
        return sorted({*self.gold, *self.predicted})

    @property
    def gold_total(self) -> dict[str, int]:
        """Numbers of gold entities of all types by kind."""
        return _total(self.gold, GOLD_KINDS)

    @property
    def predicted_total(self) -> dict[str, int]:
        """Numbers of predicted entities of all types by kind."""
        return _total(self.predicted, PREDICTED_KINDS)

    def table(self) -> str:
        """Return the counts as a Markdown table: of gold entities, and in the last columns of predicted ones."""
        lines = [
            f"| type | gold | {' | '.join(GOLD_KINDS)} | predicted | spurious |",
            f"|---|--:|{'--:|' * len(GOLD_KINDS)}--:|--:|",
        ]
        rows = [("all", self.gold_total, self.predicted_total)]
        rows += [(name, self.gold.get(name, {}), self.predicted.get(name, {})) for name in self.types]
        for name, gold, predicted in rows:
            kinds = " | ".join(str(gold.get(kind, 0)) for kind in GOLD_KINDS)
            last = f"{sum(predicted.values())} | {predicted.get('spurious', 0)}"
            lines.append(f"| {name} | {sum(gold.values())} | {kinds} | {last} |")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return the counts as plain JSON data."""
        return asdict(self)


def count_errors(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> ErrorCounts:
    """Return the numbers of entities of each type by kind of error.

    Args:
        gold: BIO2 tags of every sentence, read as lenient scores read them.
        predicted: the tags that a model predicts.

    Raises:
        ValueError: when the numbers of sentences differ, or those of tags in a sentence, which the message names.
    """
    check_lengths(gold, predicted)
    sides: tuple[dict[str, Counter[str]], dict[str, Counter[str]]] = {}, {}
    for tags in zip(gold, predicted, strict=True):
        spans = [tags_to_spans(each) for each in tags]
        for side, own, kinds in zip(sides, spans, classify_errors(*spans), strict=True):
            for span, kind in zip(own, kinds, strict=True):
                side.setdefault(span.type, Counter())[kind] += 1
    gold_counts, predicted_counts = (
        {name: {kind: side[name][kind] for kind in kinds} for name in sorted(side)}
        for side, kinds in zip(sides, (GOLD_KINDS, PREDICTED_KINDS), strict=True)
    )
    return ErrorCounts(gold_counts, predicted_counts)


def _total(by_type: Mapping[str, Mapping[str, int]], kinds: Sequence[str]) -> dict[str, int]:
    return {kind: sum(counts[kind] for counts in by_type.values()) for kind in kinds}
