"""Scores of a model on labelled posts: from one pass over them its tags, entities and all that is counted of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch_geometric.data import HeteroData
from tqdm.auto import tqdm

from mnergraph.labels import Entity
from mnergraph.metrics.calibration import Calibration, calibrate, entity_outcomes
from mnergraph.metrics.errors import ErrorCounts, count_errors
from mnergraph.metrics.grounding import Convention, GroundingScores, score_grounding
from mnergraph.metrics.schemes import SchemeScores, score_schemes
from mnergraph.metrics.scores import Scores, score
from mnergraph.models.base import Tagger
from mnergraph.models.batch_config import BatchConfig
from mnergraph.models.batches import Result, run_in_batches
from mnergraph.nn.heads.grounding import grounded
from mnergraph.nn.heads.tagging import SpecialTags
from mnergraph.nn.state import GraphState
from mnergraph.pair import GroundedEntity, Pair
from mnergraph.quoting import listed
from mnergraph.training.label_sets import build_for_scoring
from mnergraph.training.lightning_module import from_all_devices
from mnergraph.training.loader import rank_and_world

#: Gives entities of posts their boxes.
Ground = Callable[[Sequence[Pair], Sequence[Sequence[Entity]]], Sequence[Sequence[Entity]]]


@dataclass(frozen=True)
class Evaluation:
    """What a model predicts of labelled posts, and all scores of it.

    Attributes:
        scores: lenient and strict scores, and those of further heads.
        schemes: scores of partial matches.
        errors: numbers of entities by kind of error.
        calibration: how well the entities' probabilities agree with the share that is right.
        tags: predicted tags of every post, in the posts' order.
        entities: predicted entities of every post, each with its probability.
        grounding: scores of the entities' boxes, where they are grounded.
    """

    scores: Scores
    schemes: SchemeScores
    errors: ErrorCounts
    calibration: Calibration
    tags: list[list[str]]
    entities: list[list[Entity]]
    grounding: GroundingScores | None = None

    def table(self) -> str:
        """Return all scores as Markdown tables with headings."""
        parts = [
            self.scores.table(),
            f"Partial matches (MUC-5, SemEval-2013 task 9.1)\n\n{self.schemes.table()}",
            f"Gold entities by kind of error\n\n{self.errors.table()}",
            f"Calibration of probabilities\n\n{self.calibration.table()}",
        ]
        if self.grounding is not None:
            parts.append(f"Entities with their boxes\n\n{self.grounding.table()}")
        return "\n\n".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Return all scores as plain JSON data, without tags and entities."""
        grounding = {} if self.grounding is None else {"grounding": self.grounding.to_dict()}
        return {
            "scores": self.scores.to_dict(),
            "schemes": self.schemes.to_dict(),
            "errors": self.errors.to_dict(),
            "calibration": self.calibration.to_dict(),
            **grounding,
        }


def evaluate(
    model: Tagger,
    pairs: Sequence[Pair],
    *,
    batching: BatchConfig = BatchConfig(),
    special_tags: SpecialTags = "outside",
    progress: bool = True,
) -> tuple[Scores, list[list[str]]]:
    """Return the scores of a model on labelled posts, and the tags that it predicts, in the posts' order.

    In the processes of several devices each predicts its share of the posts, and all return the whole. Entities of
    types that the model does not have count as missed. `evaluate_in_detail` gives probabilities and more scores.

    Args:
        model: the model.
        pairs: the posts.
        batching: how posts are taken into batches, and the precision.
        special_tags: what an X that is predicted for a word counts as: ``"outside"``, or ``"entities"``, wrong ones,
            as the scorers of UMT's and MGCMT's released code count it; see `TaggingHead.decode_tags`.
        progress: whether to show a progress bar.

    Raises:
        ValueError: for posts without labels.
    """
    scores, tags, _ = _evaluate(model, pairs, batching, special_tags, progress, with_entities=False)
    return scores, tags


def evaluate_in_detail(
    model: Tagger,
    pairs: Sequence[Pair],
    *,
    ground: Ground | None = None,
    convention: Convention = "positions",
    boxes: bool = True,
    batching: BatchConfig = BatchConfig(),
    special_tags: SpecialTags = "outside",
    progress: bool = True,
) -> Evaluation:
    """Return all scores of a model on labelled posts, from one pass over them.

    Args:
        model: the model.
        pairs: the posts.
        ground: grounds the entities of posts in a second step, such as `EVG.ground`.
        convention: what counts as a right box, see `score_grounding`.
        boxes: whether boxes are scored where ``ground`` or the model itself grounds entities.
        batching: how posts are taken into batches, and the precision.
        special_tags: as in `evaluate`. An X has no probability and plays no part in the calibration.
        progress: whether to show a progress bar.

    Raises:
        ValueError: for posts without labels, or without gold boxes where boxes are scored.
    """
    boxes = boxes and (ground is not None or model.grounding_head is not None)
    if boxes:
        _require_gold_boxes(pairs)
    scores, tags, entities = _evaluate(model, pairs, batching, special_tags, progress, with_entities=True)
    if ground is not None:
        entities = [list(post) for post in ground(pairs, entities)]
    gold = [pair.labels or () for pair in pairs]
    return Evaluation(
        scores,
        schemes=score_schemes(gold, tags),
        errors=count_errors(gold, tags),
        calibration=calibrate(*entity_outcomes(gold, entities)),
        tags=tags,
        entities=entities,
        grounding=_score_boxes(pairs, entities, convention)[0] if boxes else None,
    )


def _evaluate(
    model: Tagger,
    pairs: Sequence[Pair],
    batching: BatchConfig,
    special_tags: SpecialTags,
    progress: bool,
    *,
    with_entities: bool,
) -> tuple[Scores, list[list[str]], list[list[Entity]]]:
    """Return the scores, the tags of every post, and its entities, which are decoded if asked for."""
    _require_labels(pairs)
    heads: list[dict[str, list[tuple[Any, Any]]]] = []

    def decode(graph: GraphState, posts: Sequence[Pair]) -> list[tuple[list[str], list[Entity]]]:
        heads.append(model.decode_with_gold(graph))
        tags = model.decode_tags(graph, special_tags=special_tags)
        entities: list[list[Entity]] = model.decode_entities(graph) if with_entities else [[]] * len(tags)
        return list(zip(tags, entities, strict=True))

    rank, world = rank_and_world()
    own = _in_batches(model, pairs[rank::world], decode, batching, "evaluating", progress)
    in_order: list[tuple[list[str], list[Entity]]] = [([], [])] * len(pairs)
    for of_rank, found in enumerate(from_all_devices([own])):
        in_order[of_rank::world] = found
    tags, entities = [post_tags for post_tags, _ in in_order], [post_entities for _, post_entities in in_order]
    scores = score([pair.labels or () for pair in pairs], tags)
    return replace(scores, heads=model.head_metrics(from_all_devices(heads))), tags, entities


def evaluate_grounding(
    model: Tagger,
    pairs: Sequence[Pair],
    *,
    ground: Ground | None = None,
    convention: Convention = "positions",
    batching: BatchConfig = BatchConfig(),
    progress: bool = True,
) -> tuple[GroundingScores, list[list[GroundedEntity]]]:
    """Return the scores of grounded entities on posts with gold boxes, and the entities that are predicted.

    Args:
        model: a model that grounds its entities, or any with ``ground``.
        pairs: the posts.
        ground: grounds the entities of posts in a second step, such as `EVG.ground`.
        convention: what counts as right, see `score_grounding`.
        batching: how posts are taken into batches, and the precision.
        progress: whether to show a progress bar.

    Raises:
        ValueError: for posts without gold boxes, or a model that grounds no entities without ``ground``.
    """
    _require_gold_boxes(pairs)
    if model.grounding_head is None and ground is None:
        raise ValueError(f"{type(model).__name__} grounds no entities: train it with grounding, or give a grounder")

    def decode(graph: GraphState, posts: Sequence[Pair]) -> list[list[Entity]]:
        return model.decode_entities(graph)

    found: Sequence[Sequence[Entity]] = _in_batches(model, pairs, decode, batching, "grounding", progress)
    return _score_boxes(pairs, found if ground is None else ground(pairs, found), convention)


def _score_boxes(
    pairs: Sequence[Pair], found: Sequence[Sequence[Entity]], convention: Convention
) -> tuple[GroundingScores, list[list[GroundedEntity]]]:
    predicted = [[grounded(entity) for entity in post] for post in found]
    scores = score_grounding(
        [pair.grounding or () for pair in pairs],
        predicted,
        convention=convention,
        words=[pair.words for pair in pairs],
        proposals=[[item.box for item in pair.objects if item.box is not None] for pair in pairs],
    )
    return scores, predicted


def _in_batches(
    model: Tagger,
    pairs: Sequence[Pair],
    decode: Callable[[GraphState, Sequence[Pair]], Sequence[Result]],
    batching: BatchConfig,
    task: str,
    progress: bool,
) -> list[Result]:
    """Return what is decoded of every post, with a progress bar."""

    def build(pair: Pair) -> HeteroData:
        return model.builder.load_image_tensors(build_for_scoring(model, pair))

    with tqdm(total=len(pairs), desc=task, unit="post", disable=not progress) as bar:
        return run_in_batches(model, pairs, decode, config=batching, build=build, progress=bar.update)


def _require_gold_boxes(pairs: Sequence[Pair]) -> None:
    if unknown := [pair.id for pair in pairs if pair.grounding is None]:
        raise ValueError(
            f"posts without gold boxes can't be scored: {listed(unknown)}; put boxes.jsonl beside the text"
        )


def _require_labels(pairs: Sequence[Pair]) -> None:
    unlabelled = [pair.id for pair in pairs if pair.labels is None]
    if unlabelled:
        raise ValueError(f"posts without labels can't be trained on or scored: {listed(unlabelled)}")
