"""The result of the benchmark of prediction."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import prediction
from benchmarks.prediction import Seconds, rates


def test_rates_are_of_the_median_run() -> None:
    encoder = [Seconds(2.0, 4.0), Seconds(1.0, 2.0), Seconds(90.0, 1.0)]
    found = rates({"encoder": encoder, "predict": [Seconds(4.0, 2.0)] * 3}, 100)
    assert found["posts per second"] == {"encoder": 50.0, "predict": 25.0}
    assert found["share of the encoder's posts per second"] == {"encoder": 1.0, "predict": 0.5}
    assert found["share of the encoder's posts per CPU second"]["predict"] == 1.0


def test_a_result_file(encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction, "TURN", 15)
    out = tmp_path / "prediction.json"
    prediction.main(out, encoder=encoder, posts=20, large=40, repeats=1, workers=1)
    found = json.loads(out.read_text(encoding="utf-8"))
    assert found["encoder"] == "small"
    for precision in ("fp32", "bf16"):
        assert {"encoder", "predict, any order", "predict, sorted"} <= {*found[precision]["posts per second"]}
        large = found["large"][precision]
        assert large["posts per second"] > 0
        assert large["share of the encoder's posts per CPU second"] > 0
        assert large["peak MiB"] > 100
    assert found["entities"]["fp32"] > 0
