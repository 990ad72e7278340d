"""Rows of tables from posts and images: plan, stages, idempotence, continuation after an interruption."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import benchmarks.reproduce as reproduction
from benchmarks.reproduce import main
from mnergraph.data.lookalikes.generate import generate
from mnergraph.models import Tagger
from mnergraph.training.lightning_module import LitTagger

UMT = """
system: UMT
model: UMT
data: PostFolder
source: a test
encoder: tiny-random
arguments: {num_heads: 4}
trainer: {epochs: 2, batch_size: 4, save_every: 1, accelerator: cpu, logger: none, progress: false}
image: grid
extract:
  - class_path: mnergraph.features.vision.backbones.BackboneGrid
    init_args: {backbone: resnet18, size: 32}
reported: {f1: 50.0}
"""
BERT = """
system: BERT-CRF
model: BERT-CRF
data: PostFolder
source: a test
encoder: tiny-random
trainer: {epochs: 1, batch_size: 4, accelerator: cpu, logger: none, progress: false}
ablations:
  twice: {arguments: {}}
"""


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    folder = tmp_path / "settings"
    folder.mkdir()
    (folder / "a_umt_postfolder.yaml").write_text(UMT)
    (folder / "b_bert-crf_postfolder.yaml").write_text(BERT)
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    generate(tmp_path / "root", sizes=(12, 4, 6), size=64, image_missing_ratio=0.0, progress=False)
    return tmp_path / "root"


def run(root: Path, settings: Path, *arguments: str) -> None:
    main([f"--root={root}", f"--settings={settings}", "--seeds=[0]", "--row=UMT/PostFolder", *arguments])


def result_of(root: Path) -> dict[str, Any]:
    return json.loads((root / "results" / "postfolder_umt.json").read_text())


def test_a_row_from_images(settings: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(root, settings, "--plan=true")
    planned = capsys.readouterr().out
    assert "0 of 22 images" in planned
    assert "UMT seed 0" in planned
    assert not (root / "stores").exists()

    run(root, settings, "--keep_models=true")
    printed = capsys.readouterr().out
    assert "[1/3] posts of PostFolder" in printed
    assert "| UMT | – | – | 50.00 |" in printed
    assert "grid by BackboneGrid" in printed
    assert result_of(root)["evidence"]["train"]["image vectors"] == 12
    assert Tagger.from_pretrained(root / "models" / "postfolder_umt" / "seed0").metadata["scores"]
    assert not (root / "runs" / "postfolder_umt" / "seed0").exists(), "checkpoints of a finished run are removed"

    before = result_of(root)
    run(root, settings)
    again = capsys.readouterr().out
    assert "[" not in again.split("| system |")[0], "nothing is done again"
    assert result_of(root) == before


@pytest.mark.parametrize("step", [1, 3, 5])
def test_an_interrupted_run_continues(
    step: int, settings: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(root, settings, f"--out={tmp_path / 'whole'}")
    whole = json.loads((tmp_path / "whole" / "postfolder_umt.json").read_text())["seeds"]["0"]
    steps = 0
    original = LitTagger.training_step

    def killed(self: LitTagger, *arguments: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == step:
            raise SystemExit(137)
        return original(self, *arguments)

    monkeypatch.setattr(LitTagger, "training_step", killed)
    with pytest.raises(SystemExit):
        run(root, settings)
    assert not (root / "results" / "postfolder_umt.json").exists()
    run(root, settings)
    seed = result_of(root)["seeds"]["0"]
    assert {name: seed[name] for name in ("valid", "test", "entities by test post")} == {
        name: whole[name] for name in ("valid", "test", "entities by test post")
    }


def test_an_interrupted_extraction_continues(
    settings: Path, root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(reproduction, "train", lambda *args, **options: pytest.fail("training has begun"))
        with pytest.raises(pytest.fail.Exception, match="training has begun"):
            run(root, settings, "--batch_size=4")
    next(iter((root / "stores").glob("*/shards-0.jsonl"))).write_text("")
    run(root, settings, "--plan=true")
    planned = capsys.readouterr().out
    assert "0 of 22 images" in planned.rpartition("stage  ")[2]
    run(root, settings)
    run(root, settings, "--plan=true")
    assert capsys.readouterr().out.rpartition("stage  ")[2].count(" done ") == 3


def test_errors_before_work_starts(settings: Path, root: Path, tmp_path: Path) -> None:
    for arguments, message in (
        (["--row=XYZ/PostFolder"], "there is no row 'XYZ/PostFolder'; there is UMT/PostFolder, BERT-CRF/PostFolder"),
        (["--all=true"], "give one of --row SYSTEM/DATA, --table_of DATA and --all true"),
        (["--row=BERT-CRF/PostFolder", "--ablation=none"], "BERT-CRF has no ablation 'none'; there is twice"),
        ([f"--encoder={tmp_path / 'gone'}"], "can't be had"),
    ):
        with pytest.raises((OSError, ValueError), match=message):
            run(root, settings, *arguments)
    (tmp_path / "bare").mkdir()
    for split in ("train", "valid", "test"):
        (tmp_path / "bare" / f"{split}.txt").write_bytes((root / "raw" / f"{split}.txt").read_bytes())
    with pytest.raises(FileNotFoundError, match="there is no folder of images in"):
        run(tmp_path / "bare", settings)
    assert not (root / "results").exists()
