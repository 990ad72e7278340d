"""Results of `mnergraph.pipeline` as files of annotation tools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from mnergraph import LabelSet, Pair, pipeline, tiny_encoder
from mnergraph.cli.main import main
from mnergraph.data import read_annotations, write_annotations
from mnergraph.data.formats.jsonl import read_posts
from mnergraph.data.formats.text_spans import AnnotatedText, TextSpan
from mnergraph.inference import NERResult
from mnergraph.models import BERTCRF, UMGF
from mnergraph.nn.heads.grounding import Grounding

TEXTS = ["Ann  Lee sings in Paris", "💩 Oslo-based", "José vive"]


@pytest.fixture(scope="module")
def model() -> BERTCRF:
    torch.manual_seed(0)
    return BERTCRF(tiny_encoder(), LabelSet.from_types(["PER", "LOC"])).eval()


def test_two_lines_to_a_file_of_label_studio(model: BERTCRF, tmp_path: Path) -> None:
    results = pipeline(model)(TEXTS)
    write_annotations(results, tmp_path / "tasks.json", "label-studio", model_version="bert-1")
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    assert [task["data"]["text"] for task in tasks] == TEXTS
    assert [task["data"]["id"] for task in tasks] == ["1", "2", "3"]
    for task, result in zip(tasks, results, strict=True):
        assert "annotations" not in task
        (prediction,) = task["predictions"]
        assert prediction["model_version"] == "bert-1"
        assert prediction["score"] == min(entity["score"] for entity in result)
        assert [
            (region["value"]["start"], region["value"]["end"], region["value"]["labels"], region["score"])
            for region in prediction["result"]
        ] == [(entity["start"], entity["end"], [entity["label"]], entity["score"]) for entity in result]
    assert 'value="PER"' in (tmp_path / "tasks.xml").read_text()


def written(folder: Path, name: str, results: Any, **options: Any) -> list[Any]:
    write_annotations(results, folder / name, "label-studio", **options)
    tasks: list[Any] = json.loads((folder / name).read_text())
    return tasks


@pytest.mark.filterwarnings("ignore:.* posts? ha(ve|s) no ")
def test_the_file_is_that_of_the_command_line(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_heads": 2, "num_layers": 1, "label_features": True}
    umgf = UMGF(tiny_encoder(), LabelSet.from_types(["PER", "LOC"]), grounding=Grounding(), **sizes).eval()
    lines = []
    for number, text in enumerate(TEXTS):
        Image.new("RGB", (40, 30)).save(tmp_path / f"{number}.png")
        objects = [{"label": "woman", "box": [1, 2, 30 + number, 20]}, {"label": "hat", "box": [5, 5, 9, 9]}]
        line = {"id": f"p{number}", "text": text, "image": f"{number}.png", "width": 40, "height": 30}
        lines.append(json.dumps({**line, "objects": objects}))
    (tmp_path / "posts.jsonl").write_text("\n".join(lines))
    umgf.save_pretrained(tmp_path / "model")
    arguments = ["--posts", str(tmp_path / "posts.jsonl"), "--progress", "false"]
    lacking = ["--allow_missing", '["grounded objects", "region features"]']
    out, tasks_file = str(tmp_path / "out.jsonl"), str(tmp_path / "a.json")
    main(["predict", "--model", str(tmp_path / "model"), "--out", out, *arguments, *lacking])
    main(["convert-data", out, "--to", "label-studio", "--out", tasks_file, *arguments])
    posts = read_posts(tmp_path / "posts.jsonl")
    for kind in ("simple", "none"):
        results = pipeline(tmp_path / "model", aggregation_strategy=kind)(posts)  # type: ignore[arg-type]
        with pytest.warns(UserWarning, match="6 objects that belong to no entity were left out"):
            tasks = written(tmp_path, f"{kind}.json", results)
        assert tasks == json.loads((tmp_path / "a.json").read_text())
    shown = [region for task in tasks for region in task["predictions"][0]["result"] if region["type"] != "labels"]
    assert {region["type"] for region in shown} == {"rectanglelabels", "relation"}


def test_streams_and_posts_with_errors(model: BERTCRF, tmp_path: Path) -> None:
    posts = [Pair(("Ann",), ("B-PER",), "a"), "  ", Pair(("Oslo", "wins"), id="b")]
    with pytest.warns(UserWarning, match="1 of 3 posts have an error"):
        results = list(pipeline(model)(iter(posts)))
    with pytest.warns(UserWarning, match="1 posts could not be predicted and have no entities"):
        tasks = written(tmp_path, "a.json", iter(results))
    assert [task["data"]["id"] for task in tasks] == ["a", "2", "b"]
    assert ["predictions" in task for task in tasks] == [True, False, True]
    failed = NERResult([], pair=posts[0], model=model, reader=None, error="too long")  # type: ignore[arg-type]
    assert failed.to_annotated_text().spans is None, "its own labels are no prediction"
    with pytest.raises(TypeError, match="posts and results of the pipeline are among"):
        write_annotations([posts[0], results[0]], tmp_path / "b.json", "label-studio")  # type: ignore[list-item]
    assert not (tmp_path / "b.json").exists()


def test_other_formats(model: BERTCRF, tmp_path: Path) -> None:
    results = pipeline(model)(TEXTS)
    write_annotations(results, tmp_path / "brat", "brat")
    read = read_annotations(tmp_path / "brat", "brat")
    assert [pair.text for pair in read] == TEXTS
    with pytest.warns(UserWarning, match="scores were left out, which doccano does not have"):
        write_annotations(results, tmp_path / "a.jsonl", "doccano")
    spans = [[(e["start"], e["end"], e["label"]) for e in result] for result in results]
    lines = (tmp_path / "a.jsonl").read_text().splitlines()
    assert [[tuple(span) for span in json.loads(line)["label"]] for line in lines] == spans


def test_regions_of_a_result(model: BERTCRF) -> None:
    entity = {"entity_group": "PER", "label": "PER", "score": 0.75, "word_start": 0, "word_end": 2}
    shown = entity | {"box": [1.0, 2.0, 3.0, 4.0], "box_label": "woman", "box_probability": 0.5}
    other = entity | {"word_start": 2, "word_end": 3, "box": None, "box_label": None, "box_probability": 0.9}
    pair = Pair.from_text("Ann  Lee, Oslo", id="7")
    result = NERResult([shown, other], pair=pair, model=model, reader=None)
    text = result.to_annotated_text()
    assert isinstance(text, AnnotatedText)
    assert text.grounded
    assert text.spans == (
        TextSpan(0, 8, "PER", ((1.0, 2.0, 3.0, 4.0),), 0.75, 0.5),
        TextSpan(8, 9, "PER", (), 0.75, 0.9),
    )
    plain = NERResult([entity], pair=pair, model=model, reader=None).to_annotated_text()
    assert (plain.grounded, plain.spans) == (False, (TextSpan(0, 8, "PER", (), 0.75),))
