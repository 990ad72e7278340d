"""GVATT against an implementation of its equations, one word and one region at a time, over either encoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from grid_attention import check_equations, check_image_changes_scores
from torch import Tensor, nn

from mnergraph.explain import record_attention
from mnergraph.models import GVATT
from mnergraph.models.gvatt import TO_SENTENCE
from mnergraph.nn.encoders.visual import ImageEncoder
from mnergraph.nn.layers.hetero import FeatureModule, RelationModule
from mnergraph.nn.layers.lstm import SentenceLSTM
from mnergraph.pair import Pair

BuildModel = Callable[[str], GVATT]
KINDS = ["GVATT", "GVATT words"]
either = pytest.mark.parametrize("kind", KINDS)


def part(model: GVATT, kind: type) -> nn.Module:
    return next(layer for layer in model.layers if isinstance(layer, kind))


def gate(gates: nn.Module, h: Tensor, c: Tensor) -> Tensor:
    return torch.sigmoid(gates.a.weight @ h + gates.a.bias + gates.b.weight @ c)


def plain(model: GVATT, states: Tensor, post: Pair) -> Tensor:
    """Emissions of one post from its words' states, by the equations in the module's docstring."""
    image, attention = part(model, ImageEncoder).linear, part(model, RelationModule).operator
    fusion = part(model, FeatureModule).module
    # text query
    _, (last, _) = part(model, SentenceLSTM).lstm.lstm(states[None])
    q = last[0, 0]
    # visual attention
    regions = [] if post.image_features is None else [image(u) for u in post.image_features]
    scores = [attention.score.weight[0] @ torch.tanh(attention.query(q) + attention.key.weight @ v) for v in regions]
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


@either
def test_against_the_equations(kind: str, peaked: BuildModel, grids: list[Pair]) -> None:
    check_equations(peaked(kind), grids, plain)


@either
def test_image_changes_scores(kind: str, peaked: BuildModel, grids: list[Pair]) -> None:
    check_image_changes_scores(peaked(kind), grids)


@either
def test_attention_is_recorded(kind: str, peaked: BuildModel, grids: list[Pair]) -> None:
    model = peaked(kind)
    other = replace(grids[0], words=("in", "Paris", "saw"))
    with record_attention(model) as record:
        model.predict([grids[0], other, grids[2]])
    one, other_text, without_image = record.posts
    (recorded,), (recorded_other,), (recorded_none,) = (
        post.select(TO_SENTENCE) for post in (one, other_text, without_image)
    )
    torch.testing.assert_close(recorded.matrix().sum(-1), torch.ones(1, 1))
    assert recorded.nodes == (49, 1)
    assert recorded_none.nodes == (0, 1)
    assert (recorded.weights - recorded_other.weights).abs().max() > 1e-4, "attention depends on the sentence"
    assert [(gates.node_type, len(gates.values)) for gates in one.gates] == [("token", 5)] * 2


def test_no_character_nodes_with_a_pretrained_encoder(peaked: BuildModel) -> None:
    read = {kind: "character" in peaked(kind).builder(Pair(("a",))).node_types for kind in KINDS}
    assert read == {"GVATT": False, "GVATT words": True}
