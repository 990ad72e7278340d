"""Rows of tables from posts and images: plan, stages, idempotence, continuation after an interruption."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import benchmarks.reproduce as reproduction
from benchmarks.experiment import SETTINGS, read
from benchmarks.posts import Files
from benchmarks.reproduce import PostsStage, folder_name, main
from mnergraph.data import Twitter2017
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
    init_args: {backbone: resnet18, size: 64}
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
        ([f"--encoder={tmp_path / 'gone'}"], "is not available"),
    ):
        with pytest.raises((OSError, ValueError), match=message):
            run(root, settings, *arguments)
    (tmp_path / "bare").mkdir()
    for split in ("train", "valid", "test"):
        (tmp_path / "bare" / f"{split}.txt").write_bytes((root / "raw" / f"{split}.txt").read_bytes())
    with pytest.raises(FileNotFoundError, match="there is no folder of images in"):
        run(tmp_path / "bare", settings)
    assert not (root / "results").exists()


def test_another_encoder_does_not_continue_a_run(
    settings: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checkpoints are those of the settings: one of other settings may have weights of the same shapes."""
    run(root, settings, f"--out={tmp_path / 'whole'}", "--row=BERT-CRF/PostFolder")
    whole = json.loads((tmp_path / "whole" / "postfolder_bert_crf.json").read_text())["seeds"]["0"]["test"]
    protocol = tmp_path / "faster.yaml"
    protocol.write_text("optimizer: {lr: 0.05}\ntrainer: {epochs: 3, save_every: 1}\n")
    with monkeypatch.context() as patch:
        patch.setattr(LitTagger, "on_validation_epoch_end", lambda self: (_ for _ in ()).throw(SystemExit(137)))
        with pytest.raises(SystemExit):
            run(root, settings, "--row=BERT-CRF/PostFolder", f"--protocol=[{protocol}]")
    assert any((root / "runs").rglob("last.ckpt"))
    run(root, settings, "--row=BERT-CRF/PostFolder")
    assert json.loads((root / "results" / "postfolder_bert_crf.json").read_text())["seeds"]["0"]["test"] == whole


def test_all_data_sets_have_folders_of_their_own(
    settings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (settings / "c_bert-crf_lookalikes.yaml").write_text(BERT.replace("PostFolder", "Lookalikes"))
    with pytest.raises(ValueError, match="--images are those of one data set"):
        main([f"--root={tmp_path}", f"--settings={settings}", "--all=true", f"--images={tmp_path}"])
    capsys.readouterr()
    main([f"--root={tmp_path}", f"--settings={settings}", "--all=true", "--plan=true", "--seeds=[0]"])
    planned = capsys.readouterr().out
    assert "posts of PostFolder" in planned
    assert "posts of Lookalikes" in planned
    assert "BERT-CRF, twice seed 0" in planned
    assert [folder_name(data) for data in ("Twitter2015", "Twitter2017", "Twitter2017C", "Lookalikes")] == [
        "twitter2015",
        "twitter2017",
        "twitter2017",
        "lookalikes",
    ]


@pytest.mark.filterwarnings("ignore:.*is not the .* split of Twitter2017 as published")
def test_texts_and_images_are_downloaded(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def text(self: Twitter2017) -> None:
        Path(self.raw_dir).mkdir(parents=True, exist_ok=True)
        shutil.copy(root / "raw" / f"{self.split}.txt", self.raw_dir)

    def images(folder: Path, year: str) -> Path:
        assert year == "2017"
        return Path(shutil.copytree(root / "raw" / "images", folder / "raw" / "images"))

    monkeypatch.setattr(Twitter2017, "download", text)
    monkeypatch.setattr(reproduction, "fetch_images", images)
    experiment = read(SETTINGS / "yu2020_umt_twitter2017.yaml")
    stage = PostsStage(experiment, Files(tmp_path / "empty"))
    assert stage.state() == "0 of 3 texts"
    stage.run()
    assert stage.state() == "done"
    next(iter((tmp_path / "empty" / "raw" / "images").iterdir())).unlink()
    assert stage.state() == "not verified"
