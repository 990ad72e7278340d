"""The nearest of many vectors, by cosine."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.neighbors import NearestNeighbors
from tqdm.auto import tqdm

#: Vectors whose neighbours are searched at once.
CHUNK = 256


def nearest(
    vectors: np.ndarray, rows: Sequence[int], k: int, *, progress: bool = True
) -> dict[int, list[tuple[int, float]]]:
    """For each of these rows the k nearest others by cosine, nearest first: their places and cosines.

    Args:
        vectors: ``[words, width]``, none of zeros.
        rows: whose neighbours are wanted.
        k: how many; fewer where there are no more.
        progress: whether to show a progress bar.
    """
    if k < 1:
        raise ValueError(f"k is a number of neighbours, 1 or more, not {k}")
    search = NearestNeighbors(n_neighbors=min(k + 1, len(vectors)), metric="cosine").fit(vectors)
    found: dict[int, list[tuple[int, float]]] = {}
    with tqdm(total=len(rows), desc="nearest words", unit="word", disable=not progress) as bar:
        for begin in range(0, len(rows), CHUNK):
            some = rows[begin : begin + CHUNK]
            distances, neighbours = search.kneighbors(vectors[list(some)])
            for row, distance, other in zip(some, distances, neighbours, strict=True):
                others = zip(other.tolist(), (1.0 - distance).tolist(), strict=True)
                # a word is its own nearest, unless others have the very same vector
                found[row] = [(place, cosine) for place, cosine in others if place != row][:k]
            bar.update(len(some))
    return found
