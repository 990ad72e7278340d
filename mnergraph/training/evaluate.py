"""Scores of a model on labelled posts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tqdm.auto import tqdm

from mnergraph.metrics.scores import Scores, score
from mnergraph.models.base import Tagger
from mnergraph.pair import Pair
from mnergraph.training.lightning_module import gold_and_predicted
from mnergraph.training.loader import GraphLoader


@torch.inference_mode()
def evaluate(
    model: Tagger, pairs: Sequence[Pair], *, batch_size: int = 32, progress: bool = True
) -> tuple[Scores, list[list[str]]]:
    """Scores of a model on labelled posts, and the tags it gives them, in the posts' order."""
    _require_labels(pairs)
    drafts = [model.builder.build(pair) for pair in pairs]
    loader = GraphLoader(drafts, batch_size, shuffle=False, finish=model.builder.load_image_tensors)
    device = next(model.parameters()).device
    predicted: dict[int, list[str]] = {}
    model.eval()
    bar = tqdm(total=len(pairs), desc="evaluating", unit="post", disable=not progress)
    with bar:
        for places, batch in zip(loader.order, loader, strict=True):
            _, tags = gold_and_predicted(model, batch.to(device))
            predicted |= dict(zip(places, tags, strict=True))
            bar.update(len(places))
    in_order = [predicted[place] for place in range(len(pairs))]
    return score([pair.labels or () for pair in pairs], in_order), in_order


def _require_labels(pairs: Sequence[Pair]) -> None:
    unlabelled = [pair.id for pair in pairs if pair.labels is None]
    if unlabelled:
        raise ValueError(f"posts without labels can't be trained on or scored: {', '.join(map(repr, unlabelled[:5]))}")
