"""Gold boxes: read from JSON lines and Pascal VOC, joined to entities by their words or span, never lost silently."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mnergraph.data.formats.boxes import (
    GoldBox,
    GoldBoxes,
    attach_gold_boxes,
    read_boxes,
    read_boxes_xml,
    with_gold_boxes,
    write_boxes,
)
from mnergraph.data.formats.evidence_jsonl import EvidenceError
from mnergraph.pair import DetectedObject, GroundedEntity, Pair

GOOD = {"entity": "Ann Lee", "box": [1, 2, 3, 4]}
POST = Pair(
    ("Ann", "Lee", "and", "Ann", "Lee", "in", "Rome"), ("B-PER", "I-PER", "O", "B-PER", "I-PER", "O", "B-LOC"), "1"
)
FIRST, SECOND = (0.0, 0.0, 5.0, 5.0), (5.0, 5.0, 9.0, 9.0)


def line(**changes: object) -> str:
    return json.dumps({"id": "1", "width": 10, "height": 20, "boxes": [GOOD]} | changes)


def xml(*objects: str, size: str = "<width>10</width><height>20</height>", before: str = "") -> str:
    return (
        f'<?xml version="1.0"?>{before}<annotation><size>{size}<depth>3</depth></size>{"".join(objects)}</annotation>'
    )


def box_xml(name: str, *sides: object) -> str:
    inner = "".join(f"<{tag}>{side}</{tag}>" for tag, side in zip(("xmin", "ymin", "xmax", "ymax"), sides, strict=True))
    return f"<object>\n<name>\n\t{name} </name><bndbox>{inner}</bndbox></object>"


def test_boxes_written_and_read_are_the_same(tmp_path: Path) -> None:
    boxes = {
        "1": GoldBoxes(
            10, 20, (GoldBox(FIRST, "a\u2028b"), GoldBox(SECOND, "c", (0, 1)), GoldBox(SECOND, None, (2, 4)))
        ),
        "é": GoldBoxes(1, 1, ()),
    }
    write_boxes(boxes, tmp_path / "boxes.jsonl")
    assert read_boxes(tmp_path / "boxes.jsonl") == boxes


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("{", ":1: not JSON"),
        (line(id=7), ':1: no text "id"'),
        (line(width=0), ":1: width and height are (0, 20); right are two whole numbers"),
        (line(boxes={}), ':1: no list "boxes"; right is {"id"'),
        (line(boxes=[GOOD, {"entity": "x"}]), ':1: box 2: no "box"'),
        (line(boxes=[{"box": [1, 2, 3, 4]}]), ':1: box 1: entity None and no "words"'),
        (line(boxes=[GOOD | {"entity": ""}]), ":1: box 1: entity ''"),
        (line(boxes=[GOOD | {"entity": 3, "words": [0, 1]}]), ":1: box 1: entity 3"),
        (line(boxes=[GOOD | {"words": [0]}]), ":1: box 1: words [0]; right is [start, end]"),
        (line(boxes=[GOOD | {"box": [3, 2, 1, 4]}]), ":1: box 1: box [3, 2, 1, 4] is empty"),
        (line(boxes=[GOOD | {"box": [11, 2, 12, 4]}]), ":1: box 1: box [11, 2, 12, 4] lies outside"),
    ],
)
def test_faults_name_file_and_line(tmp_path: Path, content: str, fault: str) -> None:
    (tmp_path / "boxes.jsonl").write_text(content)
    with pytest.raises(EvidenceError) as raised:
        read_boxes(tmp_path / "boxes.jsonl")
    assert f"{tmp_path / 'boxes.jsonl'}{fault}" in str(raised.value)


def test_xml_and_json_lines_give_the_same_boxes(tmp_path: Path) -> None:
    (tmp_path / "1.xml").write_text(xml(box_xml("AT&amp;T a\u00a0b", 1, 2.5, 3, 99), box_xml("Rome", 0, 0, 1, 1)))
    (tmp_path / "2.xml").write_text("not read")
    found = read_boxes_xml(tmp_path, {"1"})
    # A no-break space is part of a word; boxes are clipped to the image.
    boxes = (GoldBox((1, 2.5, 3, 20), "AT&T a\u00a0b"), GoldBox((0, 0, 1, 1), "Rome"))
    assert found == {"1": GoldBoxes(10, 20, boxes)}
    write_boxes(found, tmp_path / "boxes.jsonl")
    assert read_boxes(tmp_path / "boxes.jsonl") == found


LAUGHS = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]>'


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (xml(box_xml("&b;", 1, 2, 3, 4), before=LAUGHS), "a document type, which can define entities, is not read"),
        (xml(box_xml("&b;", 1, 2, 3, 4)), "not XML ('undefined entity"),
        ("", "not XML ('no element found"),
        ("<annotation>", "not XML"),
        ("<annotation/>", "width and height are (None, None)"),
        (xml(size="<width>0</width><height>x</height>"), "width and height are ('0', 'x')"),
        (xml("<object/>"), "object 1: no name"),
        (xml("<object><name>a</name></object>"), "object 1: box [None, None, None, None] is not four finite numbers"),
        (xml(box_xml("a", 1, 2, "nan", "four")), "object 1: box [1.0, 2.0, nan, 'four'] is not four finite numbers"),
        (xml(box_xml("a", 3, 2, 1, 4)), "object 1: box [3.0, 2.0, 1.0, 4.0] is empty or has its corners swapped"),
    ],
)
def test_faults_of_xml_name_the_file(tmp_path: Path, content: str, fault: str) -> None:
    (tmp_path / "1.xml").write_text(content)
    with pytest.raises(EvidenceError) as raised:
        read_boxes_xml(tmp_path)
    assert f"{tmp_path / '1.xml'}: {fault}" in str(raised.value)


def test_a_folder_without_xml_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"has no <id>\.xml; give the folder xml of GMNER"):
        read_boxes_xml(tmp_path)


def test_a_box_without_entity_is_an_error() -> None:
    with pytest.raises(ValueError, match="names no entity"):
        GoldBox(FIRST)


def test_mentions_of_the_same_words_share_all_boxes() -> None:
    found = with_gold_boxes(POST, GoldBoxes(10, 20, (GoldBox(FIRST, "Ann Lee"), GoldBox(SECOND, "Ann Lee"))))
    assert found.grounding == (
        GroundedEntity(0, 2, "PER", (FIRST, SECOND)),
        GroundedEntity(3, 5, "PER", (FIRST, SECOND)),
        GroundedEntity(6, 7, "LOC"),
    )
    assert found.size == (10, 20)


@pytest.mark.parametrize("entity", [None, "Ann Lee"])
def test_a_box_with_words_belongs_to_one_mention(entity: str | None) -> None:
    found = with_gold_boxes(POST, GoldBoxes(10, 20, (GoldBox(FIRST, entity, (3, 5)),)))
    assert [item.boxes for item in found.grounding or ()] == [(), (FIRST,), ()]


def test_posts_without_boxes_or_labels() -> None:
    none = with_gold_boxes(POST, None)
    assert [item.boxes for item in none.grounding or ()] == [(), (), ()]
    assert none.size is None
    plain = Pair(("hi",), ("O",), "2")
    assert with_gold_boxes(plain, None).grounding == ()
    unlabelled = with_gold_boxes(Pair(POST.words, id="1"), GoldBoxes(10, 20, (GoldBox(FIRST, "x"),)))
    assert (unlabelled.grounding, unlabelled.size) == (None, (10, 20))


def test_orphan_inside_tags_open_entities() -> None:
    pair = Pair(("Ann", "Lee"), ("I-PER", "I-PER"))
    found = with_gold_boxes(pair, GoldBoxes(10, 20, (GoldBox(FIRST, "Ann Lee"),)))
    assert found.grounding == (GroundedEntity(0, 2, "PER", (FIRST,)),)


@pytest.mark.parametrize(
    ("gold", "name"),
    [
        (GoldBox(FIRST, "Ann"), "'Ann'"),
        (GoldBox(FIRST, "Rome", (0, 2)), "'Rome at words 0:2'"),
        (GoldBox(FIRST, None, (0, 1)), "'words 0:1'"),
    ],
)
def test_a_box_of_no_entity_is_an_error(gold: GoldBox, name: str) -> None:
    with pytest.raises(EvidenceError) as raised:
        with_gold_boxes(POST, GoldBoxes(10, 20, (gold,), "boxes.jsonl:3"))
    entities = "'Ann Lee', 'Ann Lee', 'Rome'"
    assert str(raised.value) == (
        f"boxes.jsonl:3: {name} has a box and is no entity of post '1'; its entities are {entities}"
    )


def test_boxes_of_no_entity_are_counted_and_named() -> None:
    boxes = {
        "1": GoldBoxes(10, 20, (GoldBox(FIRST, "Rome"), GoldBox(SECOND, "rome"), GoldBox(SECOND, "Ann"))),
        "2": GoldBoxes(10, 20, (GoldBox(FIRST, "Rome"),)),
        "absent": GoldBoxes(10, 20, (GoldBox(FIRST, "x"),)),
        "unlabelled": GoldBoxes(10, 20, (GoldBox(FIRST, "x"),)),
    }
    pairs = [POST, Pair(("May",), ("B-PER",), "2"), Pair(("x",), id="unlabelled"), Pair(("y",), ("O",), "3")]
    with pytest.warns(UserWarning, match=r"^3 gold boxes are of no entity .* in 2 posts \('1: rome', '2: Rome'\)"):
        found = attach_gold_boxes(pairs, boxes)
    assert [item.boxes for item in found[0].grounding or ()] == [(), (), (FIRST,)]
    assert found[1].grounding == (GroundedEntity(0, 1, "PER"),)
    assert found[2].grounding is None
    assert found[3].grounding == ()


def test_posts_of_one_id_share_an_image() -> None:
    boxes = {"1": GoldBoxes(10, 20, (GoldBox(FIRST, "Rome"), GoldBox(SECOND, "May")))}
    found = attach_gold_boxes([POST, Pair(("May",), ("B-PER",), "1")], boxes)  # a warning would be an error
    assert [[item.boxes for item in pair.grounding or ()] for pair in found] == [[(), (), (FIRST,)], [(SECOND,)]]


def test_boxes_in_pixels_of_another_size() -> None:
    pair = Pair(("Rome",), ("B-LOC",), "1", size=(5, 5), objects=(DetectedObject("x", (0, 0, 1, 1)),))
    boxes = GoldBoxes(10, 20, (GoldBox(FIRST, "Rome"),))
    with pytest.raises(EvidenceError, match=r"post '1': boxes are in pixels of 10 x 20, but .* has \(5, 5\)"):
        with_gold_boxes(pair, boxes)
    with pytest.warns(UserWarning, match="gold boxes of 1 posts are in pixels of another size .*'1'"):
        assert attach_gold_boxes([pair], {"1": boxes})[0].size == (5, 5)
