"""Label Studio, doccano and brat: round trips of random posts, faults by their places, policies counted."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from annotated_posts import content, numbered, posts
from hypothesis import given, settings
from hypothesis import strategies as st

from mnergraph.data.formats.brat import read_brat, write_brat
from mnergraph.data.formats.doccano import read_doccano, write_doccano
from mnergraph.data.formats.label_studio import labeling_config, read_label_studio, write_label_studio
from mnergraph.data.formats.predictions import read_predictions
from mnergraph.data.formats.text_spans import AnnotatedText, AnnotationError, Notes, TextSpan
from mnergraph.labels import Entity, Region
from mnergraph.pair import DetectedObject, GroundedEntity, Pair

EXAMPLES = settings(max_examples=60, deadline=None)
MANY = st.lists(posts(), min_size=1, max_size=4).map(numbered)
GROUNDED = st.lists(posts(grounded=True), min_size=1, max_size=4).map(numbered)
PLAIN = st.lists(posts(plain=True), min_size=1, max_size=4).map(numbered)


def back(
    pairs: list[Pair], write: Callable[..., None], read: Callable[..., list[AnnotatedText]], **to_pair: Any
) -> list[Pair]:
    """The posts after writing and reading."""
    with tempfile.TemporaryDirectory() as folder:
        write([AnnotatedText.from_pair(pair) for pair in pairs], Path(folder) / "file")
        return [text.to_pair(**to_pair) for text in read(Path(folder) / "file")]


@EXAMPLES
@given(st.one_of(MANY, PLAIN))
def test_round_trip_label_studio(pairs: list[Pair]) -> None:
    assert list(map(content, back(pairs, write_label_studio, read_label_studio))) == list(map(content, pairs))


@EXAMPLES
@given(GROUNDED)
def test_round_trip_of_boxes(pairs: list[Pair]) -> None:
    found = back(pairs, write_label_studio, read_label_studio)
    assert list(map(content, found)) == list(map(content, pairs))
    if any(entity.boxes for pair in pairs for entity in pair.grounding or ()):
        assert [pair.grounding for pair in found] == [pair.grounding for pair in pairs]
    else:
        assert all(pair.grounding is None for pair in found), "no relation in the file: no boxes are annotated"


@EXAMPLES
@given(st.one_of(MANY, PLAIN))
def test_round_trip_doccano(pairs: list[Pair]) -> None:
    assert list(map(content, back(pairs, write_doccano, read_doccano))) == list(map(content, pairs))


@EXAMPLES
@given(PLAIN)
def test_round_trip_doccano_in_graphemes(pairs: list[Pair]) -> None:
    def write(texts: list[AnnotatedText], path: Path) -> None:
        write_doccano(texts, path, graphemes=True)

    def read(path: Path) -> list[AnnotatedText]:
        return read_doccano(path, graphemes=True)

    assert list(map(content, back(pairs, write, read))) == list(map(content, pairs))


@EXAMPLES
@given(MANY)
def test_round_trip_brat(pairs: list[Pair]) -> None:
    assert list(map(content, back(pairs, write_brat, read_brat))) == list(map(content, pairs))


@EXAMPLES
@given(PLAIN)
def test_round_trip_brat_of_words(pairs: list[Pair]) -> None:
    found = back(pairs, write_brat, read_brat, tokenizer="spaces")
    assert list(map(content, found)) == list(map(content, pairs))


# --- spans and words ----------------------------------------------------------------------------------


def text(*spans: TextSpan, of: str = "Kawhi Leonard  wins", **fields: Any) -> AnnotatedText:
    return AnnotatedText(of, spans, where="export.json: task 7", **fields)


@pytest.mark.parametrize(
    ("span", "fault"),
    [
        (
            TextSpan(1, 5, "PER"),
            "7: span 1:5 (PER) 'awhi' cuts 'Kawhi'; move it in the tool, or set align to expand",
        ),
        (TextSpan(0, 8, "PER"), "span 0:8 (PER) 'Kawhi Le' cuts 'Kawhi' or 'Leonard'"),
        (TextSpan(0, 40, "PER"), "task 7: span 0:40 (PER) leaves the text of 19 characters, or is empty"),
        (TextSpan(3, 3, "PER"), "leaves the text of 19 characters, or is empty"),
        (TextSpan(13, 15, "PER"), "span 13:15 (PER) covers white space alone; delete it in the tool"),
        (TextSpan(0, 5, "Sports team"), "task 7: type 'Sports team' holds white space"),
        (TextSpan(0, 5, ""), "type '' holds white space"),
    ],
)
def test_faults_of_spans(span: TextSpan, fault: str) -> None:
    with pytest.raises(AnnotationError) as raised:
        text(span).to_pair()
    assert fault in str(raised.value)


def test_cut_words_are_expanded_and_counted() -> None:
    notes = Notes()
    pair = text(TextSpan(2, 9, "PER"), TextSpan(15, 19, "O-K")).to_pair(align="expand", notes=notes)
    assert pair.labels == ("B-PER", "I-PER", "B-O-K")
    assert notes.lines() == ["1 spans cut a word and were expanded to whole words (export.json: task 7)"]


def test_white_space_at_the_ends_is_left_out() -> None:
    notes = Notes()
    assert text(TextSpan(5, 15, "PER")).to_pair(notes=notes).labels == ("O", "B-PER", "O")
    assert notes.counts == {"spans have white space at their ends, which is left out": 1}


def test_nested_spans() -> None:
    nested = text(TextSpan(6, 13, "PER"), TextSpan(0, 13, "PER", ((1, 2, 3, 4),)), TextSpan(15, 19, "X"), grounded=True)
    with pytest.raises(AnnotationError, match=r"task 7: 'Leonard' \(PER\) and 'Kawhi Leonard' \(PER\) share words"):
        nested.to_pair()
    notes = Notes()
    pair = nested.to_pair(overlap="longest", notes=notes)
    assert pair.grounding == (GroundedEntity(0, 2, "PER", ((1, 2, 3, 4),)), GroundedEntity(2, 3, "X"))
    assert notes.counts == {"spans share words with a longer one and were left out": 1}


def test_a_span_twice_is_one() -> None:
    notes = Notes()
    twice = text(TextSpan(0, 5, "PER", ((1, 2, 3, 4),)), TextSpan(0, 5, "PER", ((5, 6, 7, 8),)), grounded=True)
    (entity,) = twice.to_pair(notes=notes).grounding or ()
    assert entity.boxes == ((1, 2, 3, 4), (5, 6, 7, 8))
    assert notes.counts == {"spans occur twice and were merged": 1}


def test_a_text_without_words_is_an_error() -> None:
    with pytest.raises(AnnotationError, match=r"task 7: the text ' \\n' holds no word"):
        text(of=" \n").to_pair()


# --- Label Studio -------------------------------------------------------------------------------------


def region(start: int, end: int, written: str | None, *labels: str, id: str = "a") -> dict[str, Any]:
    value: dict[str, Any] = {"start": start, "end": end, "labels": list(labels)}
    return {"id": id, "type": "labels", "value": value | ({} if written is None else {"text": written})}


def rectangle(x: Any, y: float, width: float, height: float, id: str = "b", **more: Any) -> dict[str, Any]:
    value = {"x": x, "y": y, "width": width, "height": height, "rectanglelabels": ["PER"], **more}
    return {"id": id, "type": "rectanglelabels", "original_width": 200, "original_height": 100, "value": value}


def relation(first: str, second: str) -> dict[str, Any]:
    return {"type": "relation", "from_id": first, "to_id": second, "direction": "right"}


def export(tmp_path: Path, *results: list[dict[str, Any]] | None, of: str = "💩 Kawhi wins", **task: Any) -> Path:
    tasks = [
        {"id": 7 + n, "data": {"text": of, "image": "/data/upload/1/0a1b2c3d-k.jpg"}, **task}
        | ({} if result is None else {"annotations": [{"result": result}]})
        for n, result in enumerate(results)
    ]
    path = tmp_path / "export.json"
    path.write_text(json.dumps(tasks), encoding="utf-8")
    return path


def test_an_entity_has_the_rectangles_that_a_relation_joins_it_with(tmp_path: Path) -> None:
    result = [
        region(2, 7, "Kawhi", "PER"),
        rectangle(10, 20, 30, 40),
        rectangle(0, 0, 50, 50, id="c"),
        rectangle(1, 1, 1, 1, id="d", rectanglelabels=["ball"]),
        relation("a", "b"),
        relation("c", "a"),
        relation("b", "c"),
    ]
    notes = Notes()
    first, second = read_label_studio(export(tmp_path, result, []), notes=notes)
    pair = first.to_pair()
    assert pair.grounding == (GroundedEntity(1, 2, "PER", ((20, 20, 80, 60), (0, 0, 100, 50))),)
    assert pair.objects == (DetectedObject("ball", (2, 1, 4, 2)),)
    assert (pair.id, pair.size, first.image) == ("7", (200, 100), "/data/upload/1/0a1b2c3d-k.jpg")
    assert second.to_pair().grounding == ()
    assert notes.counts == {
        "relations that join no span with a rectangle were left out": 1,
        "rectangles without a relation to a span are objects of their post": 1,
    }


def test_offsets_of_old_versions_are_utf16_units(tmp_path: Path) -> None:
    notes = Notes()
    (found,) = read_label_studio(export(tmp_path, [region(3, 8, "Kawhi", "PER")]), notes=notes)
    assert found.spans == (TextSpan(2, 7, "PER"),)
    assert notes.counts == {"spans were counted in UTF-16 units and converted to characters": 1}


def test_rotated_rectangles_become_upright(tmp_path: Path) -> None:
    notes = Notes()
    result = [region(2, 7, None, "PER"), rectangle(50, 50, 10, 10, rotation=90), relation("a", "b")]
    (found,) = read_label_studio(export(tmp_path, result), notes=notes)
    assert found.spans is not None
    # a width of 20 and a height of 10 pixels, turned about the corner at (100, 50)
    assert found.spans[0].boxes == ((90, 50, 100, 70),)
    assert notes.counts == {"rotated rectangles became the upright boxes around them": 1}


def test_which_annotation_is_taken(tmp_path: Path) -> None:
    def annotation(label: str, **fields: Any) -> dict[str, Any]:
        return {"result": [region(2, 7, "Kawhi", label)], **fields}

    several = [
        annotation("A", updated_at="2026-01-01", ground_truth=True),
        annotation("B", updated_at="2026-03-01"),
        annotation("C", updated_at="2026-02-01"),
        annotation("D", updated_at="2026-04-01", was_cancelled=True),
    ]
    notes = Notes()
    for kept, label in ((several, "A"), (several[1:], "B")):
        (found,) = read_label_studio(export(tmp_path, None, annotations=kept), notes=notes)
        assert found.spans == (TextSpan(2, 7, label),)
    assert notes.counts == {
        "cancelled annotations were left out": 2,
        "tasks have several annotations: the ground truth, or else the latest, is taken": 2,
    }
    (none,) = read_label_studio(export(tmp_path, None, annotations=several[3:]))
    assert none.spans is None


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("{", "not JSON"),
        ("{}", "no list of tasks"),
        ("[3]", 'task number 1: no object "data"'),
        ('[{"id": 7, "text": "a", "label": []}]', "this looks like JSON-MIN, which has no relations: export as JSON"),
        ('[{"id": 7, "data": {"post": "a"}}]', "task 7: its data has no text 'text', but 'post'; name the field"),
        ('[{"id": 7, "data": {"text": "a", "words": [[3, 1]]}}]', "task 7: words [[3, 1]] are no offsets"),
        ('[{"id": 7, "data": {"text": "a"}, "annotations": [3]}]', "task 7: annotations is no list of objects"),
        ('[{"id": 7, "data": {"text": "a"}, "annotations": [{}]}]', 'task 7: its annotation has no list "result"'),
    ],
)
def test_faults_of_label_studio_files(tmp_path: Path, content: str, fault: str) -> None:
    path = tmp_path / "export.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(AnnotationError) as raised:
        read_label_studio(path)
    assert str(path) in str(raised.value)
    assert fault in str(raised.value)


@pytest.mark.parametrize(
    ("bad", "fault"),
    [
        (
            region(2, 7, "Other", "PER"),
            "7: region a: span 2:7 is 'Kawhi' in the text, but 'Other' in the",
        ),
        (region(2, 7, "Kawhi"), "task 7: region a: the span 'Kawhi' has no label"),
        (region(7, 2, "Kawhi", "PER"), "start 7 and end 2 are no offsets"),
        (
            {**rectangle(1, 1, 1, 1), "original_width": None},
            "b: original_width and original_height are (None, 100)",
        ),
        ({**rectangle(1, 1, 1, 1), "image_rotation": 90}, "region b: the image was rotated in the tool"),
        (rectangle(110, 1, 1, 1), "lies outside the image"),
        (rectangle(1, 1, 0, 1), "is empty"),
        (rectangle("1", 1, 1, 1), "not percentages"),
    ],
)
def test_faults_of_regions(tmp_path: Path, bad: dict[str, Any], fault: str) -> None:
    with pytest.raises(AnnotationError) as raised:
        read_label_studio(export(tmp_path, [bad]))
    assert fault in str(raised.value)


def test_predictions_have_scores_and_a_version(tmp_path: Path) -> None:
    pair = Pair(("Kawhi", "wins", "Oslo"), id="7", image_path=Path("images/7.jpg"), size=(200, 100))
    found = [Entity(0, 1, "PER", 0.9, Region(0.8, 0, (20, 20, 80, 60), "man")), Entity(2, 3, "LOC", 0.4, Region(0.7))]
    written = AnnotatedText.from_pair(pair, found)
    path = tmp_path / "tasks.json"
    write_label_studio([written], path, predictions=True, model_version="umgf-1", image_prefix="/files/?d=")
    (task,) = json.loads(path.read_text(encoding="utf-8"))
    assert task["data"]["image"] == "/files/?d=7.jpg"
    assert "annotations" not in task
    (prediction,) = task["predictions"]
    assert (prediction["score"], prediction["model_version"]) == (0.4, "umgf-1")
    entity, place, box, joined = prediction["result"]
    assert (entity["score"], place["score"], box["score"]) == (0.9, 0.4, 0.8)
    assert [box["value"][side] for side in ("x", "y", "width", "height")] == [10, 20, 30, 40]
    assert (joined["from_id"], joined["to_id"]) == (entity["id"], box["id"])


def test_the_interface_names_the_controls_of_the_tasks(tmp_path: Path) -> None:
    pair = Pair(("a",), ("B-X",), size=(9, 9), grounding=(GroundedEntity(0, 1, "X", ((1, 2, 3, 4),)),))
    write_label_studio([AnnotatedText.from_pair(pair)], tmp_path / "tasks.json")
    (task,) = json.loads((tmp_path / "tasks.json").read_text(encoding="utf-8"))
    root = ElementTree.fromstring(labeling_config(['R&"D"', "X"]))
    controls = {child.get("name"): child.get("toName") for child in root if child.get("name")}
    for each in task["annotations"][0]["result"][:2]:
        assert controls[each["from_name"]] == each["to_name"]
        assert each["to_name"] in controls
    assert [label.get("value") for label in root.findall("Labels/Label")] == ['R&"D"', "X"]
    assert root.find("Image") is not None
    assert "Image" not in labeling_config(["X"], image=False)
    root = ElementTree.fromstring(labeling_config(["X"], objects=["dog", "X"]))
    values = {name: [label.get("value") for label in root.find(name) or ()] for name in ("Labels", "RectangleLabels")}
    assert values == {"Labels": ["X"], "RectangleLabels": ["X", "dog"]}


# --- doccano and brat ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        '{"text": "💩 Kawhi wins", "label": [[2, 7, "PER"]]}',
        '{"data": "💩 Kawhi wins", "labels": [[2, 7, "PER"]]}',
        '{"text": "💩 Kawhi wins", "entities": [{"id": 1, "start_offset": 2, "end_offset": 7, "label": "PER"}]}',
    ],
)
def test_forms_of_doccano(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.jsonl").write_text(f"{line}\n\n", encoding="utf-8")
    (found,) = read_doccano(tmp_path / "a.jsonl")
    assert found.to_pair().labels == ("O", "B-PER", "O")


def test_graphemes_of_doccano(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "👩🏽‍🚒 Ann", "label": [[2, 5, "PER"]]}\n', encoding="utf-8")
    (found,) = read_doccano(tmp_path / "a.jsonl", graphemes=True)
    assert found.to_pair().labels == ("O", "B-PER")
    (tmp_path / "a.jsonl").write_text('{"text": "👩🏽‍🚒", "label": [[0, 2, "PER"]]}\n', encoding="utf-8")
    with pytest.raises(AnnotationError, match="leaves the text of 1 grapheme clusters"):
        read_doccano(tmp_path / "a.jsonl", graphemes=True)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("{", "a.jsonl:1: not JSON"),
        ('{"label": []}', "no text 'text', but 'label'"),
        ('{"text": "a", "label": {}}', "{} is no list of spans"),
        ('{"text": "a", "label": [[0, 1]]}', "a.jsonl:1: span 1: [0, 1]; right is"),
        ('{"text": "a", "label": [[0, "1", "X"]]}', "has no offsets of characters"),
        ('{"text": "a", "annotations": [{"label": 7, "start_offset": 0, "end_offset": 1}]}', "labels are numbers here"),
    ],
)
def test_faults_of_doccano(tmp_path: Path, line: str, fault: str) -> None:
    (tmp_path / "a.jsonl").write_text(line, encoding="utf-8")
    with pytest.raises(AnnotationError) as raised:
        read_doccano(tmp_path / "a.jsonl")
    assert fault in str(raised.value)


def brat(tmp_path: Path, annotation: str, of: str = "Ann Lee and Bo Lee") -> Path:
    (tmp_path / "1.5.txt").write_text(of, encoding="utf-8")
    (tmp_path / "1.5.ann").write_text(annotation, encoding="utf-8")
    return tmp_path


def test_other_lines_of_brat_are_counted(tmp_path: Path) -> None:
    notes = Notes()
    others = "R1\tSpouse Arg1:T1 Arg2:T2\n*\tEquiv T1 T2\nA1\tSure T1\n#1\tAnnotatorNotes T1\tscore 1\n"
    lines = f"T1\tPER 0 7\tAnn Lee\n{others}"
    (found,) = read_brat(brat(tmp_path, lines), notes=notes)
    assert (found.id, found.spans) == ("1.5", (TextSpan(0, 7, "PER"),))
    assert notes.counts == {"relations were left out": 2, "attributes were left out": 1}


def test_entities_of_several_parts(tmp_path: Path) -> None:
    folder = brat(tmp_path, "T1\tPER 0 3;15 18\tAnn Lee\n")
    with pytest.raises(AnnotationError, match=r"1\.5\.ann:1: 'Ann Lee' is an entity of 2 parts"):
        read_brat(folder)
    notes = Notes()
    (found,) = read_brat(folder, align="expand", notes=notes)
    assert found.spans == (TextSpan(0, 18, "PER"),)
    assert notes.counts == {"entities of several parts became all from their first to their last character": 1}


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("T1\tPER 0 7\tBo", "span 0:7 is 'Ann Lee' in the text, but 'Bo' in the annotation"),
        ("T1 PER 0 7 Ann Lee", "is no entity; right is T1<TAB>PER 0 13<TAB>Kawhi Leonard"),
    ],
)
def test_faults_of_brat(tmp_path: Path, line: str, fault: str) -> None:
    with pytest.raises(AnnotationError) as raised:
        read_brat(brat(tmp_path, line))
    assert "1.5.ann:1: " in str(raised.value)
    assert fault in str(raised.value)


def test_a_collection_of_brat(tmp_path: Path) -> None:
    texts = [
        AnnotatedText("Ann", (TextSpan(0, 3, "PER", score=0.875),), id="1.5"),
        AnnotatedText("Bo", (TextSpan(0, 2, "LOC", ((1, 2, 3, 4),)),), id="1.5"),
        AnnotatedText("Cy", None, id="sub/2"),
    ]
    notes = Notes()
    write_brat(texts, tmp_path / "out", notes=notes)
    assert (tmp_path / "out" / "1.5.ann").read_text() == "T1\tPER 0 3\tAnn\n#1\tAnnotatorNotes T1\tscore 0.875\n"
    assert (tmp_path / "out" / "sub" / "2.ann").read_text() == ""
    assert "[entities]\nLOC\nPER\n" in (tmp_path / "out" / "annotation.conf").read_text()
    assert [found.id for found in read_brat(tmp_path / "out")] == ["1.5", "1.5.2", "sub/2"]
    assert notes.counts == {
        "texts have an id that an earlier one has, and got a number behind it": 1,
        "boxes were left out, which brat does not have": 1,
        "texts without annotation have an empty .ann, which brat needs": 1,
    }
    with pytest.raises(FileExistsError):
        write_brat(texts, tmp_path / "out")
    with pytest.raises(AnnotationError, match=r"id '\.\./x' can't be a file's name"):
        write_brat([AnnotatedText("a", None, id="../x")], tmp_path / "other")
    assert not any((tmp_path / "other").iterdir())
    with pytest.raises(FileNotFoundError, match=r"has no <id>\.txt"):
        read_brat(tmp_path / "other")


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_predictions_are_read_with_and_without_a_byte_order_mark(tmp_path: Path, mark: bytes) -> None:
    line = {"id": "7", "text": "Ann sang", "entities": [{"type": "PER", "score": 0.9, "start": 0, "end": 3}]}
    path = tmp_path / "entities.jsonl"
    path.write_bytes(mark + json.dumps(line).encode() + b'\n\n{"posts": 1, "posts_with_errors": 0}\n')
    (found,) = read_predictions(path)
    assert (found.id, found.where, found.spans) == ("7", f"{path}:1", (TextSpan(0, 3, "PER", (), 0.9),))
    path.write_bytes(b"\n{")
    with pytest.raises(AnnotationError, match=r"entities.jsonl:2: not JSON .*right is \{"):
        read_predictions(path)
