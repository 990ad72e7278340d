"""The result file and the table of the grounding benchmark."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.grounding import SYSTEMS, Setup, experiment_of, result_of, table, write
from mnergraph.metrics.grounding import score_grounding
from mnergraph.pair import GroundedEntity, Pair

CEILING = {"gmner": 0.95, "mner": 1.0, "eeg": 0.955, "gmner_of_all": 0.9, "mner_of_all": 0.91, "eeg_of_all": 0.92}
BOX = (0.0, 0.0, 4.0, 4.0)


def run(right: int, total: int = 20) -> dict[str, Any]:
    """The result of a system that is right on the first posts."""
    pairs = [Pair(("Ann",), ("B-PER",), grounding=(GroundedEntity(0, 1, "PER", (BOX,)),)) for _ in range(total)]
    predicted = [[GroundedEntity(0, 1, "PER", (BOX,) if place < right else ())] for place in range(total)]
    return result_of(score_grounding([pair.grounding or () for pair in pairs], predicted), predicted, pairs)


def test_means_gains_and_table(tmp_path: Path) -> None:
    seeds = {
        "0": {"GEI + EVG": run(8), "GEI, joint": run(16), "UMT + EVG": run(5)},
        "1": {"GEI + EVG": run(10), "GEI, joint": run(20), "UMT + EVG": run(5)},
    }
    result = {"seeds": seeds, "ceiling": CEILING}
    write(result, tmp_path / "new" / "grounding.json")
    read = json.loads((tmp_path / "new" / "grounding.json").read_text())
    assert read["means"]["GEI, joint"]["gmner"]["mean"] == pytest.approx(90)
    gain = read["joint against two steps"]["GEI"]
    assert gain["points"] == pytest.approx(45)
    assert 0 < gain["low"] < gain["points"] < gain["high"]
    assert list(read["joint against two steps"]) == ["GEI"]
    rows = [line.split(" | ") for line in table(read).splitlines()[2:]]
    assert [row[0].strip("| ") for row in rows] == [
        "ceiling",
        "ceiling with all entities predicted",
        "UMT + EVG",
        "GEI + EVG",
        "GEI, joint",
    ]
    assert rows[0][1:4] == ["95.0", "100.0", "95.5"]
    assert rows[1][1:4] == ["90.0", "91.0", "92.0"]
    assert rows[4][1] == "90.0 ± 14.1"
    assert rows[4][6].startswith("+45.0 [")
    assert rows[3][6] == ""


def test_settings_of_every_system() -> None:
    setup = Setup(epochs=3, encoder="prajjwal1/bert-tiny", encoder_lr=1e-4, lr=3e-4, precision="bf16-mixed")
    for system in SYSTEMS:
        joint = experiment_of(system, setup, {"weight": 2.0})
        assert (joint.encoder, joint.optimizer.encoder_lr, joint.optimizer.lr) == ("prajjwal1/bert-tiny", 1e-4, 3e-4)
        assert (joint.trainer.epochs, joint.trainer.precision) == (3, "bf16-mixed")
        assert joint.arguments["grounding"] == {"weight": 2.0}
        assert joint.data_options["grounded"] is True
        assert "grounding" not in experiment_of(system, setup, None).arguments
