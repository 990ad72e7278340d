"""AdaCAN against a reading of its equations, one word, region and gate at a time, over either encoder."""

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

Choosy = Callable[[str], AdaCAN]
either = pytest.mark.parametrize("kind", ["AdaCAN", "AdaCAN words"])


def attend(operator: AdditiveAttention, asks: Tensor, answers: list[Tensor]) -> Tensor:
    w, out = operator.score.weight[0], torch.zeros_like(asks)
    scores = [w @ torch.tanh(operator.query(asks) + operator.key.weight @ x) for x in answers]
    total = sum(score.exp() for score in scores)
    for score, x in zip(scores, answers, strict=True):
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
        observed = attend(visual, h, regions)
        message = attend(textual, observed, list(states))
        # gated multimodal fusion
        a, b = torch.tanh(fusion.visual(observed)), torch.tanh(fusion.textual(message))
        g = torch.sigmoid(fusion.fusion.a.weight @ a + fusion.fusion.b.weight @ b)
        m = g * a + (1 - g) * b
        # filtration gate
        s = torch.sigmoid(fusion.filtration.a.weight @ h + fusion.filtration.a.bias + fusion.filtration.b.weight @ m)
        u = s * torch.tanh(fusion.inner(m))
        rows.append(model.layers[-1].linear(torch.cat([h, u])))
    return torch.stack(rows)


@either
def test_against_the_equations(kind: str, choosy: Choosy, grids: list[Pair]) -> None:
    check_equations(choosy(kind), grids, plain)


@either
def test_words_change_the_attention(kind: str, choosy: Choosy, grids: list[Pair]) -> None:
    """Each word looks elsewhere, which it could not if its part of the score left the softmax."""
    model = choosy(kind)
    with record_attention(model) as record:
        model.predict([grids[0], grids[2]])
    one, blind = record.posts
    for relation, nodes in ((TO_TOKENS, (49, 5)), (TOKENS, (5, 5))):
        (observed,) = one.select(relation)
        assert observed.nodes == nodes
        (weights,) = observed.matrix()
        torch.testing.assert_close(weights.sum(-1), torch.ones(5))
        assert (weights[0] - weights[1]).abs().max() > 1e-4
    assert blind.select(TO_TOKENS)[0].nodes == (0, 5)
    assert [(gates.node_type, len(gates.values)) for gates in one.gates] == [("token", 5)] * 2


@either
def test_the_picture_decides(kind: str, choosy: Choosy, grids: list[Pair]) -> None:
    check_image_changes_scores(choosy(kind), grids)
