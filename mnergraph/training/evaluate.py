"""Scores of a model on labelled posts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch_geometric.data import Batch, HeteroData
from tqdm.auto import tqdm

from mnergraph.metrics.scores import Scores, score
from mnergraph.models.base import Tagger
from mnergraph.models.batch_config import BatchConfig
from mnergraph.models.batches import run_in_batches
from mnergraph.nn.heads.tagging import SpecialTags
from mnergraph.pair import Pair
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


def _require_labels(pairs: Sequence[Pair]) -> None:
    unlabelled = [pair.id for pair in pairs if pair.labels is None]
    if unlabelled:
        raise ValueError(f"posts without labels can't be trained on or scored: {listed(unlabelled)}")
