"""Scores of partial matches: the four schemes of MUC-5 and SemEval-2013 task 9.1, by nervaluate.

Every scheme pairs predicted entities with gold ones and counts correct (COR), incorrect (INC), partial (PAR), missed
(MIS) and spurious (SPU) ones:

- ``strict``: words and type are the same, else INC;
- ``exact``: the words are the same, whatever the type, else INC;
- ``partial``: the words are the same, or some of them, which is PAR; whatever the type;
- ``type``: some words and the type are the same; of another type it is INC.

An entity that shares no word with one of the other side is missed or spurious under all of them.

    precision = (COR + PAR / 2) / (COR + INC + PAR + SPU),  recall = (COR + PAR / 2) / (COR + INC + PAR + MIS)

Sources: Chinchor and Sundheim, MUC-5 Evaluation Metrics, 1993; Segura-Bedmar et al., SemEval 2013, section 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mnergraph.labels import Span, tags_to_spans
from mnergraph.metrics.scores import check_lengths

#: The schemes by name, with the name that nervaluate has for each.
SCHEMES = {"strict": "strict", "exact": "exact", "partial": "partial", "type": "ent_type"}


@dataclass(frozen=True)
class SchemeScore:
    """Entities by what they count as under one scheme."""

    correct: int = 0
    incorrect: int = 0
    partial: int = 0
    missed: int = 0
    spurious: int = 0

    @property
    def precision(self) -> float:
        """Correct and half of the partial ones, as a share of the predicted entities, 0 to 1."""
        return self._share(self.spurious)

    @property
    def recall(self) -> float:
        """Correct and half of the partial ones, as a share of the gold entities, 0 to 1."""
        return self._share(self.missed)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall, 0 to 1."""
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0

    def _share(self, alone: int) -> float:
        of = self.correct + self.incorrect + self.partial + alone
        return (self.correct + self.partial / 2) / of if of else 0.0

    def to_dict(self) -> dict[str, float]:
        """Return counts and scores as plain JSON data."""
        return {**asdict(self), "precision": self.precision, "recall": self.recall, "f1": self.f1}


@dataclass(frozen=True)
class SchemeScores:
    """Scores under each of `SCHEMES`, by the scheme's name.

    Attributes:
        all: of all entities.
        by_type: of the entities of one type alone, gold and predicted ones; one that has another type on the other
            side is missed or spurious there.
    """

    all: dict[str, SchemeScore]
    by_type: dict[str, dict[str, SchemeScore]]

    def table(self) -> str:
        """Return counts and scores of all entities, and F1 of each type, as Markdown tables; scores in percent."""
        lines = ["| scheme | P | R | F1 | COR | INC | PAR | MIS | SPU |", "|---|--:|--:|--:|--:|--:|--:|--:|--:|"]
        for name, it in self.all.items():
            scores = f"{100 * it.precision:.2f} | {100 * it.recall:.2f} | {100 * it.f1:.2f}"
            counts = f"{it.correct} | {it.incorrect} | {it.partial} | {it.missed} | {it.spurious}"
            lines.append(f"| {name} | {scores} | {counts} |")
        if self.by_type:
            lines += ["", f"| F1 of type | {' | '.join(SCHEMES)} |", f"|---|{'--:|' * len(SCHEMES)}"]
        for entity_type, scheme_scores in self.by_type.items():
            cells = " | ".join(f"{100 * scheme_scores[name].f1:.2f}" for name in SCHEMES)
            lines.append(f"| {entity_type} | {cells} |")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return counts and scores as plain JSON data."""
        return {
            "all": {name: score.to_dict() for name, score in self.all.items()},
            "by_type": {
                entity_type: {name: score.to_dict() for name, score in scores.items()}
                for entity_type, scores in self.by_type.items()
            },
        }


def score_schemes(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> SchemeScores:
    """Return the scores of predicted tags against gold tags under every scheme.

    An ``I-T`` that continues no entity opens one, as in lenient scores.

    Args:
        gold: BIO2 tags of every sentence.
        predicted: the tags that a model predicts.

    Raises:
        ValueError: when the numbers of sentences differ, or those of tags in a sentence, which the message names.
    """
    check_lengths(gold, predicted)
    sides = [[tags_to_spans(tags) for tags in side] for side in (gold, predicted)]
    types = sorted({span.type for side in sides for spans in side for span in spans})
    if not types:
        return SchemeScores({name: SchemeScore() for name in SCHEMES}, {})
    from nervaluate.evaluator import Evaluator

    true, pred = ([[_as_dict(span) for span in spans] for spans in side] for side in sides)
    found = Evaluator(true, pred, tags=types, loader="dict").evaluate()
    return SchemeScores(
        _of_each_scheme(found["overall"]), {name: _of_each_scheme(found["entities"][name]) for name in types}
    )


def _as_dict(span: Span) -> dict[str, Any]:
    """Return a span as nervaluate reads it, with the last word included."""
    return {"label": span.type, "start": span.start, "end": span.end - 1}


def _of_each_scheme(results: dict[str, Any]) -> dict[str, SchemeScore]:
    return {
        name: SchemeScore(it.correct, it.incorrect, it.partial, it.missed, it.spurious)
        for name, it in ((name, results[theirs]) for name, theirs in SCHEMES.items())
    }
