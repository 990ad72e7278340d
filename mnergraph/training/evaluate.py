"""Scores of a model on labelled posts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch_geometric.data import Batch, HeteroData
from tqdm.auto import tqdm

from mnergraph.labels import Entity
from mnergraph.metrics.grounding import Convention, GroundingScores, score_grounding
from mnergraph.metrics.scores import Scores, score
from mnergraph.models.base import Tagger
from mnergraph.models.batch_config import BatchConfig
from mnergraph.models.batches import run_in_batches
from mnergraph.nn.heads.grounding import grounded
from mnergraph.nn.heads.tagging import SpecialTags
from mnergraph.pair import GroundedEntity, Pair
from mnergraph.quoting import listed
from mnergraph.training.label_sets import build_for_scoring
from mnergraph.training.lightning_module import decode_batch, from_all_devices
from mnergraph.training.loader import rank_and_world


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
    types that the model does not have count as missed.

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
    _require_labels(pairs)
    heads: list[dict[str, list[tuple[Any, Any]]]] = []

    def build(pair: Pair) -> HeteroData:
        return model.builder.load_image_tensors(build_for_scoring(model, pair))

    def decode(batch: Batch, posts: Sequence[Pair]) -> list[list[str]]:
        decoded = decode_batch(model, batch, special_tags=special_tags)
        heads.append(decoded.heads)
        return decoded.tags

    rank, world = rank_and_world()
    with tqdm(total=len(pairs[rank::world]), desc="evaluating", unit="post", disable=not progress) as bar:
        own = run_in_batches(model, pairs[rank::world], decode, config=batching, build=build, progress=bar.update)
    in_order: list[list[str]] = [[]] * len(pairs)
    for of_rank, tags in enumerate(from_all_devices([own])):
        in_order[of_rank::world] = tags
    heads = from_all_devices(heads)
    scores = score([pair.labels or () for pair in pairs], in_order)
    return replace(scores, heads=model.head_metrics(heads)), in_order


def evaluate_grounding(
    model: Tagger,
    pairs: Sequence[Pair],
    *,
    ground: Callable[[Sequence[Pair], Sequence[Sequence[Entity]]], Sequence[Sequence[Entity]]] | None = None,
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
    if unknown := [pair.id for pair in pairs if pair.grounding is None]:
        raise ValueError(
            f"posts without gold boxes can't be scored: {listed(unknown)}; put boxes.jsonl beside the text"
        )
    if model.grounding_head is None and ground is None:
        raise ValueError(f"{type(model).__name__} grounds no entities: train it with grounding, or give a grounder")

    def decode(batch: Batch, posts: Sequence[Pair]) -> list[list[Entity]]:
        return model.decode_entities(model(batch))

    def build(pair: Pair) -> HeteroData:
        return model.builder.load_image_tensors(build_for_scoring(model, pair))

    with tqdm(total=len(pairs), desc="grounding", unit="post", disable=not progress) as bar:
        found: Sequence[Sequence[Entity]]
        found = run_in_batches(model, pairs, decode, config=batching, build=build, progress=bar.update)
    if ground is not None:
        found = ground(pairs, found)
    predicted = [[grounded(entity) for entity in post] for post in found]
    scores = score_grounding(
        [pair.grounding or () for pair in pairs],
        predicted,
        convention=convention,
        words=[pair.words for pair in pairs],
        proposals=[[item.box for item in pair.objects if item.box is not None] for pair in pairs],
    )
    return scores, predicted


def _require_labels(pairs: Sequence[Pair]) -> None:
    unlabelled = [pair.id for pair in pairs if pair.labels is None]
    if unlabelled:
        raise ValueError(f"posts without labels can't be trained on or scored: {listed(unlabelled)}")
