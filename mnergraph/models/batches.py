"""Many posts through a model: in batches of a number of pieces, whose graphs are built while the model computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeVar

import torch
from torch_geometric.data import Batch, HeteroData

from mnergraph.graph.batching import build_batches
from mnergraph.models.batch_config import BatchConfig, Precision
from mnergraph.nn.modes import evaluation_mode
from mnergraph.pair import Pair

if TYPE_CHECKING:
    from mnergraph.models.base import Tagger

#: Errors that one post's words or evidence can cause.
OF_ONE_POST = (ValueError, TypeError, UnicodeError, LookupError, RuntimeError)

Result = TypeVar("Result")


def resolve_precision(precision: Precision, device: torch.device) -> Literal["fp32", "bf16"]:
    """Return the precision in which a device computes; ``"auto"`` is bf16 where it is the faster one."""
    if precision != "auto":
        return precision
    return "bf16" if _has_bf16(device) else "fp32"


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # AVX-512 BF16 alone takes twice the time of fp32 on a Sapphire Rapids without AMX; of others torch does not say
    return device.type == "cpu" and torch.cpu._is_amx_tile_supported()


@contextmanager
def inference(model: Tagger, precision: Precision = "fp32") -> Iterator[torch.device]:
    """Within it a model is in evaluation mode, without gradients, in this precision; yields its device.

    Weights are cast once within it, not once a batch.

    Args:
        model: the model.
        precision: see `BatchConfig`.
    """
    device = next(model.parameters()).device
    cast = resolve_precision(precision, device) == "bf16"
    # autocast keeps no casts in inference mode
    without_gradients = torch.no_grad() if cast else torch.inference_mode()
    autocast = torch.autocast(device.type, torch.bfloat16) if cast else nullcontext()
    with without_gradients, evaluation_mode(model), autocast:
        yield device


def run_in_batches(
    model: Tagger,
    pairs: Sequence[Pair],
    compute: Callable[[Batch, Sequence[Pair]], Sequence[Result]],
    *,
    config: BatchConfig = BatchConfig(),
    build: Callable[[Pair], HeteroData] | None = None,
    failed: Callable[[Pair, Exception], Result] | None = None,
    progress: Callable[[int], object] = lambda posts: None,
) -> list[Result]:
    """Return what a function computes of every post, in the order of the posts.

    Posts are sorted by their pieces and taken into batches of ``config.batch_pieces``.

    Args:
        model: the model that ``compute`` calls, which is in evaluation mode, without gradients.
        pairs: the posts.
        compute: from a batch of graphs, on the model's device, and its posts to a result for every post.
        config: how posts are taken into batches.
        build: returns a post's graph; by default that of the post without its labels.
        failed: returns the result of a post that can't be computed; its batch is then computed post by post. Without
            it the error is raised.
        progress: called after every batch with its number of posts.
    """
    build = build or partial(_unlabelled, model)
    results: dict[int, Result] = {}
    with inference(model, config.precision) as device:
        batches = model.batches(pairs, config.pieces_on(device.type))
        gpu = device.type == "cuda"
        for indices, batch in build_batches(pairs, batches, build, workers=config.workers, pin_memory=gpu):
            try:
                if isinstance(batch, Exception):
                    raise batch
                posts = [pairs[index] for index in indices]
                results |= zip(indices, compute(batch.to(device, non_blocking=gpu), posts), strict=True)
            except OF_ONE_POST:
                if failed is None:
                    raise
                alone = partial(_alone, compute=compute, build=build, failed=failed, device=device)
                results |= {index: alone(pairs[index]) for index in indices}
            progress(len(indices))
    return [results[index] for index in range(len(pairs))]


def _alone(
    pair: Pair,
    *,
    compute: Callable[[Batch, Sequence[Pair]], Sequence[Result]],
    build: Callable[[Pair], HeteroData],
    failed: Callable[[Pair, Exception], Result],
    device: torch.device,
) -> Result:
    """Return the result of one post of a batch that failed."""
    ((_, batch),) = build_batches([pair], [[0]], build)
    try:
        if isinstance(batch, Exception):
            raise batch
        (result,) = compute(batch.to(device), [pair])
    except OF_ONE_POST as fault:
        return failed(pair, fault)
    return result


def _unlabelled(model: Tagger, pair: Pair) -> HeteroData:
    return model.builder(pair if pair.labels is None else replace(pair, labels=None))
