"""GroundedTwitter, and gold boxes of any data set."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from mnergraph.data.datasets.base import PostFolder
from mnergraph.data.datasets.grounded import GroundedTwitter
from mnergraph.data.datasets.twitter import Twitter2015, Twitter2017
from mnergraph.data.evidence import Evidence
from mnergraph.data.formats.boxes import GoldBox, GoldBoxes, write_boxes
from mnergraph.data.formats.conll import read_conll
from mnergraph.data.grounding_counts import GroundingCounts, count_grounding
from mnergraph.data.registry import DATASETS
from mnergraph.data.verify import verify, warn_of_remixed_splits, warn_of_shared_posts
from mnergraph.metrics.grounding import score_grounding
from mnergraph.pair import DetectedObject, GroundedEntity, Pair

TEXT = "IMGID:1\nAnn\tB-PER\nin\tO\nRome\tB-LOC\n\nIMGID:2\nhi\tO\n\n"
BOX = (1.0, 2.0, 9.0, 18.0)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose training text counts as the published one."""
    sums = {**GroundedTwitter.sha256, "train": hashlib.sha256(TEXT.encode()).hexdigest()}
    monkeypatch.setattr(GroundedTwitter, "sha256", sums)
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "train.txt").write_text(TEXT)
    return folder


def add_boxes(folder: Path) -> None:
    write_boxes({"1": GoldBoxes(10, 20, (GoldBox(BOX, "Ann"),)), "2": GoldBoxes(30, 40, ())}, folder / "boxes.jsonl")


def add_objects(folder: Path, *boxes: tuple[float, ...]) -> None:
    objects = [{"label": "x", "score": 0.5, "box": list(box)} for box in boxes]
    (folder / "objects.jsonl").write_text(json.dumps({"id": "1", "width": 10, "height": 20, "objects": objects}))


def test_posts_have_their_gold_boxes_and_image_sizes(root: Path) -> None:
    add_boxes(root)
    data = GroundedTwitter(root)
    assert [pair.grounding for pair in data.pairs] == [
        (GroundedEntity(0, 1, "PER", (BOX,)), GroundedEntity(2, 3, "LOC")),
        (),
    ]
    assert [pair.size for pair in data.pairs] == [(10, 20), (30, 40)]
    assert DATASETS["GroundedTwitter"] is GroundedTwitter


def test_the_layout_of_gmners_repository(root: Path) -> None:
    (root / "txt").mkdir()
    (root / "train.txt").rename(root / "txt" / "train.txt")
    (root / "xml").mkdir()
    (root / "xml" / "1.xml").write_text(
        "<annotation><size><width>10</width><height>20</height></size><object><name>Ann</name><bndbox><xmin>1</xmin>"
        "<ymin>2</ymin><xmax>9</xmax><ymax>18</ymax></bndbox></object></annotation>"
    )
    (root / "xml" / "7.xml").write_text("of a post of another split: not read")
    data = GroundedTwitter(root)
    assert data.pairs[0].grounding == (GroundedEntity(0, 1, "PER", (BOX,)), GroundedEntity(2, 3, "LOC"))
    assert verify(root, progress=False).grounding["train"] == data.grounding_counts


def test_without_boxes_it_says_where_they_are_to_be_had(root: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"boxes\.jsonl and no folder xml .*github\.com/NUSTM/GMNER.*boxes="):
        GroundedTwitter(root)
    assert PostFolder(root).pairs[0].grounding is None
    with pytest.raises(FileNotFoundError, match=r"boxes='nowhere' is not there"):
        PostFolder(root, boxes="nowhere")


def test_boxes_from_elsewhere(root: Path, tmp_path: Path) -> None:
    add_boxes(tmp_path)
    assert (
        PostFolder(root, boxes=tmp_path / "boxes.jsonl").pairs
        == GroundedTwitter(root, boxes=tmp_path / "boxes.jsonl").pairs
    )
    assert verify(root, boxes=tmp_path / "boxes.jsonl", progress=False).grounding["train"].groundable == 1


def test_another_text_is_read_with_a_warning_and_fine_types_are_types(root: Path) -> None:
    (root / "train.txt").write_text(TEXT.replace("B-PER", "B-person-actor_x").replace("B-LOC", "B-location-city"))
    add_boxes(root)
    with pytest.warns(UserWarning, match="is not the train split of GroundedTwitter as published"):
        data = GroundedTwitter(root)
    assert data.tags == ("O", "B-location-city", "I-location-city", "B-person-actor_x", "I-person-actor_x")
    gold = [pair.grounding or () for pair in data.pairs]
    assert gold[0] == (GroundedEntity(0, 1, "person-actor_x", (BOX,)), GroundedEntity(2, 3, "location-city"))
    assert set(score_grounding(gold, gold).gmner_by_type) == {"person-actor_x", "location-city"}


def test_new_evidence_keeps_the_gold_boxes(root: Path, tmp_path: Path) -> None:
    add_boxes(root)
    add_objects(tmp_path, BOX)
    data = GroundedTwitter(root).with_evidence(Evidence(objects=tmp_path / "objects.jsonl"))
    assert data.pairs[0].grounding == (GroundedEntity(0, 1, "PER", (BOX,)), GroundedEntity(2, 3, "LOC"))
    assert [item.box for item in data.pairs[0].objects] == [BOX]


def test_proposals_that_cover_no_gold_box_are_counted(root: Path) -> None:
    add_boxes(root)
    add_objects(root, (0, 0, 1, 1), (1, 2, 9, 17), (5, 5, 9, 9))
    assert GroundedTwitter(root).grounding_counts == GroundingCounts(2, 1, 0, 1, 1, 3, 0, 2, 1.0)
    add_objects(root, (0, 0, 1, 1))
    assert GroundedTwitter(root).grounding_counts == GroundingCounts(2, 1, 0, 1, 1, 1, 1, 1, 0.5)
    report = verify(root, progress=False)
    assert report.grounding["train"].uncovered == 1
    assert "train  2         1           0              1      1                 1          1" in str(report)
    assert "1                     50.00 %" in str(report)
    (root / "objects.jsonl").unlink()
    assert str(verify(root, progress=False)).count(" -  ") > 0


def test_counts_of_shared_boxes_and_of_posts_without_annotation() -> None:
    shared = (GroundedEntity(0, 1, "PER", (BOX, BOX)), GroundedEntity(1, 2, "PER", (BOX, BOX)))
    pairs = [
        Pair(("Ann", "Ann"), ("B-PER", "B-PER"), grounding=shared),
        Pair(("x",), objects=(DetectedObject("x", BOX),)),
    ]
    assert count_grounding(pairs) == GroundingCounts(2, 2, 2, 2, 1, 0, 2, 0, 0.0)
    assert count_grounding([]).ceiling == 1


def test_verify_reports_faulty_boxes(root: Path) -> None:
    write_boxes({"1": GoldBoxes(10, 20, (GoldBox(BOX, "May"),))}, root / "boxes.jsonl")
    assert any("1 gold boxes are of no entity of their post" in line for line in verify(root, progress=False).problems)
    (root / "boxes.jsonl").write_text("{")
    report = verify(root, progress=False)
    assert any("boxes.jsonl:1: not JSON" in line for line in report.problems)
    assert report.grounding == {}


def test_shared_posts_are_warned_of() -> None:
    train = [Pair(("a",), id="1"), Pair(("b", "c"), id="2"), Pair(("d",), id="3"), Pair(("x",))]
    test = [Pair(("e",), id="1"), Pair(("bc",), id="9"), Pair(("y",))]
    with pytest.warns(UserWarning, match=r"^2 training posts are test posts, too, by id or words \('1', '2'\)"):
        assert warn_of_shared_posts(train, test) == ["1", "2"]
    assert warn_of_shared_posts(train[2:], test) == []


def test_splits_that_were_mixed_anew_are_warned_of() -> None:
    for names in (("GroundedTwitter", "Twitter2017"), ("Twitter2015", "GroundedTwitter")):
        with pytest.warns(UserWarning, match=f"trained on {names[0]} and is scored on {names[1]}, which share posts"):
            assert warn_of_remixed_splits(*names)
    for others in (("GroundedTwitter",) * 2, ("Twitter2015", "Twitter2017"), ("", "GroundedTwitter")):
        assert not warn_of_remixed_splits(*others)


# As measured on v2.0: posts, entities, groundable, of these with several boxes, boxes, posts with a box.
TABLE = {
    "train": (7000, 11779, 4733, 421, 5652, 3925),
    "valid": (1500, 2450, 991, 85, 1164, 832),
    "test": (1500, 2543, 1046, 103, 1242, 855),
}


@pytest.mark.parametrize("split", TABLE)
def test_the_published_counts(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: str) -> None:
    monkeypatch.setenv("MNERGRAPH_CACHE", str(tmp_path))
    data = GroundedTwitter(shared / "grounded", split)
    counts = data.grounding_counts
    assert (
        len(data),
        counts.entities,
        counts.groundable,
        counts.several_boxes,
        counts.boxes,
        counts.posts_with_box,
    ) == TABLE[split]
    assert counts.uncovered == counts.groundable  # there are no proposals
    types = {entity.type for pair in data.pairs for entity in pair.grounding or ()}
    assert types == {"PER", "LOC", "ORG", "OTHER"}


def test_verify_prints_the_published_counts(shared: Path) -> None:
    report = verify(shared / "grounded", progress=False)
    assert {name: split.published for name, split in report.splits.items()} == {
        name: f"GroundedTwitter {name}" for name in TABLE
    }
    assert "train  11779     4733        421            5652   3925              0          -" in str(report)


def test_training_posts_that_are_test_posts_of_the_other_benchmarks(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MNERGRAPH_CACHE", str(tmp_path))
    train = read_conll(shared / "grounded" / "train.txt")
    test = [pair for kind in (Twitter2015, Twitter2017) for pair in kind(shared / kind.folder_name, "test").pairs]
    with pytest.warns(UserWarning, match="training posts are test posts, too"):
        found = warn_of_shared_posts(train, test)
    ids = {pair.id for pair in test}
    assert sum(name in ids for name in found) == 2030
    assert len(found) >= 2030
