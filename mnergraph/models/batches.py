"""Many posts through a model: in batches of a number of pieces.

Graphs of the next batches are built, and the results of the last one decoded, while the model computes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import torch
from torch_geometric.data import Batch, HeteroData

from mnergraph.features.text.encoder import TextEncoderModel
from mnergraph.graph.batching import build_batches
from mnergraph.models.batch_config import BatchConfig, Precision
from mnergraph.nn.bfloat16 import in_bfloat16
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

    Weights are cast once within it, not once a batch. In bf16 a pretrained text encoder is replaced by a copy in
    bfloat16, the rest computes under autocast.

    Args:
        model: the model.
        precision: see `BatchConfig`.
    """
    device = next(model.parameters()).device
    cast = resolve_precision(precision, device) == "bf16"
    # autocast keeps no casts in inference mode
    without_gradients = torch.no_grad() if cast else torch.inference_mode()
    autocast = torch.autocast(device.type, torch.bfloat16) if cast else nullcontext()
    with without_gradients, evaluation_mode(model), autocast, _encoder_in_bfloat16(model) if cast else nullcontext():
        yield device


def _encoder_in_bfloat16(model: Tagger) -> AbstractContextManager[None]:
    is_pretrained = isinstance(model.encoder, TextEncoderModel)
    return in_bfloat16(model.encoder.model) if is_pretrained else nullcontext()


def run_in_batches(
    model: Tagger,
    pairs: Sequence[Pair],
    decode: Callable[[Any, Sequence[Pair]], Sequence[Result]],
    *,
    forward: Callable[[Batch, Sequence[Pair]], Any] | None = None,
    config: BatchConfig = BatchConfig(),
    build: Callable[[Pair], HeteroData] | None = None,
    failed: Callable[[Pair, Exception], Result] | None = None,
    progress: Callable[[int], object] = lambda posts: None,
) -> list[Result]:
    """Return what is decoded of every post, in the order of the posts.

    Posts are sorted by their pieces and taken into batches of ``config.batch_pieces``.

    Args:
        model: the model, which is in evaluation mode, without gradients.
        pairs: the posts.
        decode: from what ``forward`` returns and the posts to a result for every post. With ``config.workers`` a
            thread calls it while the model computes the next batch.
        forward: from a batch of graphs, on the model's device, and its posts to what ``decode`` takes; by default the
            model, which gives the last graph.
        config: how posts are taken into batches.
        build: returns a post's graph; by default that of the post without its labels.
        failed: returns the result of a post that can't be computed; its batch is then computed post by post. Without
            it the error is raised.
        progress: called after every batch with its number of posts.
    """
    build = build or partial(_unlabelled, model)
    forward = forward or (lambda batch, posts: model(batch))
    results: dict[int, Result] = {}
    with inference(model, config.precision) as device:
        batches = model.batches(pairs, config.pieces_on(device.type))
        gpu = device.type == "cuda"
        # entered and left in each call: a guard of the mode that another thread deletes, when it collects garbage,
        # changes the mode of that thread
        mode = torch.inference_mode() if torch.is_inference_mode_enabled() else torch.no_grad()
        decode = mode(decode)

        def collect(indices: list[int], computed: Future[Sequence[Result]]) -> None:
            try:
                results.update(zip(indices, computed.result(), strict=True))
            except OF_ONE_POST:
                if failed is None:
                    raise
                alone = partial(_alone, decode=decode, forward=forward, build=build, failed=failed, device=device)
                results.update((index, alone(pairs[index])) for index in indices)
            progress(len(indices))

        with _executor(config.workers if len(batches) > 1 else 0) as executor:
            waiting: deque[tuple[list[int], Future[Sequence[Result]]]] = deque()
            for indices, batch in build_batches(pairs, batches, build, workers=config.workers, pin_memory=gpu):
                computed: Future[Sequence[Result]] = Future()
                posts = [pairs[index] for index in indices]
                try:
                    if isinstance(batch, Exception):
                        raise batch
                    computed = executor.submit(decode, forward(batch.to(device, non_blocking=gpu), posts), posts)
                except OF_ONE_POST as error:
                    computed.set_exception(error)
                waiting.append((indices, computed))
                if len(waiting) > 1:
                    collect(*waiting.popleft())
            while waiting:
                collect(*waiting.popleft())
    return [results[index] for index in range(len(pairs))]


class _Now(Executor):
    """Calls what is submitted at once, in the caller's thread."""

    def submit(self, fn: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Future[Result]:
        """Return the result, or the error, of a call."""
        future: Future[Result] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


@contextmanager
def _executor(workers: int) -> Iterator[Executor]:
    """Yield an executor of one thread, which has the caller's precision; without workers no thread."""
    if workers == 0:
        yield _Now()
        return
    # a context of autocast that ends in any thread empties the cache of cast weights, so that none is opened there
    enabled = [device for device in ("cpu", "cuda") if torch.is_autocast_enabled(device)]
    casts = {device: torch.get_autocast_dtype(device) for device in enabled}

    def begin() -> None:
        for device, dtype in casts.items():
            torch.set_autocast_enabled(device, True)
            torch.set_autocast_dtype(device, dtype)

    pool = ThreadPoolExecutor(1, thread_name_prefix="decoding", initializer=begin)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _alone(
    pair: Pair,
    *,
    decode: Callable[[Any, Sequence[Pair]], Sequence[Result]],
    forward: Callable[[Batch, Sequence[Pair]], Any],
    build: Callable[[Pair], HeteroData],
    failed: Callable[[Pair, Exception], Result],
    device: torch.device,
) -> Result:
    """Return the result of one post of a batch that failed."""
    ((_, batch),) = build_batches([pair], [[0]], build)
    try:
        if isinstance(batch, Exception):
            raise batch
        (result,) = decode(forward(batch.to(device), [pair]), [pair])
    except OF_ONE_POST as fault:
        return failed(pair, fault)
    return result


def _unlabelled(model: Tagger, pair: Pair) -> HeteroData:
    return model.builder(pair if pair.labels is None else replace(pair, labels=None))
