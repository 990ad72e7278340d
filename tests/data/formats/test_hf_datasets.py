"""Hugging Face data sets, both ways."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pytest
from annotated_posts import numbered, posts
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mnergraph.data.formats.hf_datasets import from_dataset, load_saved, save, to_dataset
from mnergraph.data.formats.text_spans import AnnotationError
from mnergraph.labels import LabelSet
from mnergraph.pair import Pair

POSTS = st.lists(posts(grounded=True, plain=True), min_size=1, max_size=4).map(numbered)


@settings(max_examples=20, deadline=None)
@given(pairs=POSTS, streamed=st.booleans())
def test_round_trip(pairs: list[Pair], streamed: bool) -> None:
    rows = to_dataset(pairs)
    assert list(from_dataset(rows.to_iterable_dataset() if streamed else rows)) == pairs


@pytest.fixture
def image(tmp_path: Path) -> Path:
    Image.new("RGB", (30, 20), "red").save(tmp_path / "7.png")
    return tmp_path / "7.png"


def test_images_and_splits_on_disk(image: Path, tmp_path: Path) -> None:
    pair = Pair(("Ann", "wins"), ("B-PER", "O"), "7", image_path=image)
    labels = LabelSet.from_types(["LOC", "PER"])
    rows = to_dataset([pair, Pair(("a",), ("O",), "8")], labels=labels)
    assert rows.features["ner_tags"].feature.names == list(labels)
    assert rows[0]["ner_tags"] == [3, 0]
    assert rows[0]["image"].size == (30, 20)
    save({"train": rows, "valid": rows}, tmp_path / "saved")
    assert set(datasets.load_from_disk(str(tmp_path / "saved"))) == {"train", "validation"}
    found = load_saved(tmp_path / "saved")
    assert list(found) == ["train", "valid"]
    first, second = from_dataset(found["train"], image_folder=tmp_path / "images")
    assert (first, second.image_path) == (replace(pair, image_path=tmp_path / "images" / "7.png"), None)
    assert first.image_path is not None
    assert first.image_path.read_bytes() == image.read_bytes()


def test_images_without_a_file(image: Path, tmp_path: Path) -> None:
    rows = [{"tokens": ["a"], "image": Image.open(image)}, {"tokens": ["b"], "image": {"bytes": image.read_bytes()}}]
    with pytest.raises(AnnotationError, match="row 0: its image has no file; give image_folder"):
        list(from_dataset(rows))
    for pair in from_dataset(rows, image_folder=tmp_path / "images"):
        assert pair.labels is None
        assert pair.image_path is not None
        with Image.open(pair.image_path) as written:
            assert written.size == (30, 20)


def test_columns_and_schemes_of_others() -> None:
    features = datasets.Features(
        {
            "words": datasets.List(datasets.Value("string")),
            "labels": datasets.List(datasets.ClassLabel(names=["O", "B-X", "I-X", "E-X", "S-X"])),
        }
    )
    rows = datasets.Dataset.from_dict({"words": [["a", "b", "c"]], "labels": [[1, 3, 4]]}, features=features)
    (pair,) = from_dataset(rows, tokens="words", tags="labels", scheme="auto", mapping={"X": "Y"})
    assert (pair.id, pair.labels) == ("0", ("B-Y", "I-Y", "B-Y"))
    (texts,) = from_dataset([{"tokens": ["a"], "ner_tags": ["S-X"]}], scheme="BIOES")
    assert texts.labels == ("B-X",)


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ({"words": ["a"]}, "row 0: 'tokens' is None, no list of words; name the column, tokens="),
        ({"tokens": []}, "no list of words"),
        ({"tokens": ["a"], "ner_tags": [1]}, "row 0: tag 1 is a number and the data set names no classes; names="),
        ({"tokens": ["a"], "ner_tags": ["S-X"]}, "row 0: 'S-X' is no tag of BIO2"),
        ({"tokens": ["a"], "ner_tags": ["O", "O"]}, "row 0: post '0' has 1 words but 2 labels"),
        ({"tokens": ["a"], "image": {"path": "gone.jpg", "bytes": None}}, "row 0: there is no image gone.jpg"),
        ({"tokens": ["a"], "ner_tags": ["O"], "entities": [{"start": 0}]}, "row 0: "),
    ],
)
def test_faults(row: dict[str, Any], fault: str) -> None:
    with pytest.raises(AnnotationError) as raised:
        list(from_dataset([row]))
    assert fault in str(raised.value)
    with pytest.raises(AnnotationError, match="tag 9 is not among the 1 classes"):
        list(from_dataset([{"tokens": ["a"], "ner_tags": [9]}], names=["O"]))


def test_what_is_no_data_set() -> None:
    pairs = [Pair(("a",), ("B-X",), "1"), Pair(("b",), None, "2")]
    with pytest.raises(ValueError, match="posts without labels beside others that have some \\('2'\\)"):
        to_dataset(pairs)
    with pytest.raises(ValueError, match="post '1': 'B-X' is not among the labels 'O'"):
        to_dataset(pairs[:1], labels=["O"])
