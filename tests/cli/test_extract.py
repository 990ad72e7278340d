"""Images to a feature store and back: resumed, sharded, refused, plotted, and attached to posts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from mnergraph.cli.extract import features, plot_stored
from mnergraph.cli.extract import wanted_images as image_tasks
from mnergraph.cli.main import main
from mnergraph.data import Evidence, image_path_of, write_conll
from mnergraph.explain.plots.detections import plot_detections
from mnergraph.features.store.entries import from_store_entry, manifest_of, to_store_entry
from mnergraph.features.store.manifest import StoreError
from mnergraph.features.store.reader import FeatureStore
from mnergraph.features.store.writer import StoreWriter
from mnergraph.features.text.noun_chunks import RuleChunker
from mnergraph.features.vision.backbones import BackboneGrid
from mnergraph.features.vision.detectors import RCNNDetector
from mnergraph.features.vision.extractor import Extractor, ImageEvidence
from mnergraph.features.vision.image_io import file_sha256
from mnergraph.features.vision.registry import EXTRACTORS
from mnergraph.pair import DetectedObject, Pair

SMALL = BackboneGrid("resnet18", size=32)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Seven images: five that differ, a copy, and a web page; one has a blank and an emoji in its name."""
    folder = tmp_path / "images"
    folder.mkdir()
    for index, name in enumerate(("a", "b", "c", "d", "e 😀")):
        Image.new("RGB", (40 + index, 30), (50 * index, 90, 200)).save(folder / f"{name}.png")
    (folder / "copy.png").write_bytes((folder / "a.png").read_bytes())
    (folder / "page.jpg").write_text("<!doctype html>")
    return folder


def test_images_to_a_store(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = features(images, tmp_path / "store", SMALL, progress=False)
    assert done is not None
    assert (done.num_images, done.extracted, done.known) == (7, 6, 1)
    assert capsys.readouterr().out == (
        "7 images: 6 extracted now, 1 known\n1 html (a web page saved as an image): page\n"
    )
    store = FeatureStore(tmp_path / "store", manifest_of(SMALL))
    for path in images.iterdir():
        (direct,) = SMALL.extract([path], progress=False)
        stored = from_store_entry(store, file_sha256(path))
        assert stored.size == direct.size
        if direct.grid is None:
            assert stored.grid is stored.pooled is None
            assert stored.issue is not None
            assert stored.issue.code == "html"
        else:
            torch.testing.assert_close(stored.grid, direct.grid)
            torch.testing.assert_close(stored.pooled, direct.pooled)
    again = features(images, tmp_path / "store", SMALL, progress=False)
    assert again is not None
    assert (again.extracted, again.known) == (0, 7)


def test_other_settings_are_refused(images: Path, tmp_path: Path) -> None:
    features(images, tmp_path / "store", SMALL, progress=False)
    with pytest.raises(StoreError, match=r"settings\.size: 32 there, 48 here"):
        features(images, tmp_path / "store", BackboneGrid("resnet18", size=48), progress=False)
    with pytest.raises(StoreError, match=r"settings\.seed: 0 there, 1 here; weights: '\w+' there, '\w+' here"):
        features(images, tmp_path / "store", BackboneGrid("resnet18", size=32, seed=1), progress=False)
    with pytest.raises(StoreError, match=r"dtype: 'float32' there, 'float16' here"):
        features(images, tmp_path / "store", SMALL, dtype="float16", progress=False)


class Killed(BaseException):
    pass


def test_interrupted_extraction_is_resumed(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, add, left = tmp_path / "store", StoreWriter.add, 3

    def killed(self: StoreWriter, *args: Any) -> None:
        nonlocal left
        if left == 0:
            raise Killed
        left -= 1
        add(self, *args)
        self.flush()

    with monkeypatch.context() as patch:
        patch.setattr(StoreWriter, "add", killed)
        with pytest.raises(Killed):
            features(images, folder, SMALL, progress=False)
    assert len(FeatureStore(folder)) == 3
    rest = features(images, folder, SMALL, progress=False)
    assert rest is not None
    assert rest.extracted == 3
    assert len(FeatureStore(folder)) == 6


def by_shard(images: Path, store: Path, part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    features(images, store, SMALL, shard=f"{part + 1}/3", progress=False)


def by_torchrun(images: Path, store: Path, part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", str(part))
    monkeypatch.setenv("WORLD_SIZE", "3")
    features(images, store, SMALL, progress=False)


@pytest.mark.parametrize("run", [by_shard, by_torchrun])
def test_shards_make_the_whole_store(
    run: Callable[..., None], images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in range(3):
        run(images, tmp_path / "shares", part, monkeypatch)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.delenv("RANK", raising=False)
    features(images, tmp_path / "whole", SMALL, progress=False)
    shares, whole = FeatureStore(tmp_path / "shares"), FeatureStore(tmp_path / "whole")
    assert set(shares) == set(whole)
    assert len(list((tmp_path / "shares").glob("shards-*.jsonl"))) == 3
    for key in whole:
        for name, rows in whole[key].items():
            torch.testing.assert_close(shares[key].get(name, rows[:0]), rows)


@pytest.mark.parametrize("shard", ["0/2", "3/2", "2", "a/b", "1/0"])
def test_invalid_shards(shard: str, images: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"shard is i/n, from 1/n to n/n, not '{shard}'"):
        features(images, tmp_path / "store", SMALL, shard=shard, progress=False)


def test_all_evidence_is_read_back(tmp_path: Path) -> None:
    detections = (
        DetectedObject("hat", (0.5, 1.25, 10.0, 12.0), 0.75, region=torch.ones(3)),
        DetectedObject("dog", (1.0, 2.0, 3.0, 4.0), 0.5, span=(1, 2)),
    )
    full = ImageEvidence((40, 30), detections, torch.randn(4, 5), torch.randn(5), "a hat")
    empty = ImageEvidence((40, 30), ())
    with StoreWriter(tmp_path, manifest_of(SMALL, "float16")) as writer:
        for key, evidence in (("0" * 64, full), ("1" * 64, empty)):
            writer.add(key, *to_store_entry(evidence))
    store = FeatureStore(tmp_path)
    back = from_store_entry(store, "0" * 64)
    assert (back.size, back.caption, back.objects) == (full.size, "a hat", detections)
    assert back.objects is not None
    assert torch.equal(back.objects[0].region, torch.ones(3).half())
    assert back.objects[1].region is None
    assert torch.equal(back.grid, full.grid.half())
    assert from_store_entry(store, "1" * 64) == empty


# --- posts


def test_only_images_of_posts(images: Path, tmp_path: Path) -> None:
    posts = tmp_path / "posts"
    posts.mkdir()
    write_conll([Pair(("A", "dog"), ("O", "O"), name) for name in ("a", "b", "gone")], posts / "train.txt")
    assert [one.id for one in image_tasks(images, posts, None)] == ["a", "b"]
    tasks = image_tasks(images, posts, RuleChunker())
    assert [[phrase.text for phrase in one.phrases or ()] for one in tasks] == [["A dog"]] * 2
    assert tasks[0].key != file_sha256(images / "a.png")
    with pytest.raises(ValueError, match="reads the posts' sentences: give posts"):
        image_tasks(images, None, RuleChunker())
    with pytest.raises(FileNotFoundError, match=r"no train\.txt, valid\.txt \(or dev\.txt, val\.txt\) or test\.txt in"):
        image_tasks(images, tmp_path, None)


@pytest.mark.parametrize("name", ["dev.txt", "val.txt", "raw/dev.txt"])
def test_the_images_of_a_validation_file_of_any_name(name: str, images: Path, tmp_path: Path) -> None:
    path = tmp_path / "posts" / name
    path.parent.mkdir(parents=True)
    write_conll([Pair(("A", "dog"), ("O", "O"), "b")], path)
    write_conll([Pair(("A", "cat"), ("O", "O"), "a")], path.with_name("train.txt"))
    assert [task.id for task in image_tasks(images, tmp_path / "posts", None)] == ["a", "b"]
    done = features(images, tmp_path / "store", SMALL, tmp_path / "posts", progress=False)
    assert done is not None
    assert done.num_images == 2


def test_posts_read_a_store(images: Path, tmp_path: Path) -> None:
    features(images, tmp_path / "store", SMALL, progress=False)
    posts = [
        Pair(("Hi",), None, name, image_path=image_path_of(images, name) if name != "no image" else None)
        for name in ("a", "copy", "page", "no image")
    ]
    found = Evidence(stores=(tmp_path / "store",)).attach(posts)
    (direct,) = SMALL.extract([images / "a.png"], progress=False)
    for pair in found[:2]:
        torch.testing.assert_close(pair.image_features, direct.grid)
        assert pair.size == (40, 30)
    assert found[2].image_features is found[3].image_features is None
    pooled = Evidence(stores=(tmp_path / "store",), image_nodes="pooled").attach(posts)
    torch.testing.assert_close(pooled[0].image_features, direct.pooled[None])
    assert Evidence(stores=(tmp_path / "store",)).coverage(found).images == 2
    with pytest.raises(FileNotFoundError, match=r"is no feature store"):
        Evidence(stores=(tmp_path,))


# --- inspect


def test_inspect(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "a.png"
    features(images, tmp_path / "store", SMALL, progress=False)
    features(images, tmp_path / "store", SMALL, inspect="a", out=target)
    assert capsys.readouterr().out.endswith(f"{target}\n")
    with Image.open(target) as drawn:
        assert drawn.width > 500
    store = FeatureStore(tmp_path / "store")
    with pytest.raises(FileNotFoundError, match="there is no image of 'z'; there are 7 others"):
        plot_stored(store, image_tasks(images, None, None), "z")
    Image.new("RGB", (9, 9)).save(images / "new.png")
    with pytest.raises(KeyError, match="has no entry for image 'new': extract it first"):
        plot_stored(store, image_tasks(images, None, None), "new")


def test_drawn_evidence_has_labels_and_scores() -> None:
    detections = tuple(
        DetectedObject(f"object $x_{index}$", (index, index, index + 9, index + 9), 0.5, span=(1, 3))
        for index in range(50)
    )
    evidence = ImageEvidence((100, 80), detections, torch.zeros(49, 8), None, "a caption")
    figure = plot_detections(Image.new("RGB", (100, 80)), evidence, title="post 7")
    (ax,) = figure.axes
    panel, listed = ax.child_axes
    assert [text.get_text() for text in panel.texts] == [str(index) for index in reversed(range(20))]
    texts = [text.get_text() for text in listed.texts]
    assert texts[:3] == ["0", "object $x_0$ [1:3]", "0.50"]
    assert texts[-1] == "30 of 50 objects with lower scores left out"
    assert ax.get_title("left") == "post 7\na caption\ngrid [49, 8]"
    none = plot_detections(Image.new("RGB", (100, 80)), ImageEvidence((100, 80), ()))
    assert [text.get_text() for text in none.axes[0].child_axes[1].texts] == ["no objects"]


def test_the_command(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = ["features", "--images", str(images), "--store", str(tmp_path / "store"), "--progress", "false"]
    main([*job, "--extractor", "BackboneGrid", "--extractor.backbone", "resnet18", "--extractor.size", "32"])
    assert "7 images: 6 extracted now, 1 known" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([*job, "--extractor", "BackboneGrid", "--extractor.backbone", "resnet18", "--extractor.size", "48"])
    assert "settings.size: 32 there, 48 here" in capsys.readouterr().err
    main(["ls"])
    printed = capsys.readouterr().out
    assert all(f"  {name} " in printed for name in EXTRACTORS)
    assert {BackboneGrid, RCNNDetector} <= set(EXTRACTORS.values())
    assert all(issubclass(kind, Extractor) for kind in EXTRACTORS.values())


def test_store_is_exported_as_evidence_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, store, out = tmp_path / "images", tmp_path / "store", tmp_path / "posts"
    folder.mkdir()
    for name in ("1", "2", "3"):
        Image.new("RGB", (40, 30 + int(name)), (90, 60 * int(name), 0)).save(folder / f"{name}.png")
    detector = RCNNDetector("fasterrcnn_mobilenet_v3_large_320_fpn", threshold=0.0, top_k=2, min_size=32, max_size=64)
    features(folder, store, detector, progress=False)
    (folder / "new.png").write_bytes((folder / "1.png").read_bytes() + b" ")
    capsys.readouterr()
    main(["export", "--store", str(store), "--images", str(folder), "--out", str(out), "--progress", "false"])
    assert capsys.readouterr().out.splitlines() == [
        "3 images, 1 that the store does not have",
        str(out / "objects.jsonl"),
        str(out / "features.safetensors"),
    ]
    pairs = [Pair(("a",), ("O",), name, image_path=folder / f"{name}.png") for name in "123"]
    of_files, of_store = Evidence.from_folder(out).attach(pairs), Evidence(stores=(store,)).attach(pairs)
    for one, other in zip(of_files, of_store, strict=True):
        assert one.size == other.size
        assert [item.label for item in one.objects] == [item.label for item in other.objects]
        for a, b in zip(one.objects, other.objects, strict=True):
            assert a.box == pytest.approx(b.box, abs=0.01)
            assert torch.equal(a.region, b.region)
    with pytest.raises(SystemExit):
        main(["export", "--store", str(store), "--images", str(folder), "--out", str(out), "--progress", "false"])
    assert "objects.jsonl" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "empty" / "x.png")
    with pytest.raises(SystemExit):
        main(["export", "--store", str(store), "--images", str(tmp_path / "empty"), "--out", str(tmp_path / "o")])
    assert "has none of the 1 images" in capsys.readouterr().err
