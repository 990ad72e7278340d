"""Messages of attention without residuals: by loops, dense and sparse, zeros without source nodes."""

from __future__ import annotations

import math

import pytest
import torch
from equations import scatter
from fakes import awkward_edges, gradients, layout, neighbors, random_edges
from torch import Tensor, nn

from mnergraph.graph import Edges
from mnergraph.nn.conv.attention_message import AttentionMessage

WIDTH, HEADS, HIDDEN = 6, 2, 10
EDGES = [pytest.param(edges, id=name) for name, edges in awkward_edges()]


def message(dropout: float = 0.0) -> AttentionMessage:
    operator = AttentionMessage(WIDTH, HEADS, intermediate_size=HIDDEN, dropout=dropout).double()
    scatter(operator)
    return operator


def inputs(edges: Edges, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    dst, src = (
        torch.randn(nodes.num_nodes, WIDTH, generator=generator, dtype=torch.float64)
        for nodes in (edges.dst, edges.src)
    )
    return dst, src


def norm(part: nn.LayerNorm, x: Tensor) -> Tensor:
    centered = x - x.mean()
    return part.weight * centered / (centered.square().mean() + part.eps).sqrt() + part.bias


def plain(operator: AttentionMessage, dst: Tensor, src: Tensor, edges: Edges) -> Tensor:
    """One target node, head and source node at a time."""
    attention, size, rows = operator.attention, WIDTH // HEADS, []
    for i, senders in enumerate(neighbors(edges)):
        if not senders:
            rows.append(torch.zeros_like(dst[i]))
            continue
        heads = []
        for head in range(HEADS):
            own = slice(head * size, (head + 1) * size)
            query = attention.query(dst[i])[own]
            scores = torch.stack([query @ attention.key(src[j])[own] / math.sqrt(size) for j in senders])
            alpha = scores.exp() / scores.exp().sum()
            heads.append(sum(a * attention.value(src[j])[own] for a, j in zip(alpha, senders, strict=True)))
        v = norm(operator.attention_norm, attention.output(torch.cat(heads)))
        rows.append(norm(operator.norm, operator.outer(torch.relu(operator.inner(v)))))
    return torch.stack(rows) if rows else dst


@torch.no_grad()
@pytest.mark.parametrize("edge_layout", ["dense", "sparse"])
@pytest.mark.parametrize("edges", EDGES)
def test_against_the_equations(edges: Edges, edge_layout: str) -> None:
    operator, (dst, src) = message(), inputs(edges)
    found = operator(src, dst, edges.with_layout(edge_layout))
    torch.testing.assert_close(found, plain(operator, dst, src, edges), rtol=1e-10, atol=1e-10)


@torch.no_grad()
def test_the_target_node_is_in_the_message_by_its_query_alone() -> None:
    operator, edges = message(), random_edges(layout(1, 1), layout(4, 3), 1.0)
    dst, src = inputs(edges)
    # one source node has the weight 1 whatever the query is, and nothing of the target node is added
    torch.testing.assert_close(operator(src, dst, edges), operator(src, 5 * dst + 1, edges))


@torch.no_grad()
def test_without_source_nodes_zeros() -> None:
    edges = Edges(layout(0, 2), layout(3, 2))
    operator, (dst, src) = message(), inputs(edges)
    found = operator(src, dst, edges)
    assert not found[:3].any()
    assert found[3:].all()


@pytest.mark.parametrize("edges", EDGES)
def test_gradients_dense_and_sparse(edges: Edges) -> None:
    operator, (dst, src) = message(), inputs(edges)
    found = []
    for name in ("dense", "sparse"):
        read = edges.with_layout(name)
        found.append(gradients(lambda d, s, read=read: operator(s, d, read), operator, dst, src))
    for dense, sparse in zip(*found, strict=True):
        assert dense.isfinite().all()
        torch.testing.assert_close(dense, sparse)


def test_dropout() -> None:
    edges = random_edges(layout(4, 3), layout(5, 4), 0.8)
    operator, (dst, src) = message(dropout=0.5), inputs(edges)
    assert not torch.equal(operator(src, dst, edges), operator(src, dst, edges))
    operator.eval()
    assert torch.equal(operator(src, dst, edges), operator(src, dst, edges))


def test_heads_that_do_not_divide() -> None:
    with pytest.raises(ValueError, match="4 heads do not divide a hidden size of 6; give num_heads=3"):
        AttentionMessage(WIDTH, 4)
