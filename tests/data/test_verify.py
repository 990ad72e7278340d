import re
from pathlib import Path

import pytest
from PIL import Image

from mnergraph.data.datasets.base import PostFolder
from mnergraph.data.datasets.twitter import Twitter2017C
from mnergraph.data.formats.conll import read_conll
from mnergraph.data.verify import leaks, verify


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "train.txt").write_text("IMGID:1\nKevin\tB-PER\nLove\tI-PER\n\nIMGID:2\nin\tO\nRome\tI-LOC\n")
    (tmp_path / "test.txt").write_text("IMGID:3\nKevin\tB-PER\nLove\tO\n\nIMGID:2\nMay\tO\n\nIMGID:../x\nJune\tO\n")
    (tmp_path / "captions.jsonl").write_text('{"id": "1", "caption": "a man"}\n{"id": "8", "caption": "x"}\n')
    (tmp_path / "images").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "images" / "1.jpg", "PNG")
    return tmp_path


def test_a_report(root: Path) -> None:
    report = verify(root, progress=False)
    train, test = report.splits["train"], report.splits["test"]
    assert (train.posts, train.words, train.entities, train.lenient) == (
        2,
        4,
        {"PER": 1},
        {"PER": 1, "LOC": 1},
    )
    assert (train.orphans, train.orphan_posts, test.orphans) == (1, 1, 0)
    assert [(leak.places, leak.differs) for leak in report.text_leaks] == [((("train", "1"), ("test", "3")), True)]
    assert [(leak.places, leak.differs) for leak in report.id_leaks] == [((("train", "2"), ("test", "2")), True)]
    assert [(fault.id, fault.code) for fault in report.image_issues] == [
        ("1", "mislabelled"),
        ("2", "missing"),
        ("3", "missing"),
        ("../x", "refused"),
    ]
    assert report.image_files == {"train": 1, "test": 0}
    assert (report.coverage["train"].captions, report.coverage["test"].captions, report.unmatched_ids) == (
        1,
        0,
        1,
    )
    text = str(report)
    for part in (
        r"^train +2 +4 +0/1 +1 +1 +1 +0 +0 +0 +0 +not a published one \(\w{12}\)$",
        r"^- train: 1 orphan I- tags in 1 posts",
        r"^- 1 texts in several splits, 1 with other labels: train 1 = test 3$",
        r"^- 1 ids in several splits, 1 with other words: train 2 = test 2$",
        r"^- 1 images mislabelled: 1.jpg is PNG inside$",
        r"^- 2 images missing: 2; 3$",
    ):
        assert re.search(part, text, re.MULTILINE), part


def test_faults_are_reported_not_raised(root: Path) -> None:
    (root / "train.txt").write_text("IMGID:1\nKevin\tB-\n")
    (root / "captions.jsonl").write_text("{")
    problems = verify(root, images=root / "pics", progress=False).problems
    assert len(problems) == 3
    assert "pics is no folder of images" in problems[0]
    assert "train.txt:2: unknown tag 'B-'" in problems[1]
    assert "captions.jsonl:1: not JSON" in problems[2]
    with pytest.raises(FileNotFoundError, match=r"no train.txt, valid.txt or test.txt in"):
        verify(root / "images")


def test_nothing_wrong(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("IMGID:1\nRome\tB-LOC\n")
    report = verify(PostFolder(tmp_path))
    assert report.problems == []
    assert str(report).endswith("no problems")


@pytest.mark.filterwarnings("ignore:.*as published")
def test_a_data_set_is_checked_as_what_it_selects(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("IMGID:1\nRome\tB-LOC\n\nIMGID:2\nMay\tO\n\nIMGID:2\nJune\tO\n")
    report = verify(Twitter2017C(tmp_path, ids=["2"]))
    assert report.splits["train"].posts == 2
    assert re.match(r"train: not Twitter2017C as published: sha256 is \w{64}, published is 801e", report.problems[0])
    assert report.problems[1:] == ["train: 1 ids occur on several posts: 2"]


TABLE = {
    "twitter2015": {
        "train": (4000, 2217, 2091, 928, 940, 186),
        "valid": (1000, 552, 522, 247, 225, 53),
        "test": (3257, 1816, 1697, 839, 726, 135),
    },
    "twitter2017": {
        "train": (3373, 2943, 731, 1674, 701, 0),
        "valid": (723, 626, 173, 375, 150, 0),
        "test": (723, 621, 178, 395, 157, 0),
    },
}
# Where the papers' table counts more than there are B- tags: B- tags of the published files.
FEWER = {940: 931, 928: 927, 225: 220, 726: 720}


@pytest.mark.parametrize("name", TABLE)
def test_the_papers_counts(shared: Path, name: str) -> None:
    report = verify(shared / name)
    for split, (posts, *entities, orphans) in TABLE[name].items():
        found = report.splits[split]
        other = "OTHER" if name == "twitter2015" else "MISC"
        assert found.published == f"{name.title()} {split}"
        assert (found.posts, found.orphans) == (posts, orphans)
        assert [found.entities[kind] for kind in ("PER", "LOC", "ORG", other)] == [FEWER.get(n, n) for n in entities]
    counted = [(len(found), sum(leak.differs for leak in found)) for found in (report.text_leaks, report.id_leaks)]
    assert counted == ([(7, 3), (0, 0)] if name == "twitter2015" else [(1, 0), (0, 0)])


def test_real_pictures_and_their_ids(shared: Path) -> None:
    report = verify(shared / "posts", progress=False)
    assert {(fault.id, fault.code) for fault in report.image_issues} == {
        ("t15_113", "mislabelled"),
        ("t15_33", "mislabelled"),
    }
    assert [len(leak.places) for leak in report.id_leaks] == [3] * 5
    assert all(leak.differs for leak in report.id_leaks)
    assert sum("lines of one id differ" in problem for problem in report.problems) == 2


def test_leaks_between_data_sets(shared: Path) -> None:
    posts = {"GMNER train": read_conll(shared / "grounded" / "train.txt")}
    posts["Twitter2017 test"] = read_conll(shared / "twitter2017" / "test.txt")
    assert len(leaks(posts)) == 467
