"""The classes over columns, without any engine: as the plain path, and a row out for every row in."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from odd_images import noise
from PIL import Image
from torch import Tensor, nn

from mnergraph import LabelSet, Predictor, Tagger, tiny_encoder
from mnergraph.data.formats.jsonl import stream_posts
from mnergraph.data.processor import ProcessorConfig
from mnergraph.engines.columns import POST_COLUMNS
from mnergraph.engines.jobs import IMAGE_OUTSIDE, BuildContext, ExtractFeatures, PredictEntities, provides_texts
from mnergraph.features.store.entries import manifest_of
from mnergraph.features.vision.backbones import BackboneGrid
from mnergraph.features.vision.evidence import ImageEvidence
from mnergraph.features.vision.extractor import BatchImage, Extractor
from mnergraph.features.vision.registry import EXTRACTORS
from mnergraph.graph.context import Context
from mnergraph.models import BERTCRF, MTBERTCRF, PGIM
from mnergraph.pair import ContextText

SMALL = BackboneGrid("resnet18", size=32)
LABELS = LabelSet.from_types(["PER", "LOC"])
WORDS = ["paris", "london", "ann", "lee", "sings", "in", "the", "rain"]


def encoder() -> Any:
    return tiny_encoder(WORDS, hidden_size=16, num_layers=1, heads=2)


def saved(model: Tagger, folder: Path) -> Path:
    model.eval().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def text_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    return saved(BERTCRF(encoder(), LABELS), tmp_path_factory.mktemp("text") / "model")


@pytest.fixture(scope="module")
def image_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose images go through an extractor."""
    torch.manual_seed(0)
    model = MTBERTCRF(encoder(), LABELS, image_dim=512, num_heads=2, intermediate_size=16)
    model.processor_config = ProcessorConfig(stores=(json.loads(json.dumps(asdict(manifest_of(SMALL)))),))
    return saved(model, tmp_path_factory.mktemp("image") / "model")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(4):
        noise(40 + index, 30, seed=index).save(folder / f"{index}.png")
    (folder / "page.jpg").write_text("<!doctype html>")
    return folder


def plain(model: Path, lines: Sequence[Mapping[str, Any]], folder: Path) -> list[dict[str, Any]]:
    """What the plain path predicts of these lines."""
    file = folder / "plain.jsonl"
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    return list(Predictor(Tagger.from_pretrained(model))(stream_posts(file)))


def columns(lines: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    names = [name for name in POST_COLUMNS if any(name in line for line in lines)]
    return {name: [line.get(name) for line in lines] for name in names}


def rows(results: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(results, values, strict=True)) for values in zip(*results.values(), strict=True)]


def assert_same(found: Sequence[Mapping[str, Any]], expected: Sequence[Mapping[str, Any]]) -> None:
    """Entities are equal, and scores but for how batches were padded; errors end alike, without file and line."""
    assert [row["id"] for row in found] == [line["id"] for line in expected]
    for row, line in zip(found, expected, strict=True):
        if line.get("error"):
            assert row["entities"] is None
            assert row["error"]
            assert line["error"].partition("; right is")[0].endswith(row["error"])
            continue
        assert row["error"] is None
        assert row["text"] == line["text"]
        scores = [[entity.pop("score") for entity in one] for one in (copies(row), copies(line))]
        assert scores[0] == pytest.approx(scores[1], abs=1e-4)
        assert copies(row, score=False) == copies(line, score=False)


def copies(row: Mapping[str, Any], *, score: bool = True) -> list[dict[str, Any]]:
    return [{name: value for name, value in one.items() if score or name != "score"} for one in row["entities"]]


POSTS = [
    {"id": "1", "text": "Ann Lee sings in Paris"},
    {"id": "2", "words": ["London", "in", "the", "rain"]},
    {"id": "3", "text": "the rain", "caption": "a man", "context": [{"source": "ocr", "text": "SALE"}]},
    {"id": "4", "text": "Lee", "width": 40, "height": 30, "objects": [{"label": "man", "box": [1, 2, 9, 8]}]},
    {"id": "5", "text": " "},
    {"id": "6", "text": "Ann", "words": ["Ann"]},
    {"id": "7", "text": "in Paris", "objects": [{"label": "man", "score": 2.0, "box": [1, 2, 9, 8]}]},
]


def test_entities_are_those_of_the_plain_path(text_model: Path, tmp_path: Path) -> None:
    job = PredictEntities(text_model)
    expected = plain(text_model, POSTS, tmp_path)
    assert sum("error" in line for line in expected) == 3
    assert sum(len(line.get("entities", ())) for line in expected) > 3
    given = columns(POSTS)
    found = rows(job(given))
    assert_same(found, expected)
    assert [row["missing"] for row in found] == [[]] * 7
    assert {row["heads"] for row in found} == {None}
    # as Spark, Daft and Ray give them: arrays, of arrays, with null as NaN or None
    arrays = {name: np.empty(len(POSTS), dtype=object) for name in given}
    for name, values in given.items():
        for place, value in enumerate(values):
            arrays[name][place] = np.array(value) if isinstance(value, list) and name == "words" else value
    arrays["width"] = np.array([np.nan if value is None else value for value in given["width"]], dtype=object)
    arrays["width"][3] = np.int64(40)
    assert rows(job(arrays)) == found
    # lines of posts.jsonl as they are
    lines = {"id": given["id"], "line": [json.dumps(line) for line in POSTS]}
    assert rows(job(lines)) == found


def test_windows_and_ids(text_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnergraph.inference.predictor.WINDOW", 3)
    job = PredictEntities(text_model)
    given = {"id": np.arange(8), "text": ["Ann sings"] * 8, "date": ["today"] * 8}
    found = rows(job(given))
    assert [row["id"] for row in found] == list(range(8))
    assert len({json.dumps(row["entities"]) for row in found}) == 1
    assert job({"id": [], "text": []}) == {name: [] for name in job.COLUMNS}
    with pytest.raises(ValueError, match="there is no column id, but text"):
        job({"text": ["Ann"]})
    with pytest.raises(ValueError, match="different lengths"):
        job({"id": ["1", "2"], "text": ["Ann"]})


def test_a_fault_outside_of_the_models_batches(text_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = PredictEntities(text_model)
    expected = rows(job(columns(POSTS)))

    def ground(found: Sequence[tuple[Any, Any]]) -> dict[int, Exception]:
        if any(pair.id == "2" for pair, _ in found):
            raise RuntimeError("a second step fails")
        return {}

    monkeypatch.setattr(job.predictor, "ground", ground)
    found = rows(job(columns(POSTS)))
    assert found[1]["error"] == "RuntimeError: a second step fails"
    assert found[1]["entities"] is None
    del found[1], expected[1]
    assert_same(found, expected)


def test_what_no_line_can_hold(text_model: Path) -> None:
    job = PredictEntities(text_model)
    lines = [
        "no JSON",
        "[1]",
        '{"text": "half \\ud83d"}',
        "[" * 100_000,
        '{"text": "Ann", "colour": 1}',
        '{"text": "Ann"}',
    ]
    found = rows(job({"id": list("abcdef"), "line": lines}))
    assert [row["error"] is None for row in found] == [False] * 5 + [True]
    assert "which is no JSON object" in found[1]["error"]
    assert "half of a surrogate pair" in found[2]["error"]
    assert "'colour' is not among" in found[4]["error"]
    json.dumps(found, ensure_ascii=False).encode()


def test_images_are_paths_bytes_or_both(image_model: Path, images: Path) -> None:
    names = ["0.png", "1.png", "page.jpg", "gone.png", "../images/2.png", None]
    lines = [{"id": str(place), "text": "Ann in Paris", "image": name} for place, name in enumerate(names)]
    with pytest.warns(UserWarning, match=r"no image|which the model reads"):
        expected = plain(image_model, lines, images)
    job = PredictEntities(image_model, images=str(images))
    found = rows(job(columns(lines)))
    assert_same(found, expected)
    assert "there is no image" in found[3]["error"]
    assert [row["missing"] for row in found] == [[], [], ["image features"], [], [IMAGE_OUTSIDE], []]
    assert rows(PredictEntities(image_model, images=str(images), allow_paths=True)(columns(lines)))[4]["missing"] == []
    content = [(images / name).read_bytes() if place < 3 else None for place, name in enumerate(map(str, names))]
    some = [0, 1, 2, 5]
    given = {"id": [lines[place]["id"] for place in some], "text": ["Ann in Paris"] * 4}
    for image in (
        [content[place] for place in some],
        [{"bytes": content[place], "path": names[place]} if content[place] else None for place in some],
        [{"bytes": None, "path": names[place]} if names[place] else None for place in some],
    ):
        assert rows(job({**given, "image": image})) == [found[place] for place in some]
    # by an address of a file system
    elsewhere = PredictEntities(image_model, images=images.as_uri())
    pytest.importorskip("pyarrow", reason="addresses are read by pyarrow, of the extra ray")
    again = rows(elsewhere(columns(lines)))
    assert "there is no image" in again[3].pop("error")
    found[3].pop("error")
    assert again == found


def test_features_in_columns_give_the_same_entities(image_model: Path, images: Path) -> None:
    lines = [{"id": str(place), "text": "Ann in Paris", "image": f"{place}.png"} for place in range(4)]
    lines += [{"id": "4", "text": "Ann", "image": "page.jpg"}, {"id": "5", "text": "Ann", "image": "gone.png"}]
    direct = PredictEntities(image_model, images=str(images))
    expected = rows(direct(columns(lines)))
    extracted = ExtractFeatures(SMALL, images=str(images))(columns(lines))
    errors = extracted.pop("error")
    assert errors[:4] == [None] * 4
    assert "web page" in errors[4]
    assert "there is no image" in errors[5]
    assert extracted["grid_rows"][:5] == [1, 1, 1, 1, None]
    without = PredictEntities(image_model, images=str(images), run_extractors=False)
    assert rows(without(columns(lines)))[0]["missing"] == ["image features"]
    found = rows(without(extracted))
    assert_same(found[:5], expected[:5])
    assert [row["missing"] for row in found] == [row["missing"] for row in expected]
    # a grid of other rows than it has
    extracted["grid_rows"][0] = 7
    assert "which are not those of 7 rows" in rows(without(extracted))[0]["error"]


@dataclass(frozen=True)
class Brightness(Extractor):
    """The mean of an image's pixels in words; fails for a black one."""

    source: str = "brightness"
    provides: ClassVar[tuple[str, ...]] = ("context",)
    sources: ClassVar[tuple[str, ...]] = ("brightness",)

    @property
    def name(self) -> str:
        return "brightness"

    @cached_property
    def network(self) -> nn.Module:
        return nn.Identity()

    def preprocess(self, image: Image.Image, phrases: Sequence[Any]) -> dict[str, Tensor]:
        return {"mean": torch.tensor(float(np.asarray(image).mean()))}

    def forward(self, batch: Mapping[str, Tensor], items: Sequence[BatchImage]) -> list[ImageEvidence]:
        if (batch["mean"] == 0).any():
            raise RuntimeError("it is black")
        texts = ["bright" if mean > 127 else "dark" for mean in batch["mean"].tolist()]
        return [ImageEvidence(context=(ContextText(self.source, text),)) for text in texts]


def test_context_is_built_beside_what_there_is(tmp_path: Path) -> None:
    for name, grey in (("black", 0), ("dark", 50), ("bright", 200)):
        Image.new("RGB", (8, 8), (grey,) * 3).save(tmp_path / f"{name}.png")
    ocr = {"source": "ocr", "text": "SALE"}
    lines = [
        {"id": "1", "text": "Ann", "image": "dark.png", "context": [ocr, {"source": "brightness", "text": "before"}]},
        {"id": "2", "image": "bright.png"},
        {"id": "3", "words": ["Ann"], "image": "black.png", "context": [ocr]},
        {"id": "4", "text": "Ann"},
        {"id": "5", "text": "Ann", "image": "../dark.png"},
        {"id": "6", "text": "Ann", "image": "dark.png", "extra": "no JSON"},
    ]
    job = BuildContext([Brightness()], images=str(tmp_path))
    found = rows(job(columns(lines)))
    assert [row["context"] for row in found] == [
        [ocr, {"source": "brightness", "text": "dark"}],
        [{"source": "brightness", "text": "bright"}],
        [ocr],
        None,
        None,
        None,
    ]
    assert (found.pop()["error"] or "").startswith("Expecting value")
    assert [row["error"] for row in found] == [
        None,
        None,
        "RuntimeError: it is black",
        None,
        "its image leads out of the folder of images",
    ]
    assert [row["text"] or row["words"] for row in found] == ["Ann", None, ["Ann"], "Ann", "Ann"]
    with pytest.raises(ValueError, match="BackboneGrid provides more than texts"):
        BuildContext([SMALL])
    torch.manual_seed(0)
    model = saved(PGIM(encoder(), LABELS, context=Context(sources=("brightness",), budget=8)), tmp_path / "model")
    predicted = rows(PredictEntities(model, images=str(tmp_path))(job(columns(lines[:5]))))
    lacks = ["context (brightness)"]
    assert [row["missing"] for row in predicted] == [[], [], lacks, lacks, [IMAGE_OUTSIDE, *lacks]]
    assert [row["error"] is None for row in predicted] == [True, False, True, True, True]


def test_extractors_of_texts_alone() -> None:
    assert [name for name in EXTRACTORS if provides_texts(EXTRACTORS[name])] == [
        "Captioner",
        "OCR",
        "KnowledgeGenerator",
    ]
