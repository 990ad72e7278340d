"""Evidence that is legal JSON and no evidence: the documented error with file and line, and nothing large allocated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from mnergraph.data.evidence import MAX_OBJECTS, Evidence
from mnergraph.data.formats.evidence_jsonl import EvidenceError, read_captions, read_objects
from mnergraph.data.formats.jsonl import read_posts
from mnergraph.pair import Pair
from mnergraph.quoting import MAX_CHARACTERS, listed, quoted

GOOD: dict[str, Any] = {"label": "person", "score": 0.9, "box": [0, 0, 5, 5]}


def objects_file(folder: Path, entry: Any) -> Path:
    path = folder / "objects.jsonl"
    good = json.dumps({"id": "1", "width": 6, "height": 8, "objects": [GOOD]})
    path.write_text(f"{good}\n{entry if isinstance(entry, str) else json.dumps(entry)}\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"id": "2", "width": 10**29, "height": 8, "objects": []}, "right are two whole numbers from 1 to 100000"),
        ({"id": "2", "width": 6, "height": 100_001, "objects": []}, "right are two whole numbers from 1 to 100000"),
        ("[" * 100_000 + "]" * 100_000, "not JSON"),
        ('{"id": "2", "a": ' + '{"b":' * 100_000 + "1" + "}" * 100_000 + "}", "not JSON"),
        (
            {"id": "2", "width": 6, "height": 8, "objects": [{**GOOD, "box": ["x" * 10**6]}]},
            "is not four finite numbers",
        ),
        ({"id": "2", "width": 6, "height": 8, "objects": [{**GOOD, "score": "9" * 10**6}]}, "a number from 0 to 1"),
    ],
    ids=["width", "height", "nested lists", "nested objects", "long box", "long score"],
)
def test_lines_of_objects(entry: Any, message: str, tmp_path: Path) -> None:
    path = objects_file(tmp_path, entry)
    with pytest.raises(EvidenceError) as error:
        read_objects(path)
    text = str(error.value)
    assert text.startswith(f"{path}:2: ")
    assert message in text
    assert len(text) < 1000


def test_lines_of_captions_and_posts(tmp_path: Path) -> None:
    nested = "[" * 100_000 + "]" * 100_000
    (tmp_path / "captions.jsonl").write_text(f'{{"id": "1", "caption": "a"}}\n{nested}\n', encoding="utf-8")
    with pytest.raises(EvidenceError, match=r"captions.jsonl:2: not JSON"):
        read_captions(tmp_path / "captions.jsonl")
    for line in (
        nested,
        json.dumps({"text": "a", "width": 10**29, "height": 1}),
        json.dumps({"words": ["a" * 10**6, ""]}),
    ):
        (tmp_path / "posts.jsonl").write_text(f'{{"text": "Paris"}}\n{line}\n', encoding="utf-8")
        with pytest.raises(ValueError, match=r"posts.jsonl:2: ") as error:
            read_posts(tmp_path / "posts.jsonl")
        assert len(str(error.value)) < 1000


def test_a_span_that_leaves_the_sentence_names_file_and_line(tmp_path: Path) -> None:
    path = objects_file(tmp_path, {"id": "2", "width": 6, "height": 8, "objects": [{**GOOD, "words": [1, 9]}]})
    with pytest.raises(EvidenceError, match=rf"^{path}:2: post '2': span 1:9 leaves its 2 words$"):
        Evidence(objects=path).attach([Pair(("a", "b"), id="2")])


def test_objects_beyond_the_limit_are_counted(tmp_path: Path) -> None:
    objects = [{**GOOD, "score": index / 10_000} for index in range(10_000)]
    path = objects_file(tmp_path, {"id": "2", "width": 6, "height": 8, "objects": objects})
    with pytest.warns(UserWarning, match=r"1 posts have more than 300 objects \('2'\); 9700 objects are left out"):
        one, two = Evidence(objects=path).attach([Pair(("a",), id="1"), Pair(("a",), id="2")])
    assert len(one.objects) == 1
    assert len(two.objects) == MAX_OBJECTS
    assert two.objects[0].score == max(item["score"] for item in objects), "the best ones are kept"
    (tmp_path / "posts.jsonl").write_text(
        json.dumps({"text": "a", "objects": [{"label": "x"}] * 301}), encoding="utf-8"
    )
    with pytest.warns(UserWarning, match="1 objects are left out"):
        assert len(read_posts(tmp_path / "posts.jsonl")[0].objects) == MAX_OBJECTS


def test_features_that_overflow(tmp_path: Path) -> None:
    save_file({"image/1": torch.full((1, 3), 1e38)}, tmp_path / "features.safetensors")
    with pytest.raises(
        EvidenceError, match=r"features.safetensors: 'image/1' holds 1e\+38; right are numbers of at most"
    ):
        Evidence(features=tmp_path / "features.safetensors").attach([Pair(("a",), id="1")])


def test_values_in_messages() -> None:
    assert quoted("ab") == "'ab'"
    assert len(quoted("a" * 10**7)) <= MAX_CHARACTERS + 1
    assert len(quoted(["a" * 999] * 999)) <= MAX_CHARACTERS + 1
    assert listed([]) == ""
    assert listed(["a", "b"]) == "'a', 'b'"
    assert listed(list("abcdefg")) == "'a', 'b', 'c', 'd', 'e' and 2 more"
