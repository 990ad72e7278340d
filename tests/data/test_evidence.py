import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from mnergraph.data.evidence import Coverage, Evidence
from mnergraph.data.formats.conll import read_conll
from mnergraph.data.formats.evidence_jsonl import Detections, EvidenceError, write_captions, write_objects
from mnergraph.data.formats.feature_file import write_features
from mnergraph.pair import DetectedObject, Pair

PAIRS = [Pair(("Kevin", "wins"), id="1"), Pair(("Rose",), id="2"), Pair(("May",), id="3")]
BOX = (0.0, 0.0, 1.0, 1.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    objects = (
        DetectedObject("ball", BOX, 0.25),
        DetectedObject("man", BOX, 0.75, (0, 1)),
        DetectedObject("cup", BOX, 0.5),
    )
    write_objects({"1": Detections(10, 20, objects), "9": Detections(1, 1, ())}, tmp_path / "objects.jsonl")
    write_captions({"1": "a man with the ball", "2": "a rose", "8": "x"}, tmp_path / "captions.jsonl")
    rows = torch.arange(3.0)[:, None].half()
    write_features({"1": rows}, {"2": torch.ones(1, 5)}, tmp_path / "features.safetensors")
    return tmp_path


def test_attach(folder: Path) -> None:
    first, second, third = Evidence.from_folder(folder).attach(PAIRS)
    assert [observed.label for observed in first.objects] == ["man", "cup", "ball", "man", "ball"]
    assert [observed.box for observed in first.objects] == [BOX] * 3 + [None] * 2
    # Rows follow the file's order, objects their score.
    assert [float(observed.region) for observed in first.objects if observed.region is not None] == [1, 2, 0]
    assert (first.size, first.caption, first.objects[0].span) == ((10, 20), "a man with the ball", (0, 1))
    assert second.objects == (DetectedObject("rose"),)
    assert second.image_features is not None
    assert third == PAIRS[2]


def test_attaching_twice_changes_nothing(folder: Path) -> None:
    evidence = Evidence.from_folder(folder)
    once = evidence.attach(PAIRS)
    assert evidence.attach(once) == once


def test_top_objects_bounds_the_boxes_only(folder: Path) -> None:
    evidence = Evidence(captions=folder / "captions.jsonl", objects=folder / "objects.jsonl", top_objects=1)
    assert [observed.label for observed in evidence.attach(PAIRS)[0].objects] == ["man", "man", "ball"]
    bare = Evidence(captions=folder / "captions.jsonl", caption_phrases=False).attach(PAIRS)[1]
    assert (bare.caption, bare.objects) == ("a rose", ())


@dataclass(frozen=True)
class Whole:
    def __call__(self, words: Sequence[str]) -> list[tuple[int, int]]:
        return [(0, len(words))]


def test_another_chunker(folder: Path) -> None:
    pair = Evidence(captions=folder / "captions.jsonl", chunker=Whole()).attach(PAIRS)[0]
    assert pair.objects == (DetectedObject("man with the ball"),)


def test_coverage_counts_posts_and_strangers(folder: Path) -> None:
    counted = Evidence.from_folder(folder).coverage(PAIRS)
    assert counted == Coverage(posts=3, captions=2, objects=1, regions=1, images=1, unmatched_ids=2)
    assert Evidence().coverage(PAIRS) == Coverage(posts=3)


def test_faults(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=re.escape("captions='nowhere.jsonl' is no file")):
        Evidence(captions="nowhere.jsonl")
    with pytest.raises(ValueError, match="top_objects is -1; right is a count"):
        Evidence(top_objects=-1)
    with pytest.raises(EvidenceError, match="has 3 rows but the objects file has 0 objects for '1'"):
        Evidence(features=folder / "features.safetensors").attach(PAIRS)
    write_objects({"1": Detections(9, 9, (DetectedObject("man", BOX, 1.0, (1, 5)),))}, folder / "objects.jsonl")
    with pytest.raises(ValueError, match="post '1': span 1:5 leaves its 2 words"):
        Evidence(objects=folder / "objects.jsonl").attach(PAIRS)


@pytest.mark.filterwarnings("ignore:.*lines of one id differ")
def test_real_posts(shared: Path) -> None:
    pairs = read_conll(shared / "posts" / "train.txt")
    evidence = Evidence.from_folder(shared / "posts")
    covered = evidence.coverage(pairs)
    assert (covered.posts, covered.captions, covered.unmatched_ids) == (10, 10, 10)
    assert all(pair.caption and pair.size for pair in evidence.attach(pairs))
