"""Scores of a model on labelled posts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from tqdm.auto import tqdm

from mnergraph.metrics.scores import Scores, score
from mnergraph.models.base import Tagger
from mnergraph.nn.heads.tagging import SpecialTags
from mnergraph.pair import Pair
from mnergraph.quoting import listed
from mnergraph.training.label_sets import build_for_scoring
from mnergraph.training.lightning_module import decode_batch, from_all_devices
from mnergraph.training.loader import GraphLoader


@torch.inference_mode()
def evaluate(
    model: Tagger,
    pairs: Sequence[Pair],
    *,
    batch_size: int = 32,
    special_tags: SpecialTags = "outside",
    progress: bool = True,
) -> tuple[Scores, list[list[str]]]:
    """Return the scores of a model on labelled posts, and the tags that it predicts, in the posts' order.

    In the processes of several devices each predicts its share of the posts, and all return the whole. Entities of
    types that the model does not have count as missed.

    Args:
        model: the model.
        pairs: the posts.
        batch_size: posts at once.
        special_tags: what an X that is predicted for a word counts as: ``"outside"``, or ``"entities"``, wrong ones,
            as the scorers of UMT's and MGCMT's released code count it; see `TaggingHead.decode_tags`.
        progress: whether to show a progress bar.

    Raises:
        ValueError: for posts without labels.
    """
    _require_labels(pairs)
    drafts = [build_for_scoring(model, pair) for pair in pairs]
    loader = GraphLoader(drafts, batch_size, shuffle=False, finish=model.builder.load_image_tensors)
    device = next(model.parameters()).device
    predicted: dict[int, list[str]] = {}
    heads: list[dict[str, list[tuple[Any, Any]]]] = []
    model.eval()
    bar = tqdm(total=len(pairs), desc="evaluating", unit="post", disable=not progress)
    with bar:
        for places, batch in zip(loader.order, loader, strict=True):
            decoded = decode_batch(model, batch.to(device), special_tags=special_tags)
            heads.append(decoded.heads)
            predicted |= dict(zip(places, decoded.tags, strict=True))
            bar.update(len(places))
    # with several devices each has its share of the posts
    predicted = {place: tags for share in from_all_devices([predicted]) for place, tags in share.items()}
    heads = from_all_devices(heads)
    in_order = [predicted[place] for place in range(len(pairs))]
    scores = score([pair.labels or () for pair in pairs], in_order)
    return replace(scores, heads=model.head_metrics(heads)), in_order


def _require_labels(pairs: Sequence[Pair]) -> None:
    unlabelled = [pair.id for pair in pairs if pair.labels is None]
    if unlabelled:
        raise ValueError(f"posts without labels can't be trained on or scored: {listed(unlabelled)}")
