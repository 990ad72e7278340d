"""Quickstart at the smallest size."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import mnergraph
from mnergraph.cli.quickstart import quickstart


def test_quickstart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = quickstart(tmp_path, sizes=(30, 10, 10), epochs=1, progress=False)
    assert set(found) == {"BERT-CRF", "UMGF", "text ceiling", "image ceiling"}
    assert all(0 <= value <= 1 for value in found.values())
    assert found["text ceiling"] < found["image ceiling"]
    printed = capsys.readouterr().out
    for part in (
        "Training BERT-CRF with the tiny-random encoder",
        "Training UMGF with the tiny-random encoder",
        "BERT-CRF on Lookalikes' test posts\n| type |",
        "UMGF on Lookalikes' test posts\n| type |",
        "What words alone can reach: ",
        "One post: ",
        "UMGF with its image: ",
        "UMGF without: ",
    ):
        assert part in printed
    line = json.loads(printed.split("as `mnergraph predict` writes it: ")[1])
    assert set(line) == {"id", "text", "entities"}
    for name in ("BERT-CRF", "UMGF"):
        model = mnergraph.load(tmp_path / name / "model")
        assert model.metadata["scores"]["test"]["lenient"]
        assert (model.processor_config.regions is not None) == (name == "UMGF")
