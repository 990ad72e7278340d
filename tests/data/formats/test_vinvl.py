"""The converter: what VinVL wrote is what our readers read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mnergraph.data import Evidence, EvidenceError, convert_vinvl, open_features, read_objects
from mnergraph.pair import Pair

RANDOM = np.random.default_rng(0)
ROWS = RANDOM.random((5, 8), dtype=np.float32)
BOXES = np.array([[0, 0, 9, 9], [1, 2, 30.5, 40], [5, 5, 64.2, 48], [7, 7, 8, 8], [0, 0, 0, 0]], np.float32)


def arrays(**changes: Any) -> dict[str, Any]:
    """A file as GMNER distributes them: four objects, room for five."""
    made = {
        "num_boxes": np.array(4),
        "image_w": np.array(64),
        "image_h": np.array(48),
        "bounding_boxes": BOXES,
        "box_features": ROWS,
        "scores": np.array([0.2, 0.9, 0.5, 0.4, 0.0], np.float32),
        "objects": np.array(["man", "hat", "dog", "sky", ""]),
    }
    made |= changes
    return {name: array for name, array in made.items() if array is not None}


def test_objects_and_features(tmp_path: Path) -> None:
    np.savez(tmp_path / "7.jpg.npz", **arrays())
    np.savez(tmp_path / "17_06_1.npz", **arrays(num_boxes=np.array(0)))
    assert convert_vinvl(tmp_path, tmp_path / "out", progress=False) == 2
    detections = read_objects(tmp_path / "out" / "objects.jsonl")
    assert detections.keys() == {"7", "17_06_1"}
    observed = detections["7"]
    assert (observed.width, observed.height) == (64, 48)
    assert [thing.label for thing in observed.objects] == ["man", "hat", "dog", "sky"]
    assert [thing.score for thing in observed.objects] == pytest.approx([0.2, 0.9, 0.5, 0.4])
    assert observed.objects[2].box == (5, 5, 64, 48), "clipped to the image"
    assert detections["17_06_1"].objects == ()
    with open_features(tmp_path / "out" / "features.safetensors") as features:
        rows = features.regions("7", 4)
        assert rows is not None
        torch.testing.assert_close(rows, torch.from_numpy(ROWS[:4]).half().float())
    (pair,) = Evidence.from_folder(tmp_path / "out").attach([Pair(("a",), id="7")])
    assert [thing.label for thing in pair.objects] == ["hat", "dog", "sky", "man"]
    assert pair.objects[0].region is not None
    torch.testing.assert_close(pair.objects[0].region, torch.from_numpy(ROWS[1]).half().float())


def test_the_best_only_in_full_precision(tmp_path: Path) -> None:
    np.savez(tmp_path / "7.npz", **arrays())
    convert_vinvl(tmp_path, tmp_path, top_k=2, dtype=torch.float32, progress=False)
    assert [thing.label for thing in read_objects(tmp_path / "objects.jsonl")["7"].objects] == ["hat", "dog"]
    with open_features(tmp_path / "features.safetensors") as features:
        rows = features.regions("7", 2)
        assert rows is not None
        assert torch.equal(rows, torch.from_numpy(ROWS[[1, 2]]))


def test_bottom_up_attention(tmp_path: Path) -> None:
    np.savez_compressed(
        tmp_path / "7.npz",
        x=ROWS,
        bbox=BOXES,
        num_bbox=4,
        image_h=48,
        image_w=64,
        info={"objects_id": [1]},  # pickled, and never touched
    )
    convert_vinvl(tmp_path, tmp_path, progress=False)
    objects = read_objects(tmp_path / "objects.jsonl")["7"].objects
    assert [(thing.label, thing.score) for thing in objects] == [("", 1.0)] * 4


def test_labels_as_numbers_and_bytes(tmp_path: Path) -> None:
    np.savez(tmp_path / "7.npz", **arrays(objects=np.array([2, 0, 1, 1, 0])))
    with pytest.raises(EvidenceError, match=r"7.npz: 'objects' are numbers; give their class names"):
        convert_vinvl(tmp_path, tmp_path, progress=False)
    convert_vinvl(tmp_path, tmp_path, names=["a", "b", "c"], progress=False)
    objects = read_objects(tmp_path / "objects.jsonl")["7"].objects
    assert [thing.label for thing in objects] == ["c", "a", "b", "b"]
    np.savez(tmp_path / "7.npz", **arrays(objects=np.array([b"man", b"hat", b"dog", b"sky", b""])))
    convert_vinvl(tmp_path, tmp_path, progress=False)
    assert read_objects(tmp_path / "objects.jsonl")["7"].objects[0].label == "man"
    convert_vinvl(tmp_path, tmp_path, labels=False, progress=False)
    assert read_objects(tmp_path / "objects.jsonl")["7"].objects[0].label == ""


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"box_features": None},
            r"holds num_boxes, .*; right is bounding_boxes, box_features, num_box",
        ),
        ({"objects": np.array(["a", None], dtype=object)}, r"'objects' is pickled .* or give labels=False"),
        ({"scores": np.array([0.5])}, r"4 objects, but 4 boxes, 4 features, 1 scores and 4 labels"),
        ({"num_boxes": np.array(5)}, r"object 5: box \[0.0, 0.0, 0.0, 0.0\] is empty"),
        ({"box_features": ROWS * 1e6}, r"a feature is not finite, or too large for torch.float16"),
    ],
)
def test_faults_name_the_file(changes: dict[str, Any], told: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "7.npz", **arrays(**changes))
    with pytest.raises(EvidenceError, match=r"7\.npz.*" + told):
        convert_vinvl(tmp_path, tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


def test_what_is_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no .npz file in"):
        convert_vinvl(tmp_path, tmp_path)
    (tmp_path / "7.npz").write_bytes(b"PK\3\4 hello")
    with pytest.raises(EvidenceError, match=r"7.npz: not an .npz file"):
        convert_vinvl(tmp_path, tmp_path, progress=False)
    (tmp_path / "7.npz").unlink()
    for name in ("7.jpg.npz", "7.png.npz"):
        np.savez(tmp_path / name, **arrays())
    with pytest.raises(EvidenceError, match=r"7.png.npz: a second file for image '7'"):
        convert_vinvl(tmp_path, tmp_path, progress=False)
