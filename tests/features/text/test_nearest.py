"""Nearest vectors against brute force."""

from __future__ import annotations

import numpy as np
import pytest

from mnergraph.features.text.nearest_words import CHUNK_SIZE, k_nearest


@pytest.mark.parametrize("k", [1, 4, 400])
def test_nearest(k: int) -> None:
    vectors = np.random.default_rng(1).normal(size=(CHUNK_SIZE + 50, 6)).astype(np.float32)
    rows = list(range(len(vectors)))
    found = k_nearest(vectors, rows, k, progress=False)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -np.inf)
    for row in rows:
        expected = -np.sort(-cosines[row])[: min(k, len(vectors) - 1)]
        indices = [index for index, _ in found[row]]
        assert len({*indices, row}) == len(expected) + 1
        # by cosine, as the order of nearly equal ones is not determined
        np.testing.assert_allclose(cosines[row][indices], expected, atol=1e-5)
        np.testing.assert_allclose([cosine for _, cosine in found[row]], expected, atol=1e-5)


def test_nearest_among_equals() -> None:
    vectors = np.array([[1, 1]] * 6 + [[1, -1]], dtype=np.float32)
    found = k_nearest(vectors, [0, 6], 3, progress=False)
    assert len({index for index, _ in found[0]} - {0, 6}) == 3
    assert [cosine for _, cosine in found[0]] == pytest.approx([1, 1, 1])
    assert [cosine for _, cosine in found[6]] == pytest.approx([0, 0, 0], abs=1e-6)
    assert k_nearest(vectors[:1], [0], 3, progress=False) == {0: []}
    with pytest.raises(ValueError, match="k is a number of neighbors, 1 or more, not 0"):
        k_nearest(vectors, [0], 0)


def test_progress(capsys: pytest.CaptureFixture[str]) -> None:
    vectors = np.eye(3, dtype=np.float32)
    k_nearest(vectors, [0, 1], 2)
    assert "nearest words: 100%" in capsys.readouterr().err
    k_nearest(vectors, [0, 1], 2, progress=False)
    assert capsys.readouterr().err == ""
