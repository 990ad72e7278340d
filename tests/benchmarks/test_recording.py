"""The figures of the benchmark of recorded attention."""

from __future__ import annotations

import pytest

from benchmarks import recording


def test_a_record_has_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(recording.SHAPES, "small", (16, 1, 2))
    found = recording.cost("UMGF", "small", batch=2, repeats=1)
    assert found["record MiB"] > 0
    assert found["recorded / forward"] > 0
