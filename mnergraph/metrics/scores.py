"""Span-level scores by seqeval, lenient as papers report them and strict, each under its name.

Works on plain tag sequences. Lenient is seqeval's default: an ``I-T`` that continues nothing opens an
entity. Strict is its strict IOB2 mode: only ``B-T`` does. Twitter-2015's gold has orphan I- tags, so there
the two differ by the data alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from mnergraph.labels import Span, tags_to_spans


@dataclass(frozen=True)
class Score:
    """Precision, recall and F1, 0 to 1, and the number of gold entities."""

    precision: float
    recall: float
    f1: float
    gold: int


@dataclass(frozen=True)
class Scores:
    """Micro-averaged scores over all entities, and those of each type, lenient and strict."""

    lenient: Score
    strict: Score
    lenient_by_type: dict[str, Score]
    strict_by_type: dict[str, Score]
    heads: dict[str, dict[str, float]] = field(default_factory=dict)

    def table(self) -> str:
        """A table in Markdown; figures in percent."""
        lines = [
            "| type | P | R | F1 | gold | strict P | R | F1 | gold |",
            "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
        ]
        rows = [("all", self.lenient, self.strict)]
        empty = Score(0.0, 0.0, 0.0, 0)
        for kind in sorted({*self.lenient_by_type, *self.strict_by_type}):
            rows.append((kind, self.lenient_by_type.get(kind, empty), self.strict_by_type.get(kind, empty)))
        for name, *both in rows:
            cells = [f"{100 * s.precision:.2f} | {100 * s.recall:.2f} | {100 * s.f1:.2f} | {s.gold}" for s in both]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        for head, metrics in self.heads.items():
            lines.append("")
            lines.append(f"{head}: " + ", ".join(f"{name} {100 * value:.2f}" for name, value in metrics.items()))
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The scores as plain JSON data."""
        return asdict(self)


def score(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> Scores:
    """Scores of predicted tags against gold tags, one sequence per sentence.

    Raises:
        ValueError: for a different number of sentences, or of tags in a sentence, which it names.
    """
    _refuse_uneven(gold, predicted)
    lenient, lenient_by_type = _report(gold, predicted, strict=False)
    strict, strict_by_type = _report(gold, predicted, strict=True)
    return Scores(lenient, strict, lenient_by_type, strict_by_type)


def counts(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]], *, strict: bool = False) -> np.ndarray:
    """Entities of every sentence: right ones, predicted ones, gold ones, ``[sentences, 3]``.

    Summed over the sentences they give the micro-averaged scores of `score`; kept apart they are what
    `mnergraph.metrics.significance` draws from.

    Raises:
        ValueError: as `score` does.
    """
    _refuse_uneven(gold, predicted)
    rows = []
    for told, said in zip(gold, predicted, strict=True):
        true, found = set(tags_to_spans(told, strict=strict)), set(tags_to_spans(said, strict=strict))
        rows.append((len(true & found), len(found), len(true)))
    return np.array(rows, dtype=np.int64).reshape(-1, 3)


#: What can be wrong with an entity; what is not wrong is ``right``.
ERRORS = ("missed", "spurious", "boundary", "type")


def classify_errors(gold: Sequence[Span], predicted: Sequence[Span]) -> tuple[list[str], list[str]]:
    """For every gold and every predicted entity of a sentence ``right``, or one of `ERRORS`.

    ``type``: the other side has the same words with another type. ``boundary``: it has an entity that shares
    some of the words. Else a gold entity is ``missed``, and a predicted one ``spurious``.
    """
    return [_kind(span, predicted, "missed") for span in gold], [_kind(span, gold, "spurious") for span in predicted]


def _kind(span: Span, others: Sequence[Span], alone: str) -> str:
    start, end, _ = span
    if any(tuple(other) == tuple(span) for other in others):
        return "right"
    if any((other.start, other.end) == (start, end) for other in others):
        return "type"
    return "boundary" if any(other.start < end and other.end > start for other in others) else alone


def _refuse_uneven(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> None:
    if len(gold) != len(predicted):
        raise ValueError(f"{len(gold)} sentences of gold tags, {len(predicted)} of predicted ones")
    for place, (told, said) in enumerate(zip(gold, predicted, strict=True)):
        if len(told) != len(said):
            raise ValueError(f"sentence {place}: {len(told)} gold tags, {len(said)} predicted ones")


def _report(
    gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]], *, strict: bool
) -> tuple[Score, dict[str, Score]]:
    if not any(tags_to_spans(tags, strict=strict) for tags in (*gold, *predicted)):
        return Score(0.0, 0.0, 0.0, 0), {}  # seqeval's report needs an entity
    from seqeval.metrics import classification_report  # imports scikit-learn
    from seqeval.scheme import IOB2

    rows = classification_report(
        [list(tags) for tags in gold],
        [list(tags) for tags in predicted],
        output_dict=True,
        zero_division=0,
        mode="strict" if strict else None,
        scheme=IOB2 if strict else None,
    )
    scores = {name: _score(row) for name, row in rows.items()}
    micro = scores.pop("micro avg")
    return micro, {name: value for name, value in scores.items() if not name.endswith(" avg")}


def _score(row: dict[str, float]) -> Score:
    return Score(float(row["precision"]), float(row["recall"]), float(row["f1-score"]), int(row["support"]))
