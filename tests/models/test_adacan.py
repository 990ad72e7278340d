"""AdaCAN against an implementation of its equations, one word, region and gate at a time, over either encoder."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from grid_attention import check_equations, check_image_changes_scores
from torch import Tensor

from mnergraph.explain import record_attention
from mnergraph.models import AdaCAN
from mnergraph.models.adacan import TO_TOKENS, TOKENS
from mnergraph.nn.conv.additive_attention import AdditiveAttention
from mnergraph.nn.encoders.visual import ImageEncoder
from mnergraph.nn.layers.hetero import RelationModule
from mnergraph.pair import Pair

BuildModel = Callable[[str], AdaCAN]
either = pytest.mark.parametrize("kind", ["AdaCAN", "AdaCAN words"])


def attend(operator: AdditiveAttention, query: Tensor, keys: list[Tensor]) -> Tensor:
    w, out = operator.score.weight[0], torch.zeros_like(query)
    scores = [w @ torch.tanh(operator.query(query) + operator.key.weight @ x) for x in keys]
    total = sum(score.exp() for score in scores)
    for score, x in zip(scores, keys, strict=True):
        out = out + score.exp() / total * x
    return out


def plain(model: AdaCAN, states: Tensor, post: Pair) -> Tensor:
    """Emissions of one post from its words' states, by the equations in the module's docstring."""
    image = next(layer for layer in model.layers if isinstance(layer, ImageEncoder)).linear
    visual, textual = (layer.operator for layer in model.layers if isinstance(layer, RelationModule))
    fusion = model.layers[-2].module
    regions = [] if post.image_features is None else [torch.tanh(image(u)) for u in post.image_features]
    rows = []
    for h in states:
        # word-guided visual attention, image-guided textual attention
        attended_image = attend(visual, h, regions)
        attended_text = attend(textual, attended_image, list(states))
        # gated multimodal fusion
        a, b = torch.tanh(fusion.visual(attended_image)), torch.tanh(fusion.textual(attended_text))
        g = torch.sigmoid(fusion.fusion.a.weight @ a + fusion.fusion.b.weight @ b)
        m = g * a + (1 - g) * b
        # filtration gate
        s = torch.sigmoid(fusion.filtration.a.weight @ h + fusion.filtration.a.bias + fusion.filtration.b.weight @ m)
        u = s * torch.tanh(fusion.inner(m))
        rows.append(model.layers[-1].linear(torch.cat([h, u])))
    return torch.stack(rows)


@either
def test_against_the_equations(kind: str, peaked: BuildModel, grids: list[Pair]) -> None:
    check_equations(peaked(kind), grids, plain)


@either
def test_attention_differs_between_words(kind: str, peaked: BuildModel, grids: list[Pair]) -> None:
    """Attention differs between words, so the score is not a sum of a word's part and a node's part."""
    model = peaked(kind)
    with record_attention(model) as record:
        model.predict([grids[0], grids[2]])
    one, without_image = record.posts
    for relation, nodes in ((TO_TOKENS, (49, 5)), (TOKENS, (5, 5))):
        (recorded,) = one.select(relation)
        assert recorded.nodes == nodes
        (weights,) = recorded.matrix()
        torch.testing.assert_close(weights.sum(-1), torch.ones(5))
        assert (weights[0] - weights[1]).abs().max() > 1e-4
    assert without_image.select(TO_TOKENS)[0].nodes == (0, 5)
    assert [(gates.node_type, len(gates.values)) for gates in one.gates] == [("token", 5)] * 2


@either
def test_image_changes_scores(kind: str, peaked: BuildModel, grids: list[Pair]) -> None:
    check_image_changes_scores(peaked(kind), grids)
