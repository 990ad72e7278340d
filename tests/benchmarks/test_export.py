"""The benchmark of exported models at the smallest size: every variant runs; times are not checked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from mnergraph import LabelSet, Pair, tiny_encoder
from mnergraph.data import write_conll
from mnergraph.models import BERTCRF


@pytest.mark.filterwarnings("ignore")
def test_the_command(tmp_path: Path) -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason="the extra onnx, or onnxruntime, is not installed")
    from benchmarks.export import main

    torch.manual_seed(0)
    labels = LabelSet.from_types(["PER"])
    posts = [Pair(("Ann", "sang", "again")[: 1 + n % 3], ("B-PER", "O", "O")[: 1 + n % 3], id=str(n)) for n in range(6)]
    write_conll(posts, tmp_path / "test.txt")
    BERTCRF(tiny_encoder(hidden_size=16, num_layers=1, heads=2), labels).save_pretrained(tmp_path / "model")
    main([tmp_path / "model"], tmp_path, out=tmp_path / "export.json", single=2, repeats=1)
    result = json.loads((tmp_path / "export.json").read_text(encoding="utf-8"))["models"]["BERTCRF"]
    for regime in ("batches of 1,024 pieces", "one post at a time"):
        for name in ("pt2", "onnx"):
            assert result[regime][name]["largest difference of a score"] < 1e-4
            assert result[regime][name]["posts with a difference"] == 0
        assert {"fp32", "bf16", "torch int8", "onnx int8"} <= result[regime].keys()
    assert result["MiB"]["model.int8.onnx"] < result["MiB"]["model.onnx"]
