"""ATTR-MMKG-MNER against its equations, word by word."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mnergraph.graph import collate
from mnergraph.models import Tagger
from mnergraph.pair import ContextText, Pair

Build = Callable[..., Tagger]
KINDS = ["ATTR-MMKG-MNER", "ATTR-MMKG-MNER words"]


def attended(operator: torch.nn.Module, query: Tensor, sources: Tensor) -> Tensor:
    """Additive attention of one word to some nodes; zeros without any."""
    if not len(sources):
        return torch.zeros(sources.shape[-1], dtype=query.dtype)
    scores = [
        operator.score(torch.tanh(operator.query(query) + operator.key(source)))[0]  # type: ignore[operator]
        for source in sources
    ]
    shares = torch.stack(scores).softmax(0)
    return sum(share * source for share, source in zip(shares, sources, strict=True))  # type: ignore[return-value]


@pytest.mark.parametrize("kind", KINDS)
def test_scores_against_a_loop(kind: str, build: Build, everything: list[Pair]) -> None:
    model = build(kind).double().eval()
    bare = replace(everything[1], image_features=None, objects=(), context=(ContextText("knowledge", ""),))
    posts = [*everything, replace(bare, caption=None)]
    state = model(collate([_double(data) for data in model.builder.build_all(posts)]))
    parts = {type(layer).__name__: layer for layer in model.layers}
    operators = [layer.operator for layer in model.layers if type(layer).__name__ == "RelationModule"]
    gate, emit = (
        [layer.module for layer in model.layers if type(layer).__name__ == "FeatureModule"][1],
        parts["TaggingScores"],
    )
    split = {
        name: state.x[name].split(state.layouts[name].counts.tolist())
        for name in ("token", "object", "image", "context")
    }
    assert [len(rows) > 0 for rows in split["context"]] == [True, False, False]
    emissions = state.emissions["tags"].split(state.layouts["token"].counts.tolist())
    for post, found in enumerate(emissions):
        for word, scores in enumerate(found):
            h = split["token"][post][word]
            sources = (split[name][post] for name in ("object", "image", "context"))
            v = sum(attended(operator, h, nodes) for operator, nodes in zip(operators, sources, strict=True))
            g = torch.sigmoid(gate.a(h) + gate.b(v))
            expected = emit.linear(torch.cat([h, g * v]))
            torch.testing.assert_close(scores, expected, atol=1e-10, rtol=1e-10)


def _double(data):  # type: ignore[no-untyped-def]
    data["image"].x = data["image"].x.double()
    return data


@pytest.mark.parametrize("kind", KINDS)
def test_five_attributes(kind: str, build: Build, everything: list[Pair]) -> None:
    model, post = build(kind), everything[0]
    many = replace(post, objects=post.objects * 4)
    assert model.builder(many)["object"].num_nodes == 5
    assert "context" not in build(kind).schema.without(("context", "informs", "token")).relations
