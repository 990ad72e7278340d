"""The benchmark of extractors runs, and its shares are of its own rates."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.extraction import main


def test_rates_and_shares(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("ResNet-18, 7x7", "Faster R-CNN MobileNet 320")
    found = main(tmp_path / "result.json", names, pictures=6, seconds=60, width=60, height=80, batch_size=2, repeats=1)
    assert json.loads((tmp_path / "result.json").read_text()) == found
    printed = capsys.readouterr().out
    assert list(found["extractors"]) == list(names)
    assert all(f"{name} (6): opening" in printed for name in names)
    for name in names:
        figures = found["extractors"][name]
        rates = figures["pictures per second"]
        assert all(rate > 0 for rate in rates.values())
        assert figures["workers / forward"] == pytest.approx(rates["workers"] / rates["forward"])
        both = 1 / rates["opening"] + 1 / rates["forward"]
        assert figures["alone / both"] == pytest.approx(both / (1 / rates["alone"]))
