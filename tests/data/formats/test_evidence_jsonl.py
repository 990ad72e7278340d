import json
import re
from pathlib import Path

import pytest

from mnergraph.data.formats.evidence_jsonl import (
    Detections,
    EvidenceError,
    read_captions,
    read_objects,
    write_captions,
    write_objects,
)
from mnergraph.pair import DetectedObject

GOOD = {"label": "dog", "score": 0.5, "box": [1, 2, 3, 4]}


def line(**changes: object) -> str:
    return json.dumps({"id": "1", "width": 10, "height": 20, "objects": [GOOD]} | changes)


def test_objects_written_and_read_are_the_same(tmp_path: Path) -> None:
    detections = {
        "1": Detections(
            10,
            20,
            (DetectedObject("a\u2028b", (0.5, 0, 10, 20), 0.25, (0, 2)), DetectedObject("", (1, 1, 2, 2))),
        ),
        "é": Detections(1, 1, ()),
    }
    write_objects(detections, tmp_path / "objects.jsonl")
    assert read_objects(tmp_path / "objects.jsonl") == detections


def test_captions_written_and_read_are_the_same(tmp_path: Path) -> None:
    captions = {"1": 'a man\u2028and "a" dog', "2": ""}
    write_captions(captions, tmp_path / "captions.jsonl")
    assert read_captions(tmp_path / "captions.jsonl") == captions


def test_overhanging_boxes_are_clipped_and_further_keys_ignored(tmp_path: Path) -> None:
    path = tmp_path / "objects.jsonl"
    path.write_text("\n" + line(objects=[GOOD | {"box": [-1, 2, 11.5, 20.01], "class": 3}], note="x") + "\r\n")
    assert read_objects(path)["1"].objects[0].box == (0, 2, 10, 20)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("{", ":1: not JSON"),
        ("[]", ':1: no text "id"'),
        (line(id=7), ':1: no text "id"'),
        (line(width=0), ":1: width and height are (0, 20)"),
        (line(height=True), ":1: width and height"),
        (line(objects=None), ':1: no list "objects"'),
        (line(objects=[GOOD, {"label": "dog", "score": 1}]), ':1: object 2: no "label" or no "box"'),
        (line(objects=[GOOD | {"score": 1.5}]), ":1: object 1: score 1.5; right is a number from 0 to 1"),
        (line(objects=[GOOD | {"score": float("nan")}]), ":1: object 1: score nan"),
        (line(objects=[GOOD | {"box": [1, 2, 3]}]), "is not four finite numbers; right is [x1, y1, x2, y2]"),
        (line(objects=[GOOD | {"box": [1, 2, 3, float("nan")]}]), "is not four finite numbers"),
        (line(objects=[GOOD | {"box": [1, 2, 3, 10**400]}]), "is not four finite numbers"),
        (line(objects=[GOOD | {"box": [3, 2, 1, 4]}]), "is empty or has its corners swapped"),
        (line(objects=[GOOD | {"box": [1, 2, 1, 4]}]), "is empty or has its corners swapped"),
        (line(objects=[GOOD | {"box": [10, 2, 12, 4]}]), "lies outside the image; right is"),
        (line(objects=[GOOD | {"words": [1]}]), ":1: object 1: words [1]; right is [start, end]"),
    ],
)
def test_faults_of_objects_name_file_and_line(tmp_path: Path, content: str, fault: str) -> None:
    path = tmp_path / "objects.jsonl"
    path.write_text(content)
    with pytest.raises(EvidenceError, match=re.escape(fault)) as caught:
        read_objects(path)
    assert str(caught.value).startswith(f"{path}:")
    assert "right" in str(caught.value)


@pytest.mark.parametrize("content", ['{"id": "1"}', '{"id": "1", "caption": null}', b'{"id": "1", "caption": "\xe9"}'])
def test_faults_of_captions_name_file_and_line(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "captions.jsonl"
    path.write_bytes(b"\n" + (content if isinstance(content, bytes) else content.encode()))
    with pytest.raises(EvidenceError, match=re.escape(f"{path}:2: ") + ".*right is"):
        read_captions(path)


def test_objects_without_boxes_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match="object 'dog' of '1' has no box"):
        write_objects({"1": Detections(1, 1, (DetectedObject("dog"),))}, tmp_path / "objects.jsonl")


def test_different_lines_of_one_id_are_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "captions.jsonl"
    path.write_text('{"id": "1", "caption": "a"}\n{"id": "2", "caption": "x"}\n{"id": "1", "caption": "b"}\n')
    with pytest.warns(UserWarning, match=re.escape("lines of one id differ ('1' on lines [1, 3]); the last is used")):
        assert read_captions(path) == {"1": "b", "2": "x"}
    path.write_text('{"id": "1", "caption": "a"}\n' * 2)
    assert read_captions(path) == {"1": "a"}


def test_real_files(shared: Path) -> None:
    assert len(read_captions(shared / "captions" / "twitter2015.jsonl")) == 8257
    # Five ids of these thirty posts stand for three posts each.
    with pytest.warns(UserWarning, match="'t17_1' on lines"):
        assert len(read_objects(shared / "posts" / "objects.jsonl")) == 20
