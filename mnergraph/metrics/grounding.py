"""Precision, recall and F1 of grounded entities: span, type, and where the entity is in the image (GMNER, MNER, EEG).

- GMNER: span, type and region are right; MNER: span and type; EEG: span and region.
- A region is right if the entity has no box and none is predicted, or if the predicted box has an IoU of at least 0.5
  with any box of the entity, in pixels. Proposals play no part: a gold box that no proposal covers stays a gold box.

"GMNER F1" is not one metric: released scorers differ in what makes two entities the same, in the threshold, and in how
gold boxes without a proposal count. `score_grounding` takes the conventions of H-Index and E2E-GMNER by name.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
from scipy.optimize import linear_sum_assignment

from mnergraph.metrics.scores import Score
from mnergraph.pair import Box, GroundedEntity

#: The metrics, in the order of `grounding_counts`.
METRICS = ("GMNER", "MNER", "EEG")
#: What counts as the same entity, and from which IoU on a box is right; see `score_grounding`.
Convention = Literal["positions", "h-index", "e2e-gmner"]


@dataclass(frozen=True)
class GroundingScores:
    """Scores of grounded entities, micro-averaged.

    Attributes:
        gmner: of span, type and region.
        mner: of span and type.
        eeg: of span and region.
        gmner_by_type: GMNER of each type.
        gmner_grounded: GMNER of the entities that have a box, and of the predictions that have one.
        gmner_ungrounded: GMNER of those that have none.
        groundability: of the entities whose span and type are right, the share for which it is right whether they
            have a box; 0 to 1.
        localization: of the entities with a box whose span and type are right, the share whose box is right.
        ceiling: the share of entities that can be right with the proposals given, see `proposal_ceiling`; None without.
    """

    gmner: Score
    mner: Score
    eeg: Score
    gmner_by_type: dict[str, Score]
    gmner_grounded: Score
    gmner_ungrounded: Score
    groundability: float
    localization: float
    ceiling: float | None = None

    def table(self) -> str:
        """Return the scores as a Markdown table, in percent."""
        rows = [("GMNER", self.gmner), ("MNER", self.mner), ("EEG", self.eeg)]
        rows += [(f"GMNER, {entity_type}", score) for entity_type, score in sorted(self.gmner_by_type.items())]
        rows += [("GMNER, in the image", self.gmner_grounded), ("GMNER, not in the image", self.gmner_ungrounded)]
        lines = ["| metric | P | R | F1 | gold |", "|---|--:|--:|--:|--:|"]
        for name, score in rows:
            lines.append(
                f"| {name} | {100 * score.precision:.2f} | {100 * score.recall:.2f} | {100 * score.f1:.2f} "
                f"| {score.gold} |"
            )
        ceiling = "" if self.ceiling is None else f"; with these proposals {100 * self.ceiling:.2f} can be right"
        lines += [
            "",
            f"groundability {100 * self.groundability:.2f}, localization {100 * self.localization:.2f}{ceiling}",
        ]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return the scores as plain JSON data."""
        return asdict(self)


Entities = Sequence[Sequence[GroundedEntity]]


def score_grounding(
    gold: Entities,
    predicted: Entities,
    *,
    convention: Convention = "positions",
    words: Sequence[Sequence[str]] | None = None,
    proposals: Sequence[Sequence[Box]] | None = None,
) -> GroundingScores:
    """Return the scores of predicted grounded entities against gold ones.

    Each gold entity is matched by at most one prediction, and each prediction with at most one gold entity.

    Args:
        gold: the entities of every post, with all boxes of each.
        predicted: those that are predicted, each with one box or none.
        convention: ``"positions"``: entities are the same by their word positions, and a box is right from an IoU of
            0.5 on. ``"h-index"``: as H-Index's release (Yu et al., 2023): by word positions, and above 0.5; there a
            prediction is a proposal, and an entity that no proposal covers is always wrong, as it is here.
            ``"e2e-gmner"``: as E2E-GMNER's release: by the words' text, with upper and lower case, and from 0.5 on.
        words: of every post, which ``"e2e-gmner"`` needs.
        proposals: the boxes among which the predicted ones were chosen, for the ceiling.

    Raises:
        ValueError: for another number of posts than of gold ones, a prediction with several boxes, a convention that
            is not there, or one whose words are missing.
    """
    counted = _Counted.of(gold, predicted, convention, words)
    types = sorted({entity.type for posts in (gold, predicted) for post in posts for entity in post})
    by_type = {name: _score(counted.select(lambda entity: entity.type, name)[:, 0].sum(0)) for name in types}
    gmner, mner, eeg = map(_score, counted.select().sum(0))
    grounded, ungrounded = (
        _score(counted.select(lambda entity: bool(entity.boxes), has)[:, 0].sum(0)) for has in (True, False)
    )
    typed = [(entity, other) for post in counted.same for entity, other in post]
    decided = [bool(entity.boxes) == bool(other.boxes) for entity, other in typed]
    located = [counted.region_right(entity, other) for entity, other in typed if entity.boxes]
    return GroundingScores(
        gmner,
        mner,
        eeg,
        gmner_by_type=by_type,
        gmner_grounded=grounded,
        gmner_ungrounded=ungrounded,
        groundability=sum(decided) / len(decided) if decided else 0.0,
        localization=sum(located) / len(located) if located else 0.0,
        ceiling=None if proposals is None else proposal_ceiling(gold, proposals),
    )


def grounding_counts(
    gold: Entities,
    predicted: Entities,
    *,
    convention: Convention = "positions",
    words: Sequence[Sequence[str]] | None = None,
) -> np.ndarray:
    """Return the numbers of correct, predicted and gold entities of every post and metric, ``[posts, 3, 3]``.

    Metrics are in the order of `METRICS`; `mnergraph.metrics.significance` resamples the rows of one of them. For
    arguments and errors see `score_grounding`.
    """
    return _Counted.of(gold, predicted, convention, words).select()


def proposal_ceiling(gold: Entities, proposals: Sequence[Sequence[Box]]) -> float:
    """Return the share of entities that a choice among proposals can ground rightly, 0 to 1; 1 without entities.

    These are the entities without a box, and those with a box that a proposal covers, with an IoU of at least 0.5.

    Args:
        gold: the entities of every post.
        proposals: the boxes of every post.

    Raises:
        ValueError: for another number of posts.
    """
    if len(gold) != len(proposals):
        raise ValueError(f"{len(gold)} posts with entities, {len(proposals)} with proposals")
    reachable = [
        not entity.boxes or _best_iou(entity.boxes, boxes) >= 0.5
        for post, boxes in zip(gold, proposals, strict=True)
        for entity in post
    ]
    return sum(reachable) / len(reachable) if reachable else 1.0


def _best_iou(boxes: Sequence[Box], others: Sequence[Box]) -> float:
    """Return the largest IoU of a box of each, 0 to 1; 0 where there is none."""
    import torch
    from torchvision.ops import box_iou  # a second to import

    if not boxes or not others:
        return 0.0
    return float(box_iou(*(torch.tensor(each, dtype=torch.float64) for each in (boxes, others))).max())


class _Counted:
    """Gold and predicted entities, and which of them are matched by each metric.

    Attributes:
        same: by post the pairs of gold and predicted entities whose span and type are the same; of those with the same
            words, the pairs whose region is right come first.
    """

    def __init__(self, gold: Entities, predicted: Entities, region_right: Callable[..., bool]) -> None:
        self.gold, self.predicted, self.region_right = gold, predicted, region_right
        self.matched: list[list[list[tuple[GroundedEntity, GroundedEntity]]]] = []
        self.same: list[list[tuple[GroundedEntity, GroundedEntity]]] = []

    @classmethod
    def of(
        cls, gold: Entities, predicted: Entities, convention: Convention, words: Sequence[Sequence[str]] | None
    ) -> _Counted:
        if convention not in get_args(Convention):
            raise ValueError(f"convention {convention!r} is not among {', '.join(get_args(Convention))}")
        if len(gold) != len(predicted):
            raise ValueError(f"{len(gold)} posts with gold entities, {len(predicted)} with predicted ones")
        for post in predicted:
            for entity in post:
                if len(entity.boxes) > 1:
                    raise ValueError(
                        f"{len(entity.boxes)} boxes are predicted for span {entity.start}:{entity.end}, not one"
                    )
        if convention == "e2e-gmner" and (words is None or len(words) != len(gold)):
            raise ValueError("e2e-gmner compares the words of entities: give those of every post")

        def region_right(entity: GroundedEntity, other: GroundedEntity) -> bool:
            if not entity.boxes or not other.boxes:
                return not entity.boxes and not other.boxes
            best = _best_iou(entity.boxes, other.boxes)
            return best > 0.5 if convention == "h-index" else best >= 0.5

        counted = cls(gold, predicted, region_right)
        for number, (post, others) in enumerate(zip(gold, predicted, strict=True)):

            def span(entity: GroundedEntity, number: int = number) -> Hashable:
                if convention == "e2e-gmner" and words is not None:
                    return " ".join(words[number][entity.start : entity.end])
                return entity.start, entity.end

            def typed(entity: GroundedEntity, span: Callable[..., Hashable] = span) -> Hashable:
                return span(entity), entity.type

            gmner = _match(post, others, typed, region_right)
            mner = _match(post, others, typed, lambda entity, other: True)
            eeg = _match(post, others, span, region_right)
            counted.matched.append([[(post[g], others[p]) for g, p in pairs] for pairs in (gmner, mner, eeg)])
            left = [post[g] for g in range(len(post)) if g not in {g for g, _ in gmner}]
            free = [others[p] for p in range(len(others)) if p not in {p for _, p in gmner}]
            rest = _match(left, free, typed, lambda entity, other: True)
            counted.same.append([*counted.matched[-1][0], *((left[g], free[p]) for g, p in rest)])
        return counted

    def select(
        self, of: Callable[[GroundedEntity], Hashable] = lambda entity: None, value: Hashable = None
    ) -> np.ndarray:
        """Return the counts of the entities of which a function returns a value, ``[posts, metrics, 3]``."""

        def which(entity: GroundedEntity) -> bool:
            return of(entity) == value

        counts = np.zeros((len(self.gold), len(METRICS), 3), dtype=np.int64)
        for number, matched in enumerate(self.matched):
            counts[number, :, 1] = sum(map(which, self.predicted[number]))
            counts[number, :, 2] = sum(map(which, self.gold[number]))
            counts[number, :, 0] = [sum(which(entity) for entity, _ in pairs) for pairs in matched]
        return counts


def _match(
    gold: Sequence[GroundedEntity],
    predicted: Sequence[GroundedEntity],
    key: Callable[[GroundedEntity], Hashable],
    fits: Callable[[GroundedEntity, GroundedEntity], bool],
) -> list[tuple[int, int]]:
    """Return as many pairs of entities with one key that fit as there can be, each in one pair at most, by indices."""
    pairs = []
    for value in dict.fromkeys(map(key, gold)):
        ours = [index for index, entity in enumerate(gold) if key(entity) == value]
        theirs = [index for index, entity in enumerate(predicted) if key(entity) == value]
        right = np.array([[fits(gold[g], predicted[p]) for p in theirs] for g in ours], dtype=float)
        if right.size:
            rows, columns = linear_sum_assignment(right, maximize=True)
            pairs += [(ours[r], theirs[c]) for r, c in zip(rows, columns, strict=True) if right[r, c]]
    return pairs


def _score(counts: np.ndarray) -> Score:
    right, predicted, gold = map(int, counts)
    precision, recall = right / predicted if predicted else 0.0, right / gold if gold else 0.0
    return Score(precision, recall, 2 * right / (predicted + gold) if predicted + gold else 0.0, gold)
