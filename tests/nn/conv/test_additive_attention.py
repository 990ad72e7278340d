"""Additive attention by loops, dense and sparse; one operator along one relation."""

from __future__ import annotations

import pytest
import torch
from fakes import (
    OBJECTS,
    TO_TOKENS,
    TOKENS,
    awkward_edges,
    awkward_posts,
    gradients,
    layout,
    neighbors,
    random_edges,
    state,
    without_objects,
)
from torch import Tensor

from mnergraph.explain.recorder import RECORDED_MODULES
from mnergraph.graph import Edges
from mnergraph.nn.conv.additive_attention import AdditiveAttention, AdditiveWeights
from mnergraph.nn.conv.attention import RelationAttention
from mnergraph.nn.layers.hetero import RelationModule

WIDTH, HIDDEN, QUERIES = 6, 5, 4
EDGES = [pytest.param(edges, id=name) for name, edges in awkward_edges()]


def inputs(edges: Edges, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    dst = torch.randn(edges.dst.num_nodes, QUERIES, generator=generator)
    return dst, torch.randn(edges.src.num_nodes, WIDTH, generator=generator)


def additive() -> AdditiveAttention:
    torch.manual_seed(0)
    return AdditiveAttention(WIDTH, HIDDEN, query_size=QUERIES)


def plain(attention: AdditiveAttention, dst: Tensor, src: Tensor, edges: Edges) -> Tensor:
    """One receiver and one sender at a time."""
    w, rows = attention.score.weight[0], []
    for i, senders in enumerate(neighbors(edges)):
        scores = [w @ torch.tanh(attention.query(dst[i]) + attention.key.weight @ src[j]) for j in senders]
        total = sum(score.exp() for score in scores)
        rows.append(sum((s.exp() / total * src[j] for s, j in zip(scores, senders, strict=True)), torch.zeros(WIDTH)))
    return torch.stack(rows)


def test_against_the_equation() -> None:
    attention = additive()
    for edges in (
        Edges(layout(3, 1, 0, 4), layout(2, 5, 3, 0)),
        Edges(layout(6, 1), layout(1, 1)),
        random_edges(layout(3, 0, 4), layout(5, 2, 4), 0.4),
    ):
        dst, src = inputs(edges)
        expected = plain(attention, dst, src, edges)
        for edge_layout in ("dense", "sparse"):
            found = attention(src, dst, edges.with_layout(edge_layout))
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("edges", EDGES)
def test_dense_equals_sparse_with_its_gradients(edges: Edges) -> None:
    attention = additive()
    dst, src = inputs(edges)
    found = {}
    for edge_layout in ("dense", "sparse"):
        read = edges.with_layout(edge_layout)
        grads = gradients(lambda d, s, read=read: attention(s, d, read), attention, dst, src)
        found[edge_layout] = [attention(src, dst, read), *grads]
        assert all(values.isfinite().all() for values in found[edge_layout])
    torch.testing.assert_close(found["dense"], found["sparse"], atol=1e-5, rtol=1e-4)


def test_scores_depend_on_the_receiver() -> None:
    """Sums of both sides would not: softmax over the senders cancels the receiver's part."""
    edges = Edges(layout(5), layout(3))
    captured: list[Tensor] = []
    attention = additive()
    attention.weights.register_forward_hook(lambda module, args, weights: captured.append(weights[0, 0]))
    dst, src = inputs(edges)
    attention(src, dst, edges)
    (weights,) = captured
    torch.testing.assert_close(weights.sum(-1), torch.ones(3))
    assert (weights[0] - weights[1]).abs().max() > 1e-3


@pytest.mark.parametrize("edge_layout", ["dense", "sparse"])
def test_forward_hook_gets_the_weights(edge_layout: str) -> None:
    edges = random_edges(layout(3, 4), layout(5, 2), 0.7).with_layout(edge_layout)
    shapes = []
    for operator, dst in ((additive(), QUERIES), (RelationAttention(WIDTH, 1), WIDTH)):
        (weights,) = [part for part in operator.modules() if isinstance(part, tuple(RECORDED_MODULES))]
        weights.register_forward_hook(lambda module, args, out: shapes.append((args[2:4], out.shape)))
        operator(torch.randn(7, WIDTH), torch.randn(7, dst), edges)
    assert shapes[0] == shapes[1] == ((edges, edge_layout == "dense"), shapes[0][1])
    assert not list(AdditiveWeights().parameters())


@pytest.mark.parametrize("posts", [awkward_posts(), without_objects()], ids=["awkward", "without objects"])
def test_along_a_relation(posts: list) -> None:
    graph = state(posts, width=WIDTH)
    graph = graph.update(queries=graph.x["token"].flip(-1))
    operator = AdditiveAttention(WIDTH, HIDDEN)
    found = RelationModule(TO_TOKENS, operator)(graph).x["token"]
    assert torch.equal(found, operator(graph.x["object"], graph.x["token"], graph.edges[TO_TOKENS]))
    layer = RelationModule(TOKENS, operator, dst_key="queries", out_key="attended")
    found = layer(graph)
    assert found.x.keys() - graph.x.keys() == {"attended"}
    expected = operator(graph.x["token"], graph.x["queries"], graph.edges[TOKENS])
    assert torch.equal(found.x["attended"], expected)
    assert RelationModule(TOKENS, operator, src_key="queries")(graph).x["token"].shape == graph.x["token"].shape
    assert RelationModule(OBJECTS, operator)(graph).x["token"] is graph.x["token"]


def test_missing_relation() -> None:
    layer = RelationModule(("image", "shows", "token"), AdditiveAttention(WIDTH, HIDDEN))
    with pytest.raises(KeyError, match="is not in the graph, which has"):
        layer(state(awkward_posts(), width=WIDTH))
