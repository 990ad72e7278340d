"""Batches of posts of similar length, so that little is padding."""

from __future__ import annotations

from collections.abc import Sequence

#: Pieces, padding included, that a batch may hold for each post of its size: a long post is not joined by many.
PIECES_PER_POST = 128


def length_batches(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Return the indices of posts in batches, shortest posts first.

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
