"""Counts of grounded entities: how many are in their image, and how many of these a region proposal covers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mnergraph.metrics.grounding import proposal_ceiling
from mnergraph.pair import Box, GroundedEntity, Pair


@dataclass(frozen=True)
class GroundingCounts:
    """Counts of the entities of posts with ``grounding``, and of the posts' proposals, their objects with boxes.

    Args:
        entities: all entities.
        groundable: those with a gold box.
        several_boxes: those with more than one.
        boxes: gold boxes; mentions of the same words share theirs, which are counted once.
        posts_with_box: posts with a groundable entity.
        proposals: proposals of all posts.
        uncovered: groundable entities that no proposal covers with an IoU of 0.5: no choice among these is right.
        distractors: proposals that cover no gold box with an IoU of 0.5.
        ceiling: the share of entities that can be right with these proposals, see `proposal_ceiling`; 0 to 1.
    """

    entities: int
    groundable: int
    several_boxes: int
    boxes: int
    posts_with_box: int
    proposals: int
    uncovered: int
    distractors: int
    ceiling: float


def proposals_of(pair: Pair) -> tuple[Box, ...]:
    """Return the boxes of a post's objects."""
    return tuple(item.box for item in pair.objects if item.box is not None)


def count_grounding(pairs: Iterable[Pair]) -> GroundingCounts:
    """Return the counts of the posts that have ``grounding``."""
    posts = [pair for pair in pairs if pair.grounding is not None]
    gold = [pair.grounding or () for pair in posts]
    proposals = [proposals_of(pair) for pair in posts]
    entities = sum(map(len, gold))
    grounded = [entity for post in gold for entity in post if entity.boxes]
    ceiling = proposal_ceiling(gold, proposals)
    boxes = [
        {(_words(pair, entity), number, box) for entity in post for number, box in enumerate(entity.boxes)}
        for pair, post in zip(posts, gold, strict=True)
    ]
    return GroundingCounts(
        entities=entities,
        groundable=len(grounded),
        several_boxes=sum(len(entity.boxes) > 1 for entity in grounded),
        boxes=sum(map(len, boxes)),
        posts_with_box=sum(map(bool, boxes)),
        proposals=sum(map(len, proposals)),
        uncovered=round((1 - ceiling) * entities),
        distractors=sum(
            _covering_none(given, [box for *_, box in own]) for given, own in zip(proposals, boxes, strict=True)
        ),
        ceiling=ceiling,
    )


def _words(pair: Pair, entity: GroundedEntity) -> tuple[str, ...]:
    return pair.words[entity.start : entity.end]


def _covering_none(proposals: tuple[Box, ...], gold: list[Box]) -> int:
    """Return the number of proposals whose IoU with every gold box is under 0.5."""
    import torch
    from torchvision.ops import box_iou  # a second to import

    if not proposals or not gold:
        return len(proposals)
    overlap = box_iou(torch.tensor(proposals, dtype=torch.float64), torch.tensor(gold, dtype=torch.float64))
    return int((overlap.amax(1) < 0.5).sum())
