"""The jobs as functions: what they write, on Lookalikes posts and on real ones."""

from __future__ import annotations

import json
import shutil
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import Run

from mnergraph.cli.evaluate import evaluate
from mnergraph.cli.inputs import Inputs
from mnergraph.cli.predict import predict
from mnergraph.cli.train import train
from mnergraph.data import Evidence, Lookalikes, PostFolder, Twitter2017, verify, write_conll, write_features
from mnergraph.data.missing_evidence import MissingEvidenceError
from mnergraph.features.text.encoder import TINY, tiny_encoder
from mnergraph.features.vision.crops import RegionEncoder
from mnergraph.features.vision.image_io import file_sha256
from mnergraph.labels import LabelSet
from mnergraph.models import BERTCRF, MGCMT, UMGF, UMT, Tagger
from mnergraph.pair import Pair
from mnergraph.training import OptimizerConfig, TrainerConfig, fit

QUICK = TrainerConfig(epochs=1, batch_size=4, accelerator="cpu", progress=False)
SMALL = partial(UMGF, hidden_size=16, num_heads=2, num_layers=1)
POSTS = partial(Lookalikes, sizes=(30, 10, 10))


def test_what_a_run_leaves(trained: Run) -> None:
    result = json.loads((trained.out / "result.json").read_text())
    assert result == json.loads(json.dumps(trained.result, default=str))
    assert set(result) == {
        "model",
        "settings",
        "labels",
        "encoder",
        "word_vectors",
        "data",
        "posts without evidence",
        "optimizer",
        "trainer",
        "changes",
        "scores",
        "seconds",
        "versions",
        "machine",
    }
    assert (result["model"], result["encoder"]) == ("UMGF", TINY)
    assert result["settings"]["region_dim"] == 512
    assert result["data"]["name"] == "Lookalikes"
    assert [result["data"][f"{name} posts"] for name in ("train", "valid", "test")] == [30, 10, 10]
    assert result["data"]["test sha256"] == file_sha256(trained.root / "raw" / "test.txt")
    assert sorted(path.name for path in trained.out.iterdir()) == [
        ".lock",
        "checkpoints",
        "logs",
        "model",
        "result.json",
        "settings.json",
    ]
    model = Tagger.from_pretrained(trained.model)
    assert model.metadata["scores"] == result["scores"]
    assert model.processor_config is not None
    assert model.processor_config.regions == vars(RegionEncoder(size=32))
    assert model.processor_config.caption_phrases is False


def test_the_saved_model_scores_as_in_training(trained: Run, tmp_path: Path) -> None:
    for split in ("valid", "test"):
        scores = evaluate(trained.model, POSTS, trained.root, split, progress=False)
        assert scores.to_dict() == trained.result["scores"][split]


def test_training_again_gives_the_same_model(trained: Run, tmp_path: Path) -> None:
    loop = replace(QUICK, batch_size=10)
    again = train(POSTS, trained.root, SMALL, tmp_path, regions=RegionEncoder(size=32), trainer=loop)
    assert again["scores"] == trained.result["scores"]
    one, other = (Tagger.from_pretrained(folder).state_dict() for folder in (trained.model, tmp_path / "model"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_image_dimension_follows_from_the_posts(tmp_path: Path) -> None:
    posts = [Pair(("Bob", "saw", "Rome"), ("B-PER", "O", "B-LOC"), str(index)) for index in range(4)]
    root = tmp_path / "posts"
    root.mkdir()
    for split in ("train", "valid", "test"):
        write_conll(posts, root / f"{split}.txt")
    model = partial(UMT, num_heads=2, intermediate_size=8)
    with pytest.raises(
        ValueError,
        match=r"the model reads image features, which no post of train, valid, test has: give .* BackboneGrid",
    ):
        train(PostFolder, root, model, tmp_path / "no_features", trainer=QUICK)
    write_features({}, {"1": torch.randn(4, 6), "2": torch.randn(1, 6)}, root / "features.safetensors")
    result = train(PostFolder, root, model, tmp_path / "out", trainer=QUICK)
    assert result["settings"]["image_dim"] == 6
    assert "region_dim" not in result["settings"]


def test_nearest_words_from_a_table(tmp_path: Path) -> None:
    root, table = tmp_path / "data", tmp_path / "glove.txt"
    pairs = [pair for split in ("train", "valid", "test") for pair in POSTS(root, split).pairs]
    words = {word for pair in pairs for word in pair.words}
    known = sorted({word.lower() for word in words})[-5:]
    table.write_text("".join(f"{word} {index} 1\n" for index, word in enumerate(known)))
    model = partial(MGCMT, num_heads=4, ablate={"w/o TextImg"}, label_features=True)
    result = train(POSTS, root, model, tmp_path / "run", word_vectors=table, trainer=QUICK)
    assert result["word_vectors"] == "glove.txt"
    assert len(list(root.rglob("similar-glove-*.safetensors"))) == 1, "cached in the data folder"
    saved = Tagger.from_pretrained(tmp_path / "run" / "model").nearest_words
    assert set(saved.words) == {word for word in words if word.lower() in known}
    assert dict(saved.neighbors(known[0])).keys() == set(known[1:])
    with pytest.raises(ValueError, match="this model reads no nearest words; leave word_vectors out"):
        train(POSTS, root, BERTCRF, tmp_path / "b", word_vectors=table, trainer=QUICK)


# --- real posts ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The thirty real posts with their images and detected boxes, where they can be written to."""
    root = tmp_path_factory.mktemp("real") / "posts"
    shutil.copytree(shared / "posts", root, copy_function=shutil.copyfile)
    for folder in (root, root / "images"):
        folder.chmod(0o755)
    return root


# ids start again in each split, so one id names two images
@pytest.mark.filterwarnings("ignore:.*lines of one id differ:UserWarning")
def test_thirty_real_posts_with_images(real: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given: dict[str, Any] = {"regions": RegionEncoder(size=32), "trainer": QUICK}
    with pytest.raises(MissingEvidenceError, match="grounded objects, which no post of train, valid, test has"):
        train(PostFolder, real, SMALL, tmp_path / "run", **given)
    result = train(PostFolder, real, SMALL, tmp_path / "run", allow_missing=("grounded objects",), **given)
    assert [result["data"][f"{name} posts"] for name in ("train", "valid", "test")] == [10, 10, 10]
    model, tags = tmp_path / "run" / "model", tmp_path / "tags.txt"
    scores = evaluate(model, PostFolder, real, predictions=tags, progress=False)
    assert scores.to_dict() == result["scores"]["test"]
    test = PostFolder(real, "test").pairs
    rows = [line.split("\t") for line in tags.read_text(encoding="utf-8").split("\n")]
    words = [row for row in rows if len(row) > 1]
    assert [row[0] for row in words] == [word for pair in test for word in pair.words]
    known = Tagger.from_pretrained(model).labels.tags
    assert all(len(row) == 3 and row[2] in known for row in words), "every word gets a tag"

    capsys.readouterr()
    predict(
        model,
        Inputs(
            posts=real / "test.txt",
            images=real / "images",
            objects=real / "objects.jsonl",
            captions=real / "captions.jsonl",
        ),
    )
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["id"] for line in lines] == [pair.id for pair in test]
    for line in lines:
        for found in line["entities"]:
            assert line["text"][found["start"] : found["end"]] == " ".join(found["words"])
            assert 0 <= found["score"] <= 1


@pytest.mark.filterwarnings("ignore:.*lines of one id differ:UserWarning")
def test_real_images_all_have_regions(real: Path) -> None:
    pairs = [pair for split in ("train", "valid", "test") for pair in PostFolder(real, split).pairs]
    assert len(pairs) == 30
    assert all(pair.image_path is not None for pair in pairs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = RegionEncoder(size=32).attach(pairs, progress=False)
    for pair in found:
        assert any(obj.box is not None for obj in pair.objects)
        for obj in pair.objects:
            assert (obj.region is not None) == (obj.box is not None)


def test_mislabelled_images_are_found(real: Path) -> None:
    report = verify(real, progress=False)
    assert [fault.code for fault in report.image_issues] == ["mislabelled", "mislabelled"]
    assert "t15_113" in [fault.id for fault in report.image_issues]
    assert any("lines of one id differ" in fault for fault in report.faults)


def test_caption_phrases_as_objects(shared: Path, tmp_path: Path) -> None:
    shutil.copytree(shared / "twitter2017", tmp_path / "raw", copy_function=shutil.copyfile)
    (tmp_path / "raw").chmod(0o755)
    evidence = Evidence(captions=shared / "captions" / "twitter2017.jsonl")
    posts = Twitter2017(tmp_path, "train", evidence=evidence)
    pairs = posts.pairs[:40]
    assert len(posts) == 3373
    assert sum(bool(pair.objects) for pair in pairs) > 30
    assert all(obj.box is None and obj.label for pair in pairs for obj in pair.objects)
    torch.manual_seed(0)
    model = SMALL(tiny_encoder(hidden_size=16, num_layers=1, heads=2), LabelSet(posts.tags))
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    fit(model, pairs, pairs, tmp_path / "run", trainer=replace(QUICK, batch_size=20, logger="none"))
    moved = [name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])]
    assert any("layers" in name for name in moved)


def test_a_run_is_resumed_with_its_own_settings(tmp_path: Path) -> None:
    given: dict[str, Any] = {"regions": RegionEncoder(size=32), "allow_missing": ("grounded objects",)}
    result = train(POSTS, tmp_path / "data", SMALL, tmp_path / "run", trainer=QUICK, **given)
    before = (tmp_path / "run" / "result.json").read_text()
    with pytest.raises(ValueError, match=r"other settings: optimizer\.lr: 0\.001 there, 0\.5 here; trainer\.seed: 0"):
        train(
            POSTS,
            tmp_path / "data",
            SMALL,
            tmp_path / "run",
            optimizer=OptimizerConfig(lr=0.5),
            trainer=replace(QUICK, seed=3),
            resume=True,
            **given,
        )
    assert (tmp_path / "run" / "result.json").read_text() == before
    with pytest.raises(ValueError, match=r"settings: settings\.dropout: .* another out$"):
        train(
            POSTS,
            tmp_path / "data",
            partial(SMALL, dropout=0.2),
            tmp_path / "run",
            trainer=replace(QUICK, seed=3),
            resume=True,
            allow_changes=True,
            **given,
        )
    quiet = replace(QUICK, logger="none")
    again = train(POSTS, tmp_path / "data", SMALL, tmp_path / "run", trainer=quiet, resume=True, **given)
    assert again["scores"] == result["scores"]
    assert again["changes"] == []


def test_a_run_is_continued_with_other_settings_that_are_written_down(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def go(optimizer: OptimizerConfig = OptimizerConfig(), epochs: int = 1, **given: Any) -> dict[str, Any]:
        trainer = replace(QUICK, epochs=epochs)
        return train(POSTS, tmp_path / "data", BERTCRF, tmp_path / "run", optimizer=optimizer, trainer=trainer, **given)

    go()
    message = r"trainer\.epochs: 1 there, 2 here\. Give the same ones, .*; --allow_changes true continues with them"
    with pytest.raises(ValueError, match=message):
        go(epochs=2, resume=True)
    assert go(epochs=2, resume=True, allow_changes=True)["changes"] == [["trainer.epochs: 1 there, 2 here"]]
    assert "continues with other settings: trainer.epochs: 1 there, 2 here" in capsys.readouterr().out
    last = go(OptimizerConfig(lr=0.5), epochs=3, resume=True, allow_changes=True)["changes"]
    assert last == [
        ["trainer.epochs: 1 there, 2 here"],
        ["optimizer.lr: 0.001 there, 0.5 here", "trainer.epochs: 2 there, 3 here"],
    ]
    assert go(OptimizerConfig(lr=0.5), epochs=3, resume=True)["changes"] == last
    assert json.loads((tmp_path / "run" / "result.json").read_text())["changes"] == last
    rates = {
        group["initial_lr"]
        for group in torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["optimizer_states"][0][
            "param_groups"
        ]
    }
    assert rates == {0.5, OptimizerConfig().encoder_lr}
