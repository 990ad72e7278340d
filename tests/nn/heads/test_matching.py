"""Matching of words and messages: the loss by hand, and where there are no negatives."""

from __future__ import annotations

import math

import pytest
import torch
from fakes import awkward_posts, state
from torch import Tensor

from mnergraph.nn.heads.matching import MatchingHead
from mnergraph.nn.layers.post_gate import exchanged_task
from mnergraph.nn.state import GraphState

HAS_OBJECTS = [bool(pair.objects) for pair in awkward_posts()]


def graph_of(own: Tensor, exchanged: Tensor | None = None) -> GraphState:
    graph = state(awkward_posts()).with_scores("match", own)
    return graph if exchanged is None else graph.with_scores(exchanged_task("match"), exchanged)


def scores(seed: int) -> Tensor:
    return 3 * torch.randn(8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_against_the_formula() -> None:
    own, exchanged = scores(0), scores(1)
    losses = MatchingHead(source="object").train().loss(graph_of(own, exchanged)).tolist()
    for loss, s, foreign, has in zip(losses, own.tolist(), exchanged.tolist(), HAS_OBJECTS, strict=True):
        right, wrong = 1 / (1 + math.exp(-s)), 1 / (1 + math.exp(-foreign))
        assert loss == pytest.approx(-(math.log(right) + math.log(1 - wrong)) / 2 if has else 0.0, abs=1e-10)


def test_without_negatives_and_in_evaluation() -> None:
    own, head = scores(0).requires_grad_(), MatchingHead(source="object")
    assert not head.train().loss(graph_of(own)).any()
    losses = head.eval().loss(graph_of(own, scores(1)))
    assert losses.tolist() == [0.0] * 8
    losses.sum().backward()
    assert own.grad is not None
    assert not own.grad.any()


def test_scores_that_saturate() -> None:
    own = torch.full((8,), -400.0, requires_grad=True)
    losses = MatchingHead(source="object").train().loss(graph_of(own, torch.full((8,), 400.0)))
    assert losses.tolist() == [400.0 * has for has in HAS_OBJECTS]
    losses.sum().backward()
    assert own.grad is not None
    assert own.grad.isfinite().all()


def test_in_half_precision() -> None:
    losses = MatchingHead(source="object").train().loss(graph_of(scores(0).bfloat16(), scores(1).bfloat16()))
    assert losses.dtype == torch.float32


def test_decode() -> None:
    head, own = MatchingHead(source="object", name="match"), scores(0)
    found = head.decode(graph_of(own))
    for value, s, has in zip(found, own.tolist(), HAS_OBJECTS, strict=True):
        assert value == (pytest.approx(1 / (1 + math.exp(-s))) if has else None)
    assert not head.shown
    assert not list(head.parameters())
