"""What a report says above its posts: model and data, scores, errors by kind, and how certain predictions are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mnergraph.labels import Entity, Span, tags_to_spans
from mnergraph.metrics.errors import ERROR_KINDS, classify_errors
from mnergraph.models.base import Tagger
from mnergraph.pair import Pair

#: Number of bars of the histogram of probabilities, from 0 to 1.
BINS = 10


@dataclass
class Summary:
    """Counts over posts that are added one by one, also of many more than a report shows.

    Attributes:
        posts: number of posts.
        labelled: number of posts with gold labels.
        with_errors: number of labelled posts with an error.
        without_image: number of posts without an image.
        counts: by entity type the numbers of correct, predicted and gold entities of labelled posts.
        errors: by kind (`ERROR_KINDS`) the number of entities: predicted ones for ``spurious``, else gold ones.
        right: number of correct entities with a probability in each tenth from 0 to 1.
        wrong: number of wrong entities, likewise.
        unknown: number of entities of posts without gold labels, likewise.
    """

    posts: int = 0
    labelled: int = 0
    with_errors: int = 0
    without_image: int = 0
    counts: dict[str, list[int]] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ERROR_KINDS, 0))
    right: list[int] = field(default_factory=lambda: [0] * BINS)
    wrong: list[int] = field(default_factory=lambda: [0] * BINS)
    unknown: list[int] = field(default_factory=lambda: [0] * BINS)

    def add(self, pair: Pair, entities: Sequence[Entity]) -> bool:
        """Count one post with its predicted entities and return whether it has an error."""
        self.posts += 1
        self.without_image += pair.image_path is None
        if pair.labels is None:
            for entity in entities:
                self.unknown[_bin(entity.score)] += 1
            return False
        predicted = [Span(entity.start, entity.end, entity.type) for entity in entities]
        gold = tags_to_spans(pair.labels)
        gold_errors, predicted_errors = classify_errors(gold, predicted)
        self.labelled += 1
        for place, spans in ((1, predicted), (2, gold)):
            for span in spans:
                self.counts.setdefault(span.type, [0, 0, 0])[place] += 1
        for span, kind in zip(gold, gold_errors, strict=True):
            if kind == "right":
                self.counts[span.type][0] += 1
            else:
                self.errors[kind] += 1
        for entity, kind in zip(entities, predicted_errors, strict=True):
            self.errors["spurious"] += kind == "spurious"
            (self.right if kind == "right" else self.wrong)[_bin(entity.score)] += 1
        erred = any(kind != "right" for kind in (*gold_errors, *predicted_errors))
        self.with_errors += erred
        return erred

    def to_dict(self) -> dict[str, Any]:
        """Return the summary as plain JSON values.

        Returns:
            the numbers by name; ``scores`` has a row for all types and one for each, with its precision, recall and
            F1 from 0 to 1, and its number of gold entities. These are the lenient scores of `mnergraph.metrics.score`.
        """
        every = [sum(of[place] for of in self.counts.values()) for place in range(3)]
        scores = [["all", *_scores(every)], *([name, *_scores(self.counts[name])] for name in sorted(self.counts))]
        return {
            "posts": self.posts,
            "labelled": self.labelled,
            "with_errors": self.with_errors,
            "without_image": self.without_image,
            "scores": scores if self.labelled else [],
            "errors": dict(self.errors),
            "confidence": {"right": self.right, "wrong": self.wrong, "unknown": self.unknown},
        }


def _bin(score: float) -> int:
    return min(BINS - 1, max(0, int(score * BINS)))


def _scores(counts: Sequence[int]) -> tuple[float, float, float, int]:
    correct, predicted, gold = counts
    precision = correct / predicted if predicted else 0.0
    recall = correct / gold if gold else 0.0
    f1 = 2 * correct / (predicted + gold) if predicted + gold else 0.0
    return round(precision, 6), round(recall, 6), round(f1, 6), gold


def summarize(pairs: Iterable[Pair], entities: Iterable[Sequence[Entity]]) -> Summary:
    """Return the summary of posts with their predicted entities."""
    summary = Summary()
    for pair, predicted in zip(pairs, entities, strict=True):
        summary.add(pair, predicted)
    return summary


def model_facts(model: Tagger) -> list[tuple[str, str]]:
    """Return names and values of what a report says of a model: class, encoder, training data, size, versions."""
    data = model.metadata.get("data") or {}
    trained = str(data.get("name") or data.get("class") or "") if isinstance(data, dict) else str(data)
    name = getattr(model.encoder, "name", None) or type(model.encoder).__name__
    weights = sum(parameter.numel() for parameter in model.parameters())
    facts = [
        ("model", type(model).__name__),
        ("text encoder", Path(str(name)).name),
        ("trained on", trained),
        ("parameters", f"{weights / 1e6:.2f} million"),
        ("made with", f"mnergraph {version('mnergraph')}"),
    ]
    return [(fact, value) for fact, value in facts if value]
