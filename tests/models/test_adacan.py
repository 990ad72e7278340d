"""AdaCAN against a reading of its equations, one word, region and gate at a time, over either encoder."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mnergraph.features.backbone import tiny
from mnergraph.features.wordvectors import random_vectors
from mnergraph.graph import Pair, collate
from mnergraph.labels import Labels
from mnergraph.models import AdaCAN
from mnergraph.models.adacan import TO_TOKENS, TOKENS, AdaptiveFusion
from mnergraph.nn.additive import AdditiveAttention, Along
from mnergraph.nn.encoders import ImageEncoder
from mnergraph.nn.gates import GateValues
from mnergraph.nn.state import Graph

LABELS = Labels.of_types(["PER", "LOC"])
IMAGE = 5
SMALL = {"image_width": IMAGE, "hidden": 4, "character_width": 3, "filters": 4, "attention": 9}


def model_over(what: str) -> AdaCAN:
    torch.manual_seed(0)
    words = ["bob", "saw", "paris", "in"]
    vectors, bert = random_vectors(words, 6, at_least=1), tiny(words, width=12, layers=1, heads=2)
    model = AdaCAN(vectors if what == "words" else bert, LABELS, **SMALL).eval()
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
        Pair(words[:1], None, "one word, no picture"),
        Pair(words * 20, None, "a hundred words", image=torch.randn(4, IMAGE)),
    ]


def attend(operator: AdditiveAttention, asks: Tensor, answers: list[Tensor]) -> Tensor:
    w, out = operator.score.weight[0], torch.zeros_like(asks)
    scores = [w @ torch.tanh(operator.query(asks) + operator.key.weight @ x) for x in answers]
    for score, x in zip(scores, answers, strict=True):
        out = out + score.exp() / sum(other.exp() for other in scores) * x
    return out


def plain(model: AdaCAN, states: Tensor, post: Pair) -> Tensor:
    """Emissions of one post from its words' states, by the equations in the module's docstring."""
    image = next(layer for layer in model.layers if isinstance(layer, ImageEncoder)).linear
    visual, textual = (layer.operator for layer in model.layers if isinstance(layer, Along))
    fusion = model.layers[-2].module
    regions = [] if post.image is None else [torch.tanh(image(u)) for u in post.image]
    rows = []
    for h in states:
        # word-guided visual attention, image-guided textual attention
        seen = attend(visual, h, regions)
        told = attend(textual, seen, list(states))
        # gated multimodal fusion
        a, b = torch.tanh(fusion.seen(seen)), torch.tanh(fusion.told(told))
        g = torch.sigmoid(fusion.fusion.a.weight @ a + fusion.fusion.b.weight @ b)
        m = g * a + (1 - g) * b
        # filtration gate
        s = torch.sigmoid(
            fusion.filtration.a.weight @ h + fusion.filtration.a.bias + fusion.filtration.b.weight @ m
        )
        u = s * torch.tanh(fusion.inner(m))
        rows.append(model.layers[-1].linear(torch.cat([h, u])))
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


def test_words_guide_what_is_seen(posts: list[Pair]) -> None:
    """Each word looks elsewhere, which it could not if its part of the score left the softmax."""
    model = model_over("words")
    seen: dict[tuple[str, str, str], Tensor] = {}
    for layer in model.layers:
        if isinstance(layer, Along):
            layer.operator.weights.register_forward_hook(
                lambda module, args, out, key=layer.relation: seen.update({key: out[0, 0]})
            )
    model(model.builder(posts[0]))
    assert seen[TO_TOKENS].shape == (5, 49)
    assert seen[TOKENS].shape == (5, 5)
    for weights in seen.values():
        torch.testing.assert_close(weights.sum(-1), torch.ones(5))
        assert (weights[0] - weights[1]).abs().max() > 1e-4


@pytest.mark.parametrize("what", ["words", "bert"])
def test_the_picture_decides(what: str, posts: list[Pair]) -> None:
    model = model_over(what)
    one, other, none = (model(model.builder(posts[place])).emissions["tags"] for place in (0, 1, 4))
    assert not torch.allclose(one, other, atol=1e-4)
    assert not torch.allclose(one, none, atol=1e-4)


def test_gates_are_hooked() -> None:
    fusion, seen = AdaptiveFusion(4), []
    for gates in (module for module in fusion.modules() if isinstance(module, GateValues)):
        gates.register_forward_hook(lambda module, args, out: seen.append(out))
    fusion(*torch.randn(3, 3, 4))
    assert [tuple(values.shape) for values in seen] == [(3, 4)] * 2


def test_numbers_of_either_encoder() -> None:
    over = {what: model_over(what) for what in ("words", "bert")}
    parts = [part for layer in over["words"].layers[:3] for part in layer.modules()]
    assert {part.p for part in parts if isinstance(part, nn.Dropout)} == {0.5}
    assert over["bert"].layers[0].dropout.p == 0.1
    assert "character" not in over["bert"].builder(Pair(("a",))).node_types
    assert "character" in over["words"].builder(Pair(("a",))).node_types
