"""GVATT against a reading of its equations, one word and one region at a time, over either encoder."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mnergraph.features.backbone import tiny
from mnergraph.features.wordvectors import random_vectors
from mnergraph.graph import Pair, collate
from mnergraph.labels import Labels
from mnergraph.models import GVATT
from mnergraph.models.gvatt import ModulationGate
from mnergraph.nn.additive import Along
from mnergraph.nn.encoders import ImageEncoder
from mnergraph.nn.fusion import Apply
from mnergraph.nn.gates import GateValues
from mnergraph.nn.recurrent import SentenceQuery
from mnergraph.nn.state import Graph

LABELS = Labels.of_types(["PER", "LOC"])
IMAGE = 5
SMALL = {
    "image_width": IMAGE,
    "hidden": 4,
    "character_width": 3,
    "character_hidden": 2,
    "query": 7,
    "attention": 9,
}


def model_over(what: str) -> GVATT:
    torch.manual_seed(0)
    words = ["bob", "saw", "paris", "in"]
    vectors, bert = random_vectors(words, 6, at_least=1), tiny(words, width=12, layers=1, heads=2)
    model = GVATT(vectors if what == "words" else bert, LABELS, **SMALL).eval()
    with torch.no_grad():
        for weight in model.parameters():  # as they begin, all words look at all regions alike
            weight.mul_(4 if weight.dim() > 1 else 1)
    return model


@pytest.fixture
def posts() -> list[Pair]:
    torch.manual_seed(3)
    words = ("Bob", "saw", "Paris", "in", "2017")
    return [
        Pair(words, None, "a grid", image=torch.randn(49, IMAGE)),
        Pair(words, None, "another picture", image=torch.randn(49, IMAGE)),
        Pair(words[:1], None, "one word", image=torch.randn(3, IMAGE)),
        Pair(words[2:], None, "one region", image=torch.randn(1, IMAGE)),
        Pair(words, None, "no picture"),
        Pair(words * 20, None, "a hundred words", image=torch.randn(4, IMAGE)),
    ]


def part(model: GVATT, kind: type) -> nn.Module:
    return next(layer for layer in model.layers if isinstance(layer, kind))


def gate(gates: nn.Module, h: Tensor, c: Tensor) -> Tensor:
    return torch.sigmoid(gates.a.weight @ h + gates.a.bias + gates.b.weight @ c)


def plain(model: GVATT, states: Tensor, post: Pair) -> Tensor:
    """Emissions of one post from its words' states, by the equations in the module's docstring."""
    image, attention = part(model, ImageEncoder).linear, part(model, Along).operator
    fusion = part(model, Apply).module
    # text query
    _, (last, _) = part(model, SentenceQuery).lstm.lstm(states[None])
    q = last[0, 0]
    # visual attention
    regions = [] if post.image is None else [image(u) for u in post.image]
    scores = [
        attention.score.weight[0] @ torch.tanh(attention.query(q) + attention.key.weight @ v) for v in regions
    ]
    c = torch.zeros_like(states[0])
    if regions:
        for alpha, v in zip(torch.stack(scores).softmax(0), regions, strict=True):
            c = c + alpha * v
    # gates
    rows = []
    for h in states:
        m = torch.tanh(fusion.both(torch.cat([h, c])))
        x = gate(fusion.word, h, c) * h + gate(fusion.visual, h, c) * m
        rows.append(model.layers[-1].linear(x))
    return torch.stack(rows)


@pytest.mark.parametrize("what", ["words", "bert"])
def test_against_the_equations(what: str, posts: list[Pair]) -> None:
    model = model_over(what)
    batch = collate(model.builder.build(posts))
    counts = [len(post.words) for post in posts]
    text = next(place for place, layer in enumerate(model.layers) if isinstance(layer, ImageEncoder))
    states = model.layers[:text](Graph.of(batch, model.schema)).x["token"].split(counts)
    found = model(batch).emissions["tags"].split(counts)
    for post, h, scores in zip(posts, states, found, strict=True):
        torch.testing.assert_close(scores, plain(model, h, post), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("what", ["words", "bert"])
def test_the_picture_decides(what: str, posts: list[Pair]) -> None:
    model = model_over(what)
    one, other, none = (model(model.builder(posts[place])).emissions["tags"] for place in (0, 1, 4))
    assert not torch.allclose(one, other, atol=1e-4)
    assert not torch.allclose(one, none, atol=1e-4)


def test_the_sentence_decides_where_to_look(posts: list[Pair]) -> None:
    model, seen = model_over("words"), []
    part(model, Along).operator.weights.register_forward_hook(lambda module, args, out: seen.append(out))
    for words in (("Bob", "saw"), ("Paris", "in", "2017")):
        model(model.builder(Pair(words, image=posts[0].image)))
    (one,), (other,) = seen
    assert one.shape == other.shape == (1, 1, 49)
    assert (one - other).abs().max() > 1e-4


def test_gates_are_hooked() -> None:
    fusion, seen = ModulationGate(4), []
    for gates in (module for module in fusion.modules() if isinstance(module, GateValues)):
        gates.register_forward_hook(lambda module, args, out: seen.append(out))
    fusion(torch.randn(3, 4), torch.randn(3, 4))
    assert [tuple(values.shape) for values in seen] == [(3, 4)] * 2


def test_numbers_of_either_encoder() -> None:
    torch.manual_seed(0)
    over = {what: model_over(what) for what in ("words", "bert")}
    assert over["words"].layers[2].dropout.p == 0.5
    assert over["bert"].layers[0].dropout.p == 0.1
    assert not [name for name, _ in over["bert"].named_parameters() if "spelling" in name or "reader" in name]
    assert "character" not in over["bert"].builder(Pair(("a",))).node_types
    assert "character" in over["words"].builder(Pair(("a",))).node_types
