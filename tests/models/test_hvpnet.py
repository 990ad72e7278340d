"""HVPNeT against its equations, node by node and head by head, and against a reading of the released code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from equations import released_pieces, scatter
from prefixed_encoders import encode_with_prefixes
from released_hvpnet import blocks, positions, prefix_of_node, released_prefixes
from torch import Tensor

from benchmarks.encoder_families import FAMILIES
from mnergraph.explain.occlusion import occlusion
from mnergraph.features.text.encoder import TextEncoderModel, tiny_encoder
from mnergraph.graph import collate
from mnergraph.labels import LabelSet, Span
from mnergraph.models import BERTCRF, HVPNeT
from mnergraph.models.hvpnet.layers import VisualPrefix, default_places, prefix_key
from mnergraph.models.hvpnet.model import IMAGE_PREFIX, OBJECT_PREFIX, RELEASED, SCHEMA
from mnergraph.nn import TaggingScores
from mnergraph.nn.encoders.prefix_encoder import PrefixTextEncoder
from mnergraph.nn.state import GraphState
from mnergraph.pair import DetectedObject, Pair
from mnergraph.training import TrainerConfig, fit

LABEL_SET = LabelSet.from_types(["PER", "LOC"])
#: Features of a tiny pyramid: 15 channels at four places; and of a vector that is none.
PYRAMID, VECTOR = 60, 7
WORDS, TAGS = ("Bob", "saw", "New", "York", "today"), ("B-PER", "O", "B-LOC", "I-LOC", "O")
LAYERS = 4


def backbone(max_length: int = 512) -> TextEncoderModel:
    return tiny_encoder(["bob", "saw", "new"], hidden_size=16, num_layers=LAYERS, heads=2, max_length=max_length)


def build(encoder: TextEncoderModel | None = None, **settings: Any) -> HVPNeT:
    """A model in float64 with random weights everywhere."""
    torch.manual_seed(0)
    sizes = {"image_dim": PYRAMID, "region_dim": PYRAMID, "bottleneck_size": 6}
    model = HVPNeT(encoder or backbone(), LABEL_SET, **{**sizes, **settings})
    scatter(model)
    return model.double().eval()


def things(count: int, width: int = PYRAMID, seed: int = 0) -> tuple[DetectedObject, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(DetectedObject("hat", region=torch.randn(width, generator=generator)) for _ in range(count))


def posts(image: int = PYRAMID, region: int = PYRAMID) -> list[Pair]:
    generator = torch.Generator().manual_seed(5)
    vector = torch.randn(1, image, generator=generator)
    return [
        Pair(WORDS, TAGS, "both", image_features=vector, objects=things(2, region)),
        Pair(WORDS, TAGS, "text"),
        Pair(WORDS[::-1] * 2, None, "objects", objects=things(3, region, 1)),
        Pair(WORDS[:1], TAGS[:1], "image", image_features=-vector),
    ]


def run(model: HVPNeT, pairs: Sequence[Pair]) -> GraphState:
    """The last graph, from a batch with features in float64."""
    batch = collate(model.builder.build_all(pairs))
    for node_type in ("image", "object"):
        if node_type in batch.node_types and "x" in batch[node_type]:
            batch[node_type].x = batch[node_type].x.double()
    return model(batch)


def emissions(model: HVPNeT, pairs: Sequence[Pair]) -> list[Tensor]:
    graph = run(model, pairs)
    return list(graph.emissions["tags"].split(graph.layouts["token"].counts.tolist()))


def layer_of(model: HVPNeT, node_type: str) -> VisualPrefix:
    layers = (layer for layer in model.layers if isinstance(layer, VisualPrefix))
    return next(layer for layer in layers if node_type in layer.standardize.node_types)


def plain(model: HVPNeT, pair: Pair) -> Tensor:
    """Emissions of a post that fits the encoder, by the equations of the module's docstring."""
    nodes = [] if pair.image_features is None else [("image", pair.image_features.mean(0))]
    nodes += [("object", item.region) for item in pair.objects if item.region is not None][:3]
    prefixes = []
    for node_type, features in nodes:
        part = layer_of(model, node_type)
        places = positions(len(features), part.num_places)
        of_layers = [prefix_of_node(part, features.double(), layer, places) for layer in range(LAYERS)]
        for place in range(part.num_places):
            # [layers, 2, width]
            rows = torch.stack([of_layers[layer][place] for layer in range(LAYERS)])
            prefixes.append(rows.unflatten(1, (2, part.prefix_size)))
    tokenizer = model.encoder.tokenizer
    split = tokenizer(pair.words)
    ids = [*tokenizer.start, *(piece for word in split for piece in word), *tokenizer.end]
    states = encode_with_prefixes(model.encoder.model, ids, [prefixes] * len(ids))
    first = [1 + sum(map(len, split[:word])) for word in range(len(split))]
    return model.layers[-1].linear(states[first])


# --- the equations ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("ablate", [(), ("Flat",), ("1T3",)])
@pytest.mark.parametrize(("image", "region"), [(PYRAMID, PYRAMID), (VECTOR, PYRAMID), (VECTOR, VECTOR), (PYRAMID, 5)])
@torch.no_grad()
def test_against_the_equations(image: int, region: int, ablate: Sequence[str]) -> None:
    model = build(image_dim=image, region_dim=region, ablate=ablate)
    assert len([layer for layer in model.layers if isinstance(layer, VisualPrefix)]) == 1 + (image != region)
    pairs = posts(image, region)
    for pair, found in zip(pairs, emissions(model, pairs), strict=True):
        torch.testing.assert_close(found, plain(model, pair), rtol=1e-10, atol=1e-10)


@torch.no_grad()
def test_objects_alone() -> None:
    model = build(ablate=["OnlyObj"])
    assert list(model.schema.relations) == [OBJECT_PREFIX]
    pairs = posts()
    for pair, found in zip(pairs, emissions(model, pairs), strict=True):
        without = replace(pair, image_features=None)
        torch.testing.assert_close(found, plain(model, without), rtol=1e-10, atol=1e-10)
    with pytest.raises(ValueError, match="'OnlyObj' leaves the objects' region vectors alone: give region_dim"):
        HVPNeT(backbone(), LABEL_SET, image_dim=4, ablate=["OnlyObj"])


@torch.no_grad()
def test_image_alone() -> None:
    model = build(region_dim=None)
    assert list(model.schema.relations) == [IMAGE_PREFIX]
    pairs = posts()
    for pair, found in zip(pairs, emissions(model, pairs), strict=True):
        torch.testing.assert_close(found, plain(model, replace(pair, objects=())), rtol=1e-10, atol=1e-10)


@torch.no_grad()
def test_gates_choose_among_the_scales() -> None:
    """Each layer's prefix is a convex combination of four vectors that all layers share."""
    part = layer_of(build(), "image")
    x = torch.randn(5, PYRAMID, dtype=torch.float64)
    prefixes = part.prefixes(x)
    assert prefixes.shape == (5, LAYERS, 2, 4, 16)
    v = x.unflatten(1, (-1, 4)).transpose(1, 2)
    # [nodes, scales, features of all places]
    scales = part.project(v).unflatten(2, (4, -1)).transpose(1, 2).flatten(2)
    flat = prefixes.transpose(2, 3).flatten(2)
    for node in range(5):
        weights = torch.linalg.lstsq(scales[node].T, flat[node].T).solution
        torch.testing.assert_close(scales[node].T @ weights, flat[node].T)
        torch.testing.assert_close(weights.sum(0), torch.ones(LAYERS, dtype=torch.float64))
        assert (weights > 0).all()
        assert weights.std(1).max() > 1e-3, "gates differ between layers"


@torch.no_grad()
def test_long_posts_have_their_prefixes_in_every_window() -> None:
    model = build(backbone(16))
    pair = Pair(WORDS * 9, None, "long", image_features=torch.randn(1, PYRAMID), objects=things(1))
    batch = [*posts(), pair]
    (alone,), (*_, together) = emissions(model, [pair]), emissions(model, batch)
    torch.testing.assert_close(alone, together, rtol=1e-10, atol=1e-10)
    (bare,) = emissions(model, [replace(pair, image_features=None, objects=())])
    assert ((alone - bare).abs().amax(1) > 1e-4).all(), "the image reaches every word"


@torch.no_grad()
def test_a_post_without_image_is_its_text() -> None:
    model = build()
    text = BERTCRF(model.encoder, LABEL_SET).double().eval()
    text.layers[-1].load_state_dict(model.layers[-1].state_dict())
    pair = Pair(WORDS * 3, None, "text")
    assert torch.equal(run(model, [pair]).emissions["tags"], text(text.builder(pair)).emissions["tags"])


@torch.no_grad()
def test_a_grid_is_represented_by_its_mean() -> None:
    model = build()
    pair = replace(posts()[0], image_features=torch.randn(5, PYRAMID))
    assert pair.image_features is not None
    (found,) = emissions(model, [pair])
    (mean,) = emissions(model, [replace(pair, image_features=pair.image_features.mean(0, keepdim=True))])
    torch.testing.assert_close(found, mean, rtol=1e-6, atol=1e-6)


# --- objects and features --------------------------------------------------------------------------------


@torch.no_grad()
def test_three_objects_with_vectors_are_read() -> None:
    model, five = build(), things(5)
    bare = DetectedObject("no vector")
    pair = Pair(WORDS, None, "five", objects=(bare, five[0], bare, *five[1:]))
    batch = collate(model.builder.build_all([pair]))
    assert torch.equal(batch["object"].x, torch.stack([item.region for item in five[:3] if item.region is not None]))
    (found,) = emissions(model, [pair])
    (three,) = emissions(model, [replace(pair, objects=five[:3])])
    assert torch.equal(found, three)
    all_of_them = build(num_objects=None)
    assert run(all_of_them, [pair]).layouts["object"].num_nodes == 5
    nothing = Pair(WORDS, None, "no vectors", objects=(bare,) * 4)
    (without,), (text,) = emissions(model, [nothing]), emissions(model, [replace(nothing, objects=())])
    assert torch.equal(without, text)


@pytest.mark.parametrize(
    ("width", "places"), [(15360, 4), (3840, 4), (2048, 1), (768, 1), (384, 1), (512, 1), (50, 1), (8192, 1)]
)
def test_number_of_places(width: int, places: int) -> None:
    assert default_places(width) == places


def test_places_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="num_places=4 does not divide the 7 features of image; a vector that is no"):
        HVPNeT(backbone(), LABEL_SET, image_dim=7, region_dim=8, num_places=4)
    model = HVPNeT(backbone(), LABEL_SET, image_dim=8, region_dim=8, num_places=2)
    assert run(model.double(), posts(8, 8)).x[prefix_key("image")].shape == (2, LAYERS, 2, 2, 16)


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="HVPNeT reads features of the image and of objects: give image_dim or"):
        HVPNeT(backbone(), LABEL_SET)
    with pytest.raises(ValueError, match="'Flat' has one scale and '1T3' one for each quarter of the layers: give one"):
        HVPNeT(backbone(), LABEL_SET, image_dim=4, ablate=["Flat", "1T3"])
    with pytest.raises(ValueError, match="DebertaV2Model computes its self-attention in a way of its own"):
        HVPNeT(FAMILIES["DeBERTa-v2"](), LABEL_SET, image_dim=4)


def test_missing_evidence() -> None:
    model = build()
    assert set(model.builder.missing(Pair(WORDS))) == {"image features", "detected objects", "region features"}
    assert set(build(ablate=["OnlyObj"]).builder.missing(Pair(WORDS))) == {"detected objects", "region features"}
    assert model.builder.missing(posts()[0]) == ()


@pytest.mark.parametrize("family", ["RoBERTa", "DistilBERT", "ALBERT", "ModernBERT"])
def test_other_encoders_learn(family: str) -> None:
    torch.manual_seed(0)
    model = HVPNeT(FAMILIES[family](), LABEL_SET, image_dim=PYRAMID, region_dim=PYRAMID, bottleneck_size=6)
    model.train()
    pairs = [pair for pair in posts() if pair.labels is not None]
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    losses = []
    for _ in range(5):
        loss = model.loss(model(collate(model.builder.build_all(pairs))))
        optimizer.zero_grad()
        loss.backward()
        without = [
            name
            for name, weight in model.named_parameters()
            if weight.grad is None or not (weight.grad.any() or "position" in name or name.endswith("key.bias"))
        ]
        assert not [name for name in without if "project" in name or "gates" in name]
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


# --- the released code -----------------------------------------------------------------------------------


def released_attention(part: Any, x: Tensor, prefix: tuple[Tensor, Tensor]) -> Tensor:
    """Self-attention of BERT with prefixes ``[heads, positions, head_size]`` in front of keys and values."""
    heads = part.num_attention_heads
    query, key, value = (of(x).unflatten(1, (heads, -1)).transpose(0, 1) for of in (part.query, part.key, part.value))
    key, value = torch.cat([prefix[0], key], 1), torch.cat([prefix[1], value], 1)
    weights = (query @ key.transpose(1, 2) / part.attention_head_size**0.5).softmax(-1)
    return (weights @ value).transpose(0, 1).flatten(1)


def released_emissions(model: HVPNeT, ids: list[int], image: Tensor, objects: Sequence[Tensor]) -> Tensor:
    bert: Any = model.encoder.model
    x = bert.embeddings(input_ids=torch.tensor([ids]))[0]
    for layer, prefix in zip(bert.encoder.layer, released_prefixes(model, image, objects), strict=True):
        out = layer.attention.output
        x = out.LayerNorm(out.dense(released_attention(layer.attention.self, x, prefix)) + x)
        inner = layer.output.dense(torch.nn.functional.gelu(layer.intermediate.dense(x)))
        x = layer.output.LayerNorm(inner + x)
    return model.layers[-1].linear(x)


@torch.no_grad()
def test_released_scores() -> None:
    model = build(variant="released")
    pairs = [
        Pair(WORDS, TAGS, "a", image_features=torch.randn(1, PYRAMID), objects=things(3)),
        Pair(WORDS[::-1], None, "b", image_features=torch.randn(1, PYRAMID), objects=things(5, seed=3)),
    ]
    ids, mask, _, _ = released_pieces(model.encoder.tokenizer.tokenizer, [replace(p, labels=TAGS) for p in pairs])
    for row, (pair, found) in enumerate(zip(pairs, emissions(model, pairs), strict=True)):
        regions = [item.region.double() for item in pair.objects[:3] if item.region is not None]
        assert pair.image_features is not None
        own = ids[row][mask[row]].tolist()
        expected = released_emissions(model, own, pair.image_features[0].double(), regions)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    assert model.labels.tags[-4:] == ("PAD", "X", "[CLS]", "[SEP]")
    assert blocks(PYRAMID, 4)[1] == list(range(15, 30))


@torch.no_grad()
def test_released_code_alone_equals_batched() -> None:
    model = build(variant="released")
    pairs = posts()
    for pair, found in zip(pairs, emissions(model, pairs), strict=True):
        (alone,) = emissions(model, [pair])
        torch.testing.assert_close(found, alone, rtol=1e-10, atol=1e-10)


@torch.no_grad()
def test_each_point_of_the_release_makes_a_difference() -> None:
    pairs, found = posts(), []
    for changes in ({}, {"channel_blocks": False}, {"reshaped_heads": False}):
        found.append(torch.cat(emissions(build(variant=replace(RELEASED, **changes)), pairs)))
    assert not torch.allclose(found[0], found[1])
    assert not torch.allclose(found[0], found[2])


# --- explanations and training ---------------------------------------------------------------------------


def test_schema_and_layers() -> None:
    assert [str(relation) for relation in SCHEMA] == ["(image, prefixes, token)", "(object, prefixes, token)"]
    assert SCHEMA.unreachable_relations() == []
    model = build()
    (layer,) = (layer for layer in model.layers if isinstance(layer, PrefixTextEncoder))
    assert set(SCHEMA.relations) <= set(layer.relations)
    assert isinstance(model.layers[-1], TaggingScores)
    assert {id(weight) for weight in model.head_parameters()} == {
        id(weight) for part in (model.layers[-1], model.heads) for weight in part.parameters()
    }


def test_removing_a_relation_is_removing_its_nodes() -> None:
    torch.manual_seed(1)
    model = HVPNeT(backbone(), LABEL_SET, image_dim=PYRAMID, region_dim=PYRAMID, bottleneck_size=6).eval()
    scatter(model)
    pair = posts()[0]
    result = occlusion(model, pair)
    by_name = {effect.removed: effect.change for effect in result.effects if effect.what == "relation"}
    assert set(by_name) == {IMAGE_PREFIX, OBJECT_PREFIX}
    assert result.entities
    assert any(abs(change) > 1e-6 for change in by_name[IMAGE_PREFIX])
    tags = model.decode_tags(model.forward_examples([pair]))
    spans = [[Span(entity.start, entity.end, entity.type) for entity in result.entities]]
    graph = model.forward_examples([replace(pair, image_features=None)])
    without = model.span_probabilities(graph, spans, tags)[0]
    for entity, probability, change in zip(result.entities, without, by_name[IMAGE_PREFIX], strict=True):
        assert entity.score + change == pytest.approx(probability, abs=1e-5)


def test_features_are_standardized_by_the_training_posts(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = HVPNeT(backbone(), LABEL_SET, image_dim=PYRAMID, region_dim=PYRAMID, bottleneck_size=6)
    generator = torch.Generator().manual_seed(0)
    train = [
        Pair(
            WORDS,
            TAGS,
            str(index),
            image_features=1000 + torch.randn(1, PYRAMID, generator=generator) if index % 2 else None,
            objects=things(index % 5, seed=index),
        )
        for index in range(12)
    ]
    quiet = TrainerConfig(epochs=1, accelerator="cpu", logger="none", progress=False, save_every=0)
    fit(model, train, train[:4], tmp_path / "run", trainer=quiet)
    rows = [pair.image_features for pair in train if pair.image_features is not None]
    rows += [item.region[None] for pair in train for item in pair.objects[:3] if item.region is not None]
    deviation, mean = torch.std_mean(torch.cat(rows).double(), dim=0)
    part = layer_of(model, "image").standardize
    torch.testing.assert_close(part.mean.double(), mean, rtol=1e-6, atol=1e-4)
    torch.testing.assert_close(part.deviation.double(), deviation, rtol=1e-5, atol=1e-4)
