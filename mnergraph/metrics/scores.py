"""Span-level precision, recall and F1 by seqeval, lenient (as papers report them) and strict.

Lenient is seqeval's default: an ``I-T`` that continues no entity opens one. Strict is its strict IOB2 mode: only
``B-T`` does. The gold tags of Twitter-2015 contain invalid I- tags, so there the two differ by the data alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from mnergraph.labels import tags_to_spans


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
        """Return the scores as a Markdown table, in percent."""
        lines = [
            "| type | P | R | F1 | gold | strict P | R | F1 | gold |",
            "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
        ]
        rows = [("all", self.lenient, self.strict)]
        empty = Score(0.0, 0.0, 0.0, 0)
        for entity_type in sorted({*self.lenient_by_type, *self.strict_by_type}):
            rows.append(
                (entity_type, self.lenient_by_type.get(entity_type, empty), self.strict_by_type.get(entity_type, empty))
            )
        for name, *both in rows:
            cells = [f"{100 * s.precision:.2f} | {100 * s.recall:.2f} | {100 * s.f1:.2f} | {s.gold}" for s in both]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        for head, metrics in self.heads.items():
            lines.append("")
            lines.append(f"{head}: " + ", ".join(f"{name} {100 * value:.2f}" for name, value in metrics.items()))
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return the scores as plain JSON data."""
        return asdict(self)


def score(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> Scores:
    """Return the scores of predicted tags against gold tags, one sequence per sentence.

    Raises:
        ValueError: when the numbers of sentences differ, or those of tags in a sentence, which the message names.
    """
    check_lengths(gold, predicted)
    lenient, lenient_by_type = _report(gold, predicted, strict=False)
    strict, strict_by_type = _report(gold, predicted, strict=True)
    return Scores(lenient, strict, lenient_by_type, strict_by_type)


def counts(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]], *, strict: bool = False) -> np.ndarray:
    """Return the numbers of correct, predicted and gold entities of every sentence, ``[sentences, 3]``.

    Their sums give the micro-averaged scores of `score`; `mnergraph.metrics.significance` resamples the rows.

    Raises:
        ValueError: as `score` does.
    """
    check_lengths(gold, predicted)
    rows = []
    for gold_tags, predicted_tags in zip(gold, predicted, strict=True):
        expected = set(tags_to_spans(gold_tags, strict=strict))
        returned = set(tags_to_spans(predicted_tags, strict=strict))
        rows.append((len(expected & returned), len(returned), len(expected)))
    return np.array(rows, dtype=np.int64).reshape(-1, 3)


def check_lengths(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> None:
    """Check that both sides have the same sentences.

    Raises:
        ValueError: when the numbers of sentences differ, or those of tags in a sentence, which the message names.
    """
    if len(gold) != len(predicted):
        raise ValueError(f"{len(gold)} sentences of gold tags, {len(predicted)} of predicted ones")
    for index, (gold_tags, predicted_tags) in enumerate(zip(gold, predicted, strict=True)):
        if len(gold_tags) != len(predicted_tags):
            raise ValueError(f"sentence {index}: {len(gold_tags)} gold tags, {len(predicted_tags)} predicted ones")


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
