"""Significance tests against all swaps and all draws of a case small enough to write them out."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from mnergraph.metrics.scores import counts, score
from mnergraph.metrics.significance import bootstrap, compare, randomization

#: Right, predicted and gold entities of two systems on seven posts.
FIRST = np.array([[2, 2, 2], [1, 2, 1], [1, 1, 2], [0, 0, 0], [1, 1, 1], [2, 3, 3], [1, 1, 1]])
SECOND = np.array([[1, 2, 2], [1, 1, 1], [0, 1, 2], [0, 1, 0], [0, 0, 1], [2, 2, 3], [1, 2, 1]])


def f1(rows: list[np.ndarray]) -> float:
    right, predicted, gold = (sum(int(row[index]) for row in rows) for index in range(3))
    return 2 * right / (predicted + gold) if predicted + gold else 0.0


def test_randomisation_against_all_swaps() -> None:
    observed = abs(f1(list(FIRST)) - f1(list(SECOND)))
    extreme = []
    for swapped in product([False, True], repeat=len(FIRST)):
        one = [b if swap else a for a, b, swap in zip(FIRST, SECOND, swapped, strict=True)]
        other = [a if swap else b for a, b, swap in zip(FIRST, SECOND, swapped, strict=True)]
        extreme.append(abs(f1(one) - f1(other)) >= observed - 1e-12)
    exact = sum(extreme) / len(extreme)
    assert 0.05 < exact < 0.5  # so that the p-value is not trivial
    assert randomization(FIRST, SECOND, trials=40_000) == pytest.approx(exact, abs=0.01)


def test_bootstrap_against_all_draws() -> None:
    first, second = FIRST[:5], SECOND[:5]
    exact = np.sort(
        [f1([first[i] for i in drawn]) - f1([second[i] for i in drawn]) for drawn in product(range(5), repeat=5)]
    )
    low, high = bootstrap(first, second, trials=40_000, level=0.8)
    # differences are few and repeat: below each end lies at most its share, and up to it at least that
    for end, share in ((low, 0.1), (high, 0.9)):
        below, up_to = (np.searchsorted(exact, end + by) / len(exact) for by in (-1e-9, 1e-9))
        assert below <= share + 0.01
        assert up_to >= share - 0.01


def test_a_system_does_not_differ_from_itself() -> None:
    found = compare(FIRST, FIRST, trials=100)
    assert (found.f1, found.p, found.low, found.high) == (0.0, 1.0, 0.0, 0.0)


def test_a_difference_on_every_post_is_significant() -> None:
    right, wrong = np.tile([2, 2, 2], (60, 1)), np.tile([1, 2, 2], (60, 1))
    found = compare(right, wrong, trials=2000)
    assert found.f1 == found.low == found.high == 0.5
    assert found.p == 1 / 2001
    back = compare(wrong, right, trials=2000)
    assert (back.f1, back.p) == (-0.5, found.p)


def test_runs_count_as_their_mean() -> None:
    runs = np.stack([FIRST, SECOND])
    mean = runs.mean(0)
    assert compare(runs, SECOND, trials=50) == compare(mean, SECOND[None], trials=50)


def test_the_same_seed_draws_the_same() -> None:
    assert compare(FIRST, SECOND, trials=300) == compare(FIRST, SECOND, trials=300)
    assert compare(FIRST, SECOND, trials=300) != compare(FIRST, SECOND, trials=300, seed=1)


def test_chunk_size_changes_only_the_random_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = compare(FIRST, SECOND, trials=20_000)
    monkeypatch.setattr("mnergraph.metrics.significance.CHUNK_ELEMENTS", 1000)
    cut = compare(FIRST, SECOND, trials=20_000)
    assert cut.p == pytest.approx(whole.p, abs=0.02)
    assert cut.f1 == whole.f1


def test_incomparable_results_are_refused() -> None:
    with pytest.raises(ValueError, match=r"not \[7, 3\] and \[6, 3\]"):
        compare(FIRST, SECOND[:6])
    with pytest.raises(ValueError, match="different numbers of gold entities"):
        compare(FIRST, SECOND[::-1])
    with pytest.raises(ValueError, match="at least one trial, not 0"):
        randomization(FIRST, SECOND, trials=0)


def test_counts_add_up_to_the_scores() -> None:
    tags, rng = ["O", "O", "B-PER", "I-PER", "B-LOC", "I-LOC"], np.random.default_rng(3)
    gold, predicted = ([[tags[i] for i in rng.integers(0, 6, n)] for n in range(1, 30)] for _ in range(2))
    for strict in (False, True):
        rows = counts(gold, predicted, strict=strict)
        assert rows.shape == (29, 3)
        right, found, true = rows.sum(0)
        whole = score(gold, predicted)
        expected = whole.strict if strict else whole.lenient
        assert right / found == pytest.approx(expected.precision)
        assert right / true == pytest.approx(expected.recall)
        assert true == expected.gold
    assert counts([], []).shape == (0, 3)
    with pytest.raises(ValueError, match="sentence 1: 1 gold tags, 2 predicted ones"):
        counts([["O"], ["O"]], [["O"], ["O", "O"]])
