"""Models saved by version 0.1 give the same scores and tags."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from mnergraph.data import Evidence
from mnergraph.data.processor import Processor, ProcessorConfig
from mnergraph.features.text.noun_chunks import SpacyChunker
from mnergraph.features.vision.crops import RegionEncoder
from mnergraph.models import Tagger
from mnergraph.models.saved_0_1 import convert_config, processor_config
from mnergraph.pair import DetectedObject, Pair

FOLDER = Path(__file__).parent / "saved_0_1"
EXPECTED = json.loads((FOLDER / "expected.json").read_text())


def pair(post: dict[str, Any]) -> Pair:
    objects = [
        DetectedObject(item["label"], tuple(item["box"]), span=item["words"] and tuple(item["words"]))
        for item in post["objects"]
    ]
    regions = [torch.tensor(item["region"]) for item in post["objects"]]
    return Pair(
        tuple(post["words"]),
        size=post["size"] and tuple(post["size"]),
        objects=tuple(
            DetectedObject(item.label, item.box, span=item.span, region=region)
            for item, region in zip(objects, regions, strict=True)
        ),
        image_features=post["image"] and torch.tensor(post["image"]),
    )


@pytest.mark.parametrize("name", EXPECTED["models"])
def test_the_same_scores_and_tags(name: str, tmp_path: Path) -> None:
    model, expected = Tagger.from_pretrained(FOLDER / name), EXPECTED["models"][name]
    posts = [pair(post) for post in EXPECTED["posts"]]
    graph = model.forward_examples(posts)
    assert graph.emissions.keys() == expected["emissions"].keys()
    for head, scores in expected["emissions"].items():
        torch.testing.assert_close(graph.emissions[head], torch.tensor(scores), rtol=1e-4, atol=1e-4)
    assert model.decode_tags(graph) == expected["tags"]
    assert model.metadata["data"] == {"name": "Lookalikes"}
    # saved today it is loaded without conversion
    model.save_pretrained(tmp_path)
    assert "model" not in json.loads((tmp_path / "config.json").read_text())
    again = Tagger.from_pretrained(tmp_path).forward_examples(posts)
    assert torch.equal(again.emissions["tags"], graph.emissions["tags"])


@pytest.mark.parametrize(
    ("name", "renamed"),
    [
        ("hamlearning", {("sentence", "gates"): "weighs", ("object", "guides"): "tells", ("token", "guides"): "tells"}),
        ("gvatt", {("image", "guides"): "answers", ("sentence", "broadcasts"): "tells"}),
    ],
)
def test_relations_that_were_renamed(name: str, renamed: dict[tuple[str, str], str], tmp_path: Path) -> None:
    Tagger.from_pretrained(FOLDER / name).save_pretrained(tmp_path)
    path = tmp_path / "schema.json"
    schema = json.loads(path.read_text())
    for entry in schema["relations"]:
        entry["name"] = renamed.pop((entry["src"], entry["name"]), entry["name"])
    assert not renamed
    path.write_text(json.dumps(schema))
    posts = [pair(post) for post in EXPECTED["posts"]]
    expected = Tagger.from_pretrained(FOLDER / name).forward_examples(posts)
    again = Tagger.from_pretrained(tmp_path)
    assert torch.equal(again.forward_examples(posts).emissions["tags"], expected.emissions["tags"])
    # another name is still another graph
    path.write_text(json.dumps(schema).replace("tells", "asks"))
    with pytest.raises(ValueError, match="is not the graph of the model"):
        Tagger.from_pretrained(tmp_path)


def old(model: str, **settings: Any) -> dict[str, Any]:
    return {"model": model, "settings": settings, "labels": [], "record": {}}


@pytest.mark.parametrize(
    ("model", "settings", "ablate"),
    [
        ("UMT", {"form": "released", "conversion_matrix": "none"}, ["w/o Conversion Matrix"]),
        ("GEI", {"entity_level_interaction": False, "span_detection": False}, None),
        ("MGCMT", {"text_img": False, "span_detection": False}, ["w/o ESD", "w/o SemAug", "w/o TextImg"]),
        ("HamLearning", {"rgcn": False, "vit": True}, ["w/o RGCN"]),
    ],
)
def test_ablations(model: str, settings: dict[str, Any], ablate: list[str] | None) -> None:
    if model == "GEI":
        settings |= {"sampling_first": 1, "sampling_last": 3, "sampling_most": 0.5}
    found = convert_config(old(model, **settings), has_nearest_words=False)["settings"]
    assert found["ablate"] == (ablate or ["- Entity-level interaction", "- Span Detection"])
    if model == "GEI":
        assert found["scheduled_sampling"] == {"start_epoch": 1, "end_epoch": 3, "max_ratio": 0.5}


def test_variants() -> None:
    fixed = convert_config(old("UMT", form="paper", conversion_matrix="fixed"), has_nearest_words=False)["settings"]
    assert fixed["variant"]["conversion_matrix"] == "fixed"
    settings = {"form": "released", "hidden": 16, "resnet": "resnet18", "resnet_weights": "random"}
    umgf = convert_config(old("UMGF", **settings), has_nearest_words=False)["settings"]
    assert (umgf["variant"]["intermediate_size"], umgf["variant"]["reduction"]) == (16, "sum")
    assert umgf["resnet"] == {"name": "resnet18", "weights": "random"}


def evidence(**changes: Any) -> dict[str, Any]:
    saved = {"top_objects": 3, "caption_phrases": False, "chunker": "RuleChunker", "regions": asdict(RegionEncoder())}
    return {"metadata": {"evidence": saved | {"image": "pooled", "stores": []} | changes}}


def test_settings_of_the_processor() -> None:
    assert processor_config({"metadata": {}}) is None
    config = processor_config(evidence())
    assert config is not None
    expected = Evidence(top_objects=3, caption_phrases=False, image_nodes="pooled")
    assert config == ProcessorConfig.of(expected, RegionEncoder())
    assert Processor(config).evidence == expected
    assert Processor(config).regions == RegionEncoder()


def test_chunkers() -> None:
    with pytest.warns(UserWarning, match="did not save the spaCy model"):
        spacy = processor_config(evidence(chunker="SpacyChunker"))
    assert spacy is not None
    assert spacy.chunker == {"class": f"{SpacyChunker.__module__}:SpacyChunker", "settings": {}}
    with pytest.raises(ValueError, match=r"chunker 'Mine' without its module.*\"my_module:Mine\""):
        processor_config(evidence(chunker="Mine"))
    own = processor_config(evidence(chunker="my_module:Mine"))
    assert own is not None
    assert own.chunker == {"class": "my_module:Mine", "settings": {}}


def test_custom_model() -> None:
    with pytest.raises(ValueError, match="saved the model 'Mine' without its module; known: "):
        convert_config(old("Mine"), has_nearest_words=False)
