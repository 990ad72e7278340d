"""An operator behind a gate: equations by loops, both edge layouts, and target nodes without incoming edges."""

from __future__ import annotations

import pytest
import torch
from fakes import awkward_edges, gradients, layout, neighbors, random_edges
from torch import Tensor, nn

from mnergraph.graph import Edges
from mnergraph.models.gei.layers import GatedMessage
from mnergraph.nn.conv.attention import RelationAttention
from mnergraph.nn.conv.pooling import SpanPooling

WIDTH = 8
EDGES = [pytest.param(edges, id=name) for name, edges in awkward_edges()]
OPERATORS = {"attention": lambda: RelationAttention(WIDTH, 2), "sum": lambda: SpanPooling("sum")}
every_operator = pytest.mark.parametrize("operator", OPERATORS)


def gated(operator: str) -> GatedMessage:
    torch.manual_seed(0)
    return GatedMessage(OPERATORS[operator](), WIDTH)


def inputs(edges: Edges) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(edges.dst.num_nodes, WIDTH, generator=generator), torch.randn(
        edges.src.num_nodes, WIDTH, generator=generator
    )


@every_operator
@pytest.mark.parametrize("edges", EDGES)
def test_against_the_equation(operator: str, edges: Edges) -> None:
    layer = gated(operator)
    assert set(layer.highway.state_dict()) == {"a.weight", "b.weight"}
    dst, src = inputs(edges)
    messages = layer.operator(src, dst, edges)
    expected = dst.clone()
    for i, senders in enumerate(neighbors(edges)):
        if senders:
            score = layer.highway.a.weight @ messages[i] + layer.highway.b.weight @ dst[i]
            alpha = 1 / (1 + torch.exp(-score))
            expected[i] = alpha * messages[i] + (1 - alpha) * dst[i]
    for edge_layout in ("dense", "sparse", None):
        found = layer(src, dst, edges.with_layout(edge_layout))
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@every_operator
@pytest.mark.parametrize("edges", EDGES)
@pytest.mark.parametrize("training", [True, False])
def test_dense_is_sparse(operator: str, edges: Edges, training: bool) -> None:
    layer = gated(operator).train(training)
    dst, src = inputs(edges)
    found = {}
    for edge_layout in ("dense", "sparse"):
        read = edges.with_layout(edge_layout)
        found[edge_layout] = gradients(lambda d, s, read=read: layer(s, d, read), layer, dst, src)
    for dense, sparse in zip(*found.values(), strict=True):
        assert dense.isfinite().all()
        torch.testing.assert_close(dense, sparse, atol=1e-5, rtol=1e-5)


@every_operator
def test_nodes_without_sources_are_unchanged(operator: str) -> None:
    edges = random_edges(layout(3, 0, 4), layout(5, 2, 4), 0.3)
    dst, src = inputs(edges)
    found = gated(operator)(src, dst, edges)
    isolated = [i for i, senders in enumerate(neighbors(edges)) if not senders]
    assert 2 < len(isolated) < len(dst) - 2
    assert [i for i in range(len(dst)) if torch.equal(found[i], dst[i])] == isolated
    # and has no gradient with respect to parameters and sources
    src.requires_grad_()
    layer = gated(operator)
    grads = torch.autograd.grad(layer(src, dst, edges)[isolated].sum(), [src, *layer.parameters()])
    assert not any(gradient.any() for gradient in grads)


@every_operator
def test_no_edges_at_all(operator: str) -> None:
    """Then the parameters stay in the computation, with gradients of 0."""
    edges = Edges(layout(0, 0), layout(3, 1))
    layer = gated(operator)
    dst, src = inputs(edges)
    layer(src, dst.requires_grad_(), edges).sum().backward()
    assert torch.equal(dst.grad, torch.ones(4, WIDTH))
    assert all(weight.grad is not None and not weight.grad.any() for weight in layer.parameters())


def test_any_operator() -> None:
    class Constant(nn.Module):
        def forward(self, x_src: Tensor, x_dst: Tensor, edges: Edges) -> Tensor:
            return torch.ones_like(x_dst)

    layer = GatedMessage(Constant(), 2)
    nn.init.zeros_(layer.highway.a.weight)
    nn.init.zeros_(layer.highway.b.weight)
    edges = Edges(layout(1, 0), layout(1, 1))
    found = layer(torch.zeros(1, 2), torch.tensor([[3.0, 5.0], [3.0, 5.0]]), edges)
    assert found.tolist() == [[2.0, 3.0], [3.0, 5.0]]
