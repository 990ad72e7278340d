"""Batches of posts of similar length, so that little is padding, and their graphs, built while others are computed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from torch_geometric.data import Batch, HeteroData

from mnergraph.graph.collate import collate
from mnergraph.pair import Pair

#: Pieces, padding included, that a batch of `length_batches` may hold for each post of its size.
PIECES_PER_POST = 128
#: Pieces that a shorter post counts as in a batch: its graph and its decoding take time and memory, too.
MIN_PIECES = 16


def length_batches(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Return the indices of posts in batches of a number of posts, shortest posts first.

    A batch holds at most ``batch_size`` posts and, with padding, ``batch_size * PIECES_PER_POST`` pieces; a post that
    is longer than this is a batch of its own.

    Args:
        lengths: the number of pieces, or words, of every post.
        batch_size: posts per batch.

    Raises:
        ValueError: for batches without a post.
    """
    if batch_size < 1:
        raise ValueError(f"a batch holds at least one post, not {batch_size}")
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        last = batches[-1] if batches else []
        if last and len(last) < batch_size and (len(last) + 1) * lengths[index] <= batch_size * PIECES_PER_POST:
            last.append(index)
        else:
            batches.append([index])
    return batches


def piece_batches(lengths: Sequence[int], batch_pieces: int, *, others: Sequence[int] | None = None) -> list[list[int]]:
    """Return the indices of posts in batches of a number of pieces, shortest posts first.

    A batch holds at most ``batch_pieces`` pieces, counted with padding and at least `MIN_PIECES` a post; a post that
    is longer than this is a batch of its own.

    Args:
        lengths: the number of pieces, or words, of every post.
        batch_pieces: pieces per batch.
        others: what every post takes besides its text, in pieces; nothing without it. See `NodeType.batch_cost`.

    Raises:
        ValueError: for batches without a piece.
    """
    if batch_pieces < 1:
        raise ValueError(f"a batch holds at least one piece, not {batch_pieces}")
    batches: list[list[int]] = []
    besides = 0
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        other = others[index] if others else 0
        last = batches[-1] if batches else []
        size = (len(last) + 1) * max(lengths[index], MIN_PIECES) + besides + other
        if last and size <= batch_pieces:
            last.append(index)
            besides += other
        else:
            batches.append([index])
            besides = other
    return batches


class GraphBatch(NamedTuple):
    """The graphs of some posts as a batch.

    Attributes:
        indices: of the posts.
        batch: their graphs, or the error where one can't be built.
    """

    indices: list[int]
    batch: Batch | Exception


def build_batches(
    pairs: Sequence[Pair],
    batches: Sequence[list[int]],
    build: Callable[[Pair], HeteroData],
    *,
    workers: int = 0,
    pin_memory: bool = False,
) -> Iterator[GraphBatch]:
    """Yield the batches' graphs in their order, the next ones built by threads while the caller computes.

    Args:
        pairs: the posts.
        batches: the indices of the posts of each.
        build: returns a post's graph.
        workers: threads; with 0 each batch is built when it is due.
        pin_memory: whether to move the tensors to pinned memory, from which a GPU copies without waiting.
    """

    def built(indices: list[int]) -> GraphBatch:
        try:
            batch = collate([build(pairs[index]) for index in indices])
            return GraphBatch(indices, batch.pin_memory() if pin_memory else batch)
        except Exception as error:
            return GraphBatch(indices, error)

    if workers == 0:
        yield from map(built, batches)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="graphs")
    waiting = iter(batches)
    running: deque[Future[GraphBatch]] = deque()
    try:
        while True:
            while len(running) <= workers and (indices := next(waiting, None)) is not None:
                running.append(pool.submit(built, indices))
            if not running:
                return
            yield running.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
