"""The thirty real posts by the command line: from images to features, to a model, to entities."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mnergraph.cli.main import main

Call = Callable[..., str]
QUICK = (
    "--trainer.epochs",
    "1",
    "--trainer.batch_size",
    "10",
    "--trainer.accelerator",
    "cpu",
    "--trainer.logger",
    "none",
)


@pytest.fixture(scope="module")
def posts(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("real") / "posts"
    shutil.copytree(shared / "posts", folder)
    folder.chmod(0o755)
    return folder


@pytest.fixture
def call(posts: Path, capsys: pytest.CaptureFixture[str]) -> Call:
    """A command on these posts; what it prints."""

    def calling(command: str, *arguments: str | Path) -> str:
        quiet = () if command == "predict" else ("--trainer.progress" if command == "train" else "--progress", "false")
        main([command, *map(str, arguments), *quiet])
        return capsys.readouterr().out

    return calling


# `posts/` repeats ids between splits with other objects, which its evidence files warn of
pytestmark = pytest.mark.filterwarnings("ignore:.*lines of one id differ")


def test_regions_and_the_objects_that_are_given(call: Call, posts: Path, tmp_path: Path) -> None:
    """GEI: the map of a ResNet out of a store, and crops of objects.jsonl through another one."""
    store, of_posts = (
        tmp_path / "store",
        ("--data", "PostFolder", "--root", posts, "--data.mapping", "{OTHER: MISC}"),
    )
    printed = call(
        *("features", "--images", posts / "images", "--store", store, "--dtype", "float16"),
        *("--extractor", "BackboneGrid", "--extractor.backbone", "resnet18", "--extractor.size", "64"),
    )
    assert printed.startswith("20 images: 20 extracted now, 0 known\n2 mislabelled")
    printed = call(
        *("train", *of_posts, "--stores", json.dumps([str(store)])),
        *("--regions", "RegionEncoder", "--regions.size", "32", *QUICK),
        *("--model", "GEI", "--model.num_heads", "4", "--out", tmp_path / "out"),
    )
    model = tmp_path / "out" / "model"
    config = json.loads((model / "processor_config.json").read_text())
    assert [manifest["extractor"] for manifest in config["stores"]] == ["BackboneGrid"]
    scores = printed[printed.index("\ntest\n") + 6 : printed.index("\nmodel:")].strip()
    assert call("evaluate", "--model", model, *of_posts).strip().startswith(scores), "extracted from the images"

    lines = tmp_path / "lines.jsonl"
    evidence_options = ("--images", posts / "images", "--objects", posts / "objects.jsonl")
    call("predict", "--model", model, "--posts", posts / "test.txt", *evidence_options, "--out", lines)
    found = [json.loads(line) for line in lines.read_text().splitlines()]
    assert len(found) == 10
    call("explain", "--model", model, *of_posts, "--errors_only", "false", "--out", tmp_path / "page.html")
    assert "<html" in (tmp_path / "page.html").read_text()


def test_objects_of_a_detector(call: Call, posts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """UMGF: boxes, labels and vectors of a Faster R-CNN; prediction from the image only."""
    bare = tmp_path / "bare"  # no objects.jsonl in the folder, which would take precedence
    bare.mkdir()
    for split in ("train", "valid", "test"):
        shutil.copy(posts / f"{split}.txt", bare)
    (bare / "images").symlink_to(posts / "images")
    detector = (
        "--extractor.detector",
        "fasterrcnn_mobilenet_v3_large_320_fpn",
        "--extractor.min_size",
        "64",
        "--extractor.max_size",
        "128",
    )
    call(
        *("features", "--images", bare / "images", "--posts", bare, "--store", tmp_path / "store"),
        *("--extractor", "RCNNDetector", "--extractor.threshold", "0", "--extractor.top_k", "3", *detector),
    )
    of_posts = ("--data", "PostFolder", "--root", bare, "--data.mapping", "{OTHER: MISC}")
    stores = ("--stores", json.dumps([str(tmp_path / "store")]))
    job = ["train", *of_posts, *stores, *QUICK, "--out", tmp_path / "out", "--model", "UMGF"]
    job += ["--model.hidden_size", "16", "--model.num_heads", "2", "--model.num_layers", "1"]
    with pytest.raises(SystemExit):
        call(*job)
    assert "reads grounded objects, which no post of train, valid, test has: give" in capsys.readouterr().err
    call(*job, "--allow_missing", "[grounded objects]")
    model = tmp_path / "out" / "model"
    image = next((posts / "images").iterdir())
    post = ("--model", model, "--text", "Kevin Durant in Oakland", "--image", image)
    assert json.loads(call("predict", *post)) == json.loads(call("predict", *post, *stores))
    assert call("evaluate", "--model", model, *of_posts) == call("evaluate", "--model", model, *of_posts, *stores)


def test_images_that_a_store_lacks_are_counted(call: Call, posts: Path, tmp_path: Path) -> None:
    """Training does not run extractors: an image that no store has is missing, not to come."""
    some = tmp_path / "some"
    some.mkdir()
    for path in sorted((posts / "images").iterdir())[:4]:
        shutil.copy(path, some)
    store = tmp_path / "store"
    extractor = ("--extractor", "BackboneGrid", "--extractor.backbone", "resnet18", "--extractor.size", "32")
    call("features", "--images", some, "--store", store, *extractor)
    printed = call(
        *("train", "--data", "PostFolder", "--root", posts, "--stores", json.dumps([str(store)]), *QUICK),
        *("--model", "UMT", "--model.num_heads", "4", "--out", tmp_path / "out"),
        *("--allow_missing", "[image features]"),
    )
    missing = json.loads((tmp_path / "out" / "result.json").read_text())["posts without evidence"]
    counts = {split: kinds.get("image features", 0) for split, kinds in missing.items()}
    assert 0 < sum(counts.values()) < 30
    assert f"train: {counts['train']} of 10 posts have no image features, which the model reads" in printed
