"""Annotated posts of any format to any other, in Python and by `mnergraph convert-data`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from runs import Run

from mnergraph.cli.main import main
from mnergraph.data import PostFolder
from mnergraph.data.convert_data import detect_format, read_annotations, write_annotations
from mnergraph.data.formats.conversion_options import ConversionOptions
from mnergraph.data.formats.text_spans import AnnotationError
from mnergraph.pair import DetectedObject, GroundedEntity, Pair

SIZE = (40, 30)
WORDS = (("Ann", "Lee", "wins"), ("💩", "Oslo", "-", "based"), ("nothing", "here"))
LABELS = (("B-PER", "I-PER", "O"), ("O", "B-LOC", "O", "O"), ("O", "O"))
BOXES = (((1.0, 2.0, 3.5, 4.0),), (), ())


@pytest.fixture
def posts(tmp_path: Path) -> list[Pair]:
    """Three posts with images, entities and boxes."""
    (tmp_path / "media").mkdir()
    made = []
    for number, (words, labels, boxes) in enumerate(zip(WORDS, LABELS, BOXES, strict=True)):
        path = tmp_path / "media" / f"m{number}.png"
        Image.new("RGB", SIZE, (number, 0, 0)).save(path)
        pair = Pair(words, labels, f"p{number}", image_path=path, size=SIZE)
        spans = {0: ((0, 2, "PER"),), 1: ((1, 2, "LOC"),), 2: ()}[number]
        made.append(replace(pair, grounding=tuple(GroundedEntity(*span, boxes) for span in spans)))
    return made


@pytest.fixture
def convert(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """``convert("a.json", ...)``: runs the command, which must succeed; what it prints."""

    def run(*arguments: object) -> str:
        main(["convert-data", *map(str, arguments), "--progress", "false"])
        return capsys.readouterr().out

    return run


@pytest.fixture
def fault(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The one line on stderr of the command, which must fail."""

    def run(*arguments: object) -> str:
        with pytest.raises(SystemExit) as ended:
            main(["convert-data", *map(str, arguments), "--progress", "false"])
        assert ended.value.code == 2
        line = capsys.readouterr().err
        assert line.count("\n") == 1, line
        return line

    return run


def without_paths(pairs: list[Pair]) -> list[Pair]:
    return [replace(pair, image_path=None) for pair in pairs]


def test_a_label_studio_export_becomes_a_folder_to_train_on(
    posts: list[Pair], convert: Callable[..., str], tmp_path: Path
) -> None:
    write_annotations(posts, tmp_path / "export.json", "label-studio")
    printed = convert(
        tmp_path / "export.json", "--to", "folder", "--out", tmp_path / "data", "--images", tmp_path / "media",
        "--fractions", "[0.34,0.33,0.33]",
    )  # fmt: skip
    assert "read as label-studio: 3 posts, 2 entities (PER 1, LOC 1), 1 boxes of entities, 3 images" in printed
    assert f"{tmp_path / 'data' / 'boxes.jsonl'}: 1 boxes" in printed
    found = {
        pair.id: pair for split in ("train", "valid", "test") for pair in PostFolder(tmp_path / "data", split).pairs
    }
    assert without_paths([found[pair.id] for pair in posts]) == without_paths(
        [pair if pair.id == "p0" else replace(pair, size=None) for pair in posts]
    )
    for pair in posts:
        copied = found[pair.id].image_path
        assert copied == tmp_path / "data" / "images" / f"{pair.id}.png"
        assert pair.image_path is not None
        assert copied.read_bytes() == pair.image_path.read_bytes()
    with pytest.raises(FileExistsError):
        write_annotations(posts, tmp_path / "data", "folder")


@pytest.mark.parametrize("target", ["label-studio", "doccano", "datasets", "conll", "brat"])
def test_posts_through_each_format(posts: list[Pair], target: Any, tmp_path: Path) -> None:
    out = tmp_path / {"label-studio": "a.json", "doccano": "a.jsonl", "conll": "a.txt"}.get(target, "a")
    losses = {"doccano": "boxes were left out", "conll": "boxes were left out", "brat": "boxes were left out"}
    if target in losses:
        with pytest.warns(UserWarning, match=losses[target]):
            write_annotations(posts, out, target)
    else:
        write_annotations(posts, out, target)
    assert detect_format(out) == target
    if target == "datasets":
        with pytest.raises(AnnotationError, match="its image has no file; give image_folder"):
            read_annotations(out)
        return
    found = read_annotations(out, images=tmp_path / "media", tokenizer="spaces")
    assert [(pair.id, pair.words, pair.labels) for pair in found] == [(p.id, p.words, p.labels) for p in posts]
    if target in ("label-studio", "doccano"):
        assert [pair.image_path for pair in found] == [pair.image_path for pair in posts]
    if target == "label-studio":
        assert [pair.grounding for pair in found] == [pair.grounding for pair in posts]


def test_datasets_to_a_folder(posts: list[Pair], convert: Callable[..., str], tmp_path: Path) -> None:
    write_annotations(posts, tmp_path / "hf", "datasets")
    convert(tmp_path / "hf", "--to", "folder", "--out", tmp_path / "data", "--fractions", "[1.0,0.0,0.0]")
    found = PostFolder(tmp_path / "data", "train").pairs
    assert without_paths(found) == without_paths([p if p.id == "p0" else replace(p, size=None) for p in posts])
    assert [pair.image_path and pair.image_path.name for pair in found] == ["p0.png", "p1.png", "p2.png"]


def test_splits_of_the_source_stay(posts: list[Pair], convert: Callable[..., str], tmp_path: Path) -> None:
    write_annotations(posts[:2], tmp_path / "one", "folder", fractions=(1, 0, 0))
    (tmp_path / "one" / "valid.txt").write_text("IMGID:v\na\tO\n\n", encoding="utf-8")
    for target, path in (("doccano", "a.jsonl"), ("label-studio", "a.json"), ("datasets", "hf")):
        convert(tmp_path / "one", "--to", target, "--out", tmp_path / path)
        convert(tmp_path / path, "--to", "folder", "--out", tmp_path / f"back-{path}")
        for split in ("train", "valid"):
            back = (tmp_path / f"back-{path}" / f"{split}.txt").read_text(encoding="utf-8")
            assert back == (tmp_path / "one" / f"{split}.txt").read_text(encoding="utf-8")


def test_posts_with_one_image_or_text_stay_together(tmp_path: Path) -> None:
    posts = [Pair((f"w{number // 2}",), ("O",), f"{number}") for number in range(40)]
    posts += [Pair((f"x{number}",), ("O",), f"{number // 4}") for number in range(20)]
    write_annotations(posts, tmp_path / "out", "folder", fractions=(0.5, 0.25, 0.25), seed=3)
    texts: dict[str, set[str]] = {}
    for split in ("train", "valid", "test"):
        pairs = PostFolder(tmp_path / "out", split).pairs
        texts[split] = {pair.id for pair in pairs} | {pair.words[0] for pair in pairs}
    assert not texts["train"] & texts["valid"] | texts["train"] & texts["test"] | texts["valid"] & texts["test"]


def test_predictions_become_pre_annotations(
    trained: Run,
    convert: Callable[..., str],
    fault: Callable[..., str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    posts = tmp_path / "test.txt"
    posts.write_bytes((trained.root / "raw" / "test.txt").read_bytes())
    images = trained.root / "raw" / "images"
    main(["predict", "--model", str(trained.model), "--posts", str(posts), "--images", str(images),
          "--objects", str(trained.root / "raw" / "objects.jsonl"),
          "--out", str(tmp_path / "found.jsonl"), "--progress", "false"])  # fmt: skip
    capsys.readouterr()
    lines = [json.loads(line) for line in (tmp_path / "found.jsonl").read_text(encoding="utf-8").splitlines()]
    given: tuple[object, ...] = ("--posts", posts, "--images", images)
    convert(
        tmp_path / "found.jsonl", "--to", "label-studio", "--out", tmp_path / "t.json", *given, "--model_version", "v1"
    )
    tasks = json.loads((tmp_path / "t.json").read_text(encoding="utf-8"))
    assert any(line["entities"] for line in lines)
    for line, task in zip(lines, tasks, strict=True):
        assert (task["data"]["text"], task["data"]["id"]) == (line["text"], line["id"])
        (prediction,) = task["predictions"]
        assert prediction["model_version"] == "v1"
        found = [(each["value"]["start"], each["value"]["end"], each["score"]) for each in prediction["result"]]
        assert found == [(entity["start"], entity["end"], entity["score"]) for entity in line["entities"]]
    assert any("image" in task["data"] for task in tasks)
    printed = convert(tmp_path / "found.jsonl", "--to", "doccano", "--out", tmp_path / "d.jsonl")
    assert "scores were left out, which doccano does not have" in printed
    doccano = [json.loads(line)["label"] for line in (tmp_path / "d.jsonl").read_text(encoding="utf-8").splitlines()]
    assert doccano == [[[e["start"], e["end"], e["type"]] for e in line["entities"]] for line in lines]
    convert(tmp_path / "found.jsonl", "--to", "conll", "--out", tmp_path / "silver.txt")
    assert [pair.words for pair in read_annotations(tmp_path / "silver.txt")] == [
        pair.words for pair in read_annotations(posts)
    ]
    message = fault(
        tmp_path / "found.jsonl", "--to", "brat", "--out", tmp_path / "b", "--posts", trained.root / "raw" / "valid.txt"
    )
    assert "is not that of the post in its place" in message


def test_boxes_of_predictions(tmp_path: Path) -> None:
    Image.new("RGB", (200, 100)).save(tmp_path / "k.png")
    (tmp_path / "posts.jsonl").write_text('{"id": "7", "text": "Ann wins", "image": "k.png"}\n{"text": "b"}\n')
    entity = {
        "type": "PER",
        "score": 0.5,
        "word_start": 0,
        "word_end": 1,
        "start": 0,
        "end": 3,
        "box": [20, 20, 80, 60],
    }
    lines = [{"id": "7", "text": "Ann wins", "entities": [{**entity, "box_probability": 0.25}]}]
    lines += [{"id": "", "text": "b", "error": "no"}, {"posts": 2, "posts_with_errors": 1, "first_errors": []}]
    (tmp_path / "found.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    main(["convert-data", str(tmp_path / "found.jsonl"), "--to", "label-studio", "--out", str(tmp_path / "t.json"),
          "--posts", str(tmp_path / "posts.jsonl")])  # fmt: skip
    task, other = json.loads((tmp_path / "t.json").read_text())
    _, box, relation = task["predictions"][0]["result"]
    assert (box["value"]["x"], box["value"]["width"], box["score"]) == (10, 30, 0.25)
    assert relation["type"] == "relation"
    assert "predictions" not in other


def test_images_are_found_by_the_ends_of_addresses(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("sub/a.png", "b c.png", "d.png"):
        Image.new("RGB", (3, 3)).save(tmp_path / name)
    addresses = {
        "/data/local-files/?d=media/sub/a.png": "sub/a.png",
        "https://host/x/b%20c.png?token=1": "b c.png",
        "/data/upload/3/0a1b2c3d-d.png": "d.png",
        "../../d.png": "d.png",
        "s3://bucket/none.png": None,
    }
    tasks = [{"data": {"text": "a", "image": address}, "annotations": [{"result": []}]} for address in addresses]
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    with pytest.warns(UserWarning, match=r"1 images were not found in .*; the option images names their folder"):
        found = read_annotations(tmp_path / "export.json")
    assert [pair.image_path for pair in found] == [name and tmp_path / name for name in addresses.values()]


def test_what_is_not_annotated(tmp_path: Path, convert: Callable[..., str]) -> None:
    tasks: list[dict[str, Any]] = [
        {"data": {"text": "Ann wins"}, "annotations": [{"result": []}]},
        {"data": {"text": "b"}},
    ]
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    assert "1 posts without annotation were left out" in convert(
        tmp_path / "export.json", "--to", "conll", "--out", tmp_path / "a.txt"
    )
    assert (tmp_path / "a.txt").read_text() == "IMGID:1\nAnn\tO\nwins\tO\n\n"
    convert(tmp_path / "export.json", "--to", "posts", "--out", tmp_path / "posts.jsonl")
    assert [pair.text for pair in read_annotations(tmp_path / "posts.jsonl")] == ["Ann wins", "b"]


@pytest.mark.parametrize(
    ("name", "content", "format"),
    [
        ("a.json", "[]", "label-studio"),
        ("a.jsonl", '{"text": "a", "label": []}', "doccano"),
        ("a.jsonl", '{"id": 1, "text": "a", "entities": [], "relations": []}', "doccano"),
        ("a.jsonl", '{"text": "a", "entities": []}\n{"text": "a", "entities": [{"start_offset": 0}]}', "doccano"),
        ("a.jsonl", '{"id": "1", "text": "a", "entities": []}', "predictions"),
        ("a.jsonl", '{"id": "1", "text": "a", "entities": [{"type": "X", "score": 1}]}', "predictions"),
        ("a.jsonl", '{"words": ["a"]}', "posts"),
        ("a.txt", "\nIMGID:1\na\tO\n", "conll"),
        ("a.conll", "a NN O\n", "columns"),
    ],
)
def test_formats_are_detected_by_content(tmp_path: Path, name: str, content: str, format: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert detect_format(tmp_path / name) == format


def test_faults_of_the_command(
    posts: list[Pair], fault: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_annotations(posts, tmp_path / "a.json", "label-studio")
    out = ("--out", tmp_path / "out")
    assert "there is no" in fault(tmp_path / "none", "--to", "conll", *out)
    assert "images='nowhere' is no folder" in fault(tmp_path / "a.json", "--to", "conll", *out, "--images", "nowhere")
    assert "is of no known format (there is: " in fault(tmp_path, "--to", "conll", *out)
    assert "posts=" in fault(tmp_path / "a.json", "--to", "conll", *out, "--posts", "x.jsonl")
    assert "a.json exists" in fault(tmp_path / "a.json", "--to", "conll", "--out", tmp_path / "a.json")
    (tmp_path / "b.xml").write_text("an interface of one's own", encoding="utf-8")
    assert "b.xml exists" in fault(tmp_path / "a.json", "--to", "label-studio", "--out", tmp_path / "b.json")
    (tmp_path / "cut.jsonl").write_text('{"text": "Oslo-based", "label": [[0, 4, "LOC"]]}\n')
    message = fault(tmp_path / "cut.jsonl", "--to", "conll", *out)
    assert (
        "cut.jsonl:1: span 0:4 (LOC) 'Oslo' cuts 'Oslo-based'; move it in the tool, or set align to expand" in message
    )
    assert not (tmp_path / "out").exists()
    with pytest.raises(SystemExit):
        main(["convert-data", str(tmp_path / "cut.jsonl"), "--to", "conll", *map(str, out)])
    assert any(line.startswith("mnergraph: ") for line in re.split(r"[\r\n]", capsys.readouterr().err)), (
        "no bar before it"
    )
    with pytest.raises(ValueError, match="fractions"):
        ConversionOptions(fractions=(0.5, 0.1, 0.1))


def test_objects_of_a_post_are_rectangles_if_asked_for(posts: list[Pair], tmp_path: Path) -> None:
    post = replace(posts[0], objects=(DetectedObject("hat", (1, 1, 5, 5)),))
    with pytest.warns(UserWarning, match="objects that belong to no entity were left out"):
        write_annotations([post], tmp_path / "a.json", "label-studio")
    write_annotations([post], tmp_path / "b.json", "label-studio", objects=True)
    with pytest.warns(UserWarning, match="1 rectangles without a relation to a span are objects of their post"):
        (found,) = read_annotations(tmp_path / "b.json", images=tmp_path / "media")
    assert found == post
    write_annotations([post], tmp_path / "out", "folder", fractions=(1, 0, 0))
    assert PostFolder(tmp_path / "out").pairs == [replace(post, image_path=tmp_path / "out" / "images" / "p0.png")]
