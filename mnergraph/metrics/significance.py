"""Significance tests of the difference in F1 between two systems.

Both tests take, for the same posts tagged by both systems, the numbers of correct, predicted and gold entities of
each post (`mnergraph.metrics.scores.counts`). The counts of several runs of a system are averaged: the tests cover
the variation due to the sample of posts, not that due to seeds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

#: Elements (posts times trials) of the matrices that are drawn at once.
CHUNK_ELEMENTS = 2**22


@dataclass(frozen=True)
class Difference:
    """The difference in F1 of two systems, -1 to 1.

    Attributes:
        f1: the difference.
        p: two-sided p-value of the approximate randomization test.
        low, high: 95% confidence interval by paired bootstrap.
    """

    f1: float
    p: float
    low: float
    high: float


def compare(first: np.ndarray, second: np.ndarray, *, trials: int = 10_000, seed: int = 0) -> Difference:
    """Return the difference in F1 of two systems on the same posts, with both tests.

    Args:
        first: counts of one system, ``[posts, 3]``, or of its runs, ``[runs, posts, 3]``.
        second: the same of the other, the posts in the same order.
        trials: samples drawn by each test.
        seed: of the random samples.
    """
    low, high = bootstrap(first, second, trials=trials, seed=seed)
    p = randomization(first, second, trials=trials, seed=seed)
    first, second = _check_paired(first, second)
    return Difference(float(_f1(first.sum(0)) - _f1(second.sum(0))), p, low, high)


def randomization(first: np.ndarray, second: np.ndarray, *, trials: int = 10_000, seed: int = 0) -> float:
    """Return the two-sided p-value by approximate randomization (Noreen, 1989; for F1: Yeh, COLING 2000, section 3.3).

    Each trial swaps the two systems' output on every post with probability one half. With n of N trials
    giving a difference at least as large as the observed one, p = (n + 1) / (N + 1).

    Args:
        first: counts of one system, as in `compare`.
        second: counts of the other system.
        trials: number of trials.
        seed: of the trials.
    """
    first, second = _check_paired(first, second)
    apart, one, other = first - second, first.sum(0), second.sum(0)
    # swaps that tie in exact arithmetic must not differ by the order of a sum
    observed = abs(_f1(one) - _f1(other)) - 1e-12
    rng, extreme = np.random.default_rng(seed), 0
    for chunk in _chunks(trials, len(first)):
        # [trials, 3]: what the swapped posts take from one system and give to the other
        moved = rng.integers(0, 2, (chunk, len(first))).astype(float) @ apart
        extreme += int((abs(_f1(one - moved) - _f1(other + moved)) >= observed).sum())
    return (extreme + 1) / (trials + 1)


def bootstrap(
    first: np.ndarray, second: np.ndarray, *, trials: int = 10_000, seed: int = 0, level: float = 0.95
) -> tuple[float, float]:
    """Return the confidence interval of the difference in F1 by paired bootstrap (Koehn, EMNLP 2004, sections 3 and 4).

    Each trial draws as many posts as there are, with replacement, and scores both systems on them.

    Args:
        first: counts of one system, as in `compare`.
        second: counts of the other system.
        trials: number of trials.
        seed: of the trials.
        level: the share of the trials' differences that lie in the interval, as many below it as above.
    """
    first, second = _check_paired(first, second)
    rng, posts, drawn = np.random.default_rng(seed), len(first), []
    for chunk in _chunks(trials, posts):
        # [trials, posts]: how often each post was drawn
        times = rng.multinomial(posts, np.full(posts, 1 / posts), size=chunk).astype(float)
        drawn.append(_f1(times @ first) - _f1(times @ second))
    low, high = np.quantile(np.concatenate(drawn), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _f1(counts: np.ndarray) -> np.ndarray:
    """Return F1 from counts ``[..., 3]`` of correct, predicted and gold entities; 0 without entities."""
    right, predicted, gold = np.moveaxis(counts, -1, 0)
    return 2 * right / np.maximum(predicted + gold, 1e-9)


def _check_paired(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the counts averaged over runs, ``[posts, 3]`` each, after checking that both cover the same posts."""
    both = [np.asarray(counts, dtype=float) for counts in (first, second)]
    one, other = (counts.mean(0) if counts.ndim == 3 else counts for counts in both)
    if one.shape != other.shape or one.ndim != 2 or one.shape[1] != 3 or not len(one):
        raise ValueError(
            f"counts are [posts, 3] of the same posts, or [runs, posts, 3], not {list(first.shape)} "
            f"and {list(second.shape)}"
        )
    if not np.allclose(one[:, 2], other[:, 2]):
        raise ValueError("the two systems' posts hold different numbers of gold entities: they are not the same")
    return one, other


def _chunks(trials: int, posts: int) -> Iterator[int]:
    """Yield the sizes of chunks of trials that fit into memory."""
    if trials < 1:
        raise ValueError(f"a test needs at least one trial, not {trials}")
    size = max(1, CHUNK_ELEMENTS // posts)
    for begin in range(0, trials, size):
        yield min(size, trials - begin)
