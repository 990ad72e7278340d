"""Grounding in every model that takes it: beside each stack, in training, saved, and in results."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch_geometric.loader import DataLoader

import mnergraph
from mnergraph import BatchConfig, Predictor
from mnergraph.data import GraphDataset
from mnergraph.features.text.encoder import tiny_encoder
from mnergraph.graph import collate
from mnergraph.labels import LabelSet, Region, tags_to_spans
from mnergraph.models import BERTCRF, MODELS, UMGF, BiLSTMCRF, Tagger
from mnergraph.nn import EntityGrounding, Grounding
from mnergraph.nn.heads.scheduled_sampling import ScheduledSamplingConfig
from mnergraph.nn.layers.placed_objects import PlacedObjects
from mnergraph.pair import DetectedObject, GroundedEntity, Pair

Build = Callable[..., Tagger]
SETTINGS = Grounding(hidden_size=8, num_heads=2, dropout=0.0)
KINDS = ["BERT", "BERT-CRF", "MT-BERT-CRF", "UMT", "UMGF", "GEI", "MGCMT", "HamLearning"]
RELEASED = ["UMT released", "UMGF released", "MGCMT released"]
every_model = pytest.mark.parametrize("kind", [*KINDS, *RELEASED])
pytestmark = pytest.mark.filterwarnings("ignore:post .* is cut at 128 pieces")


def with_boxes(pairs: list[Pair]) -> list[Pair]:
    """The posts with gold boxes of every entity: those of its post's objects in turn, none, or one of no object."""
    grounded = []
    for pair in pairs:
        boxes = [item.box for item in pair.objects if item.box is not None] + [(5.0, 5.0, 6.0, 6.0)]
        entities = [
            GroundedEntity(*span, () if number % 3 == 2 else (boxes[number % len(boxes)],))
            for number, span in enumerate(tags_to_spans(pair.labels or ()))
        ]
        grounded.append(replace(pair, size=pair.size or (8, 8), grounding=tuple(entities)))
    return grounded


@pytest.fixture
def posts(awkward: dict[str, list[Pair]], everything: list[Pair]) -> list[Pair]:
    return with_boxes([post for batch in awkward.values() for post in batch] + everything)


def test_models_that_take_grounding() -> None:
    assert [name for name in MODELS if "grounding" in inspect.signature(MODELS[name]).parameters] == sorted(
        KINDS, key=list(MODELS).index
    )


@every_model
def test_alone_equals_batched(kind: str, build: Build, posts: list[Pair]) -> None:
    model = build(kind, grounding=SETTINGS).eval()
    together = model(collate(model.builder.build_all(posts)))
    losses = model.heads["grounding"].loss(together)
    found = model.decode_entities(together)
    for index, post in enumerate(posts):
        alone = model(collate([model.builder(post)]))
        [loss] = model.heads["grounding"].loss(alone)
        torch.testing.assert_close(loss, losses[index], rtol=1e-4, atol=1e-4)
        [entities] = model.decode_entities(alone)
        spans = [(entity.start, entity.end, entity.type) for entity in entities]
        assert spans == [(entity.start, entity.end, entity.type) for entity in found[index]]
        for one, other in zip(entities, found[index], strict=True):
            assert one.region is not None
            assert other.region is not None
            assert one.region.score == pytest.approx(other.region.score, abs=1e-4)
            assert one.region.box is None or one.region.box in [item.box for item in post.objects]


@every_model
def test_graphs_from_disk_in_batches_of_pyg(kind: str, build: Build, posts: list[Pair], tmp_path: Path) -> None:
    """Gold boxes are kept: the same loss, the same regions."""
    dataset = GraphDataset(tmp_path, posts, build(kind, grounding=SETTINGS).builder)
    (whole,) = DataLoader(dataset, batch_size=len(posts))
    losses, found = [], []
    for batch in (collate(build(kind, grounding=SETTINGS).builder.build_all(posts)), whole):
        model = build(kind, grounding=SETTINGS)
        torch.manual_seed(0)
        losses.append(model.loss(model(batch)))
        found.append(model.eval().decode_entities(model(batch)))
    assert torch.equal(*losses)
    assert found[0] == found[1]
    assert any(entity.region is not None for entities in found[0] for entity in entities)


@every_model
def test_every_parameter_has_a_gradient(kind: str, build: Build, everything: list[Pair]) -> None:
    model = build(kind, grounding=SETTINGS)
    model.loss(model(collate(model.builder.build_all(with_boxes(everything))))).backward()
    without = build(kind)
    assert without.grounding_head is None
    own = {name: weight for name, weight in model.named_parameters() if name not in dict(without.named_parameters())}
    assert len(own) > 20
    still = [
        name
        for name, weight in own.items()
        if weight.grad is None or (not weight.grad.any() and not name.endswith("key.bias"))
    ]
    assert not still


@every_model
def test_saved_and_loaded(kind: str, build: Build, everything: list[Pair], tmp_path: Path) -> None:
    schedule = ScheduledSamplingConfig(start_epoch=1, end_epoch=3, max_ratio=0.5)
    settings = replace(SETTINGS, targets="best", allowed={"PER": ["person"]}, scheduled_sampling=schedule)
    model = build(kind, grounding=settings).eval()
    model.save_pretrained(tmp_path / "model")
    loaded = mnergraph.load(tmp_path / "model")
    assert loaded.grounding == model.grounding
    assert loaded.predict(everything) == model.predict(everything)
    assert all(entity.region is not None for post in loaded.predict(everything) for entity in post)


@pytest.mark.parametrize("kind", KINDS)
def test_tags_are_those_of_the_same_model_without(kind: str, build: Build, everything: list[Pair]) -> None:
    model, without = build(kind, grounding=SETTINGS).eval(), build(kind).eval()
    weights = model.state_dict()
    without.load_state_dict({name: weights[name] for name in without.state_dict()})
    expected = without.predict(everything)
    found = model.predict(everything)
    assert [[replace(entity, region=None) for entity in post] for post in found] == expected


def test_in_bf16(build: Build, everything: list[Pair]) -> None:
    model = build("UMGF", grounding=SETTINGS)
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.loss(model(collate(model.builder.build_all(with_boxes(everything)))))
    loss.backward()
    lines = list(Predictor(model, batching=BatchConfig(precision="bf16"))(everything))
    assert all("box" in entity for line in lines for entity in line["entities"])


def test_objects_of_a_model_without_are_labels_or_regions() -> None:
    labels, encoder = LabelSet.from_types(["PER"]), tiny_encoder(hidden_size=16, num_layers=1, heads=2)
    model = BERTCRF(encoder, labels, grounding=replace(SETTINGS, region_dim=6))
    assert model.schema.nodes == ("token", "object")
    assert isinstance(model.grounding_head, EntityGrounding)
    [objects] = [layer for layer in model.layers if isinstance(layer, PlacedObjects)]
    assert objects.encoder.region is not None
    with pytest.raises(ValueError, match="region vectors of 4 features, grounding asks for 6; leave out"):
        UMGF(encoder, labels, region_dim=4, num_heads=2, grounding=replace(SETTINGS, region_dim=6))


def test_results_have_the_box_and_its_probability(build: Build) -> None:
    torch.manual_seed(1)
    model = build("UMGF", grounding=SETTINGS).eval()
    objects = (DetectedObject("person", (1, 2, 3, 4), 0.9), DetectedObject("hat", (5, 5, 8, 8), 0.5))
    pairs = [Pair(("Ann", "saw", "Bob", "Lee"), id=str(n), size=(8, 8), objects=objects[: n % 3]) for n in range(9)]
    expected = [model.predict([pair])[0] for pair in pairs]
    assert {entity.region.object is None for post in expected for entity in post if entity.region} == {True, False}
    lines = list(Predictor(model)(pairs))
    results = mnergraph.pipeline(model)(pairs)
    for post, line, result in zip(expected, lines, results, strict=True):
        for entity, one, other in zip(post, line["entities"], result, strict=True):
            assert isinstance(entity.region, Region)
            box = entity.region.box and [float(side) for side in entity.region.box]
            assert one["box"] == other["box"] == box
            assert one["box_label"] == other["box_label"] == (None if box is None else entity.region.label)
            assert one["box_probability"] == pytest.approx(entity.region.score, abs=2e-5)
            assert other["attention_weight"] is None or other["attention_box"] in ([1, 2, 3, 4], [5, 5, 8, 8])


def test_what_a_model_cannot_ground() -> None:
    labels = LabelSet.from_types(["PER"])
    assert "grounding" not in inspect.signature(BiLSTMCRF).parameters
    from mnergraph.nn import CRF, TaggingHead, TextEncoder

    encoder = tiny_encoder(hidden_size=16, num_layers=1, heads=2)
    with pytest.raises(ValueError, match="this model scores none"):
        Tagger(
            schema=mnergraph.Schema(),
            layers=[TextEncoder(encoder)],
            heads=[TaggingHead(CRF(labels.tags), labels)],
            encoder=encoder,
            labels=labels,
            grounding=SETTINGS,
        )


@pytest.mark.parametrize("kind", ["BERT-CRF", "UMT released", "GEI"])
def test_tags_of_a_model_whose_regions_give_types(kind: str, build: Build, everything: list[Pair]) -> None:
    model = build(kind, grounding=replace(SETTINGS, types="regions")).eval()
    graph = model.forward_examples(everything)
    entities, tags = model.decode_entities(graph), model.decode_tags(graph)
    assert [tags_to_spans(post, strict=True) for post in tags] == [
        [(entity.start, entity.end, entity.type) for entity in post] for post in entities
    ]
    spans = [tags_to_spans(post) for post in tags]
    scores = model.span_probabilities(graph, spans, tags)
    assert [[pytest.approx(score, abs=1e-5) for score in post] for post in scores] == [
        [entity.score for entity in post] for post in entities
    ]
    assert any(entities)
