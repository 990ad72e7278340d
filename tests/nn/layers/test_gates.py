"""Gates against their equations, the gated sum by loops, dense and sparse."""

from __future__ import annotations

import math

import pytest
import torch
from fakes import awkward_edges, gradients, layout, neighbors, random_edges
from torch import Tensor

from mnergraph.graph import Edges
from mnergraph.nn.conv.gated_sum import GATES_DENSE_ABOVE, GatedSum
from mnergraph.nn.layers.gates import Gate, GatedAdd, GatedMix, VisualGate

WIDTH = 8
EDGES = [pytest.param(edges, id=name) for name, edges in awkward_edges()]


def inputs(edges: Edges) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(
        torch.randn(node_layout.num_nodes, WIDTH, generator=generator) for node_layout in (edges.dst, edges.src)
    )


# --- the gated sum


@pytest.mark.parametrize("bias", [True, False])
def test_gated_sum_against_the_equation(bias: bool) -> None:
    torch.manual_seed(0)
    gated = GatedSum(WIDTH, bias=bias)
    assert set(gated.state_dict()) == {"dst.weight", "src.weight", *(["dst.bias"] if bias else [])}
    edges = random_edges(layout(3, 0, 4, 2), layout(5, 2, 4, 0), 0.5)
    dst, src = inputs(edges)
    expected = torch.zeros_like(dst)
    for i, senders in enumerate(neighbors(edges)):
        for j in senders:
            score = gated.dst.weight @ dst[i] + gated.src.weight @ src[j] + (gated.dst.bias if bias else 0)
            expected[i] += 1 / (1 + torch.exp(-score)) * src[j]
    for edge_layout in ("dense", "sparse"):
        torch.testing.assert_close(gated(src, dst, edges.with_layout(edge_layout)), expected, atol=1e-5, rtol=1e-5)
    has_senders = edges.dst.to_flat(edges.has_incoming)
    assert not gated(src, dst, edges)[~has_senders].any()
    assert not has_senders.all()


@pytest.mark.parametrize("edges", EDGES)
@pytest.mark.parametrize("training", [True, False])
def test_gated_sum_dense_is_sparse(edges: Edges, training: bool) -> None:
    torch.manual_seed(1)
    gated = GatedSum(WIDTH, bias=True).train(training)
    dst, src = inputs(edges)
    found = {}
    for edge_layout in ("dense", "sparse"):
        read = edges.with_layout(edge_layout)
        found[edge_layout] = [
            gated(src, dst, read),
            *gradients(lambda d, s, read=read: gated(s, d, read), gated, dst, src),
        ]
    for dense, sparse in zip(*found.values(), strict=True):
        assert dense.isfinite().all()
        torch.testing.assert_close(dense, sparse, atol=1e-4, rtol=1e-4)
    chosen = "dense" if edges.density >= GATES_DENSE_ABOVE else "sparse"
    assert torch.equal(gated(src, dst, edges), gated(src, dst, edges.with_layout(chosen)))


# --- gates of two readings of the same nodes


def plain(gate: Gate, a: Tensor, b: Tensor) -> list[list[float]]:
    """sigmoid(W_a a + W_b b), node by node and feature by feature."""
    bias = 0.0 if gate.a.bias is None else gate.a.bias
    scores = [gate.a.weight @ x + gate.b.weight @ y + bias for x, y in zip(a, b, strict=True)]
    return [[1 / (1 + math.exp(-score)) for score in row.tolist()] for row in scores]


@torch.no_grad()
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", [Gate, GatedMix, GatedAdd, VisualGate])
def test_gates_against_their_equations(kind: type[Gate], bias: bool) -> None:
    torch.manual_seed(0)
    gate = kind(WIDTH, bias=bias)
    assert set(gate.state_dict()) == {"a.weight", "b.weight", *(["a.bias"] if bias else [])}
    a, b = torch.randn(2, 5, WIDTH)
    expected = [
        [
            {
                Gate: g,
                GatedMix: g * float(x) + (1 - g) * float(y),
                GatedAdd: float(x) + g * float(y),
                VisualGate: g * float(y),
            }[kind]
            for g, x, y in zip(*rows, strict=True)
        ]
        for rows in zip(plain(gate, a, b), a, b, strict=True)
    ]
    torch.testing.assert_close(gate(a, b), torch.tensor(expected), atol=1e-5, rtol=1e-5)
    assert gate(a[:0], b[:0]).shape == (0, WIDTH)
    alone = torch.cat([gate(a[i : i + 1], b[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(alone, gate(a, b), atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_a_mix_of_equal_features_is_the_feature() -> None:
    x = torch.randn(5, WIDTH)
    torch.testing.assert_close(GatedMix(WIDTH)(x, x), x)


@pytest.mark.parametrize("kind", [Gate, GatedMix, GatedAdd, VisualGate])
def test_gates_train(kind: type[Gate]) -> None:
    gate = kind(WIDTH, bias=True)
    a, b = torch.randn(2, 5, WIDTH).unbind()
    a.requires_grad_(), b.requires_grad_()
    gate(a, b).sin().sum().backward()
    for learning in (a, b, *gate.parameters()):
        assert learning.grad.isfinite().all()
        assert learning.grad.any()


@torch.no_grad()
@pytest.mark.parametrize("kind", [Gate, GatedMix, GatedAdd, VisualGate])
def test_gates_in_mixed_precision(kind: type[Gate]) -> None:
    """Norms give full precision and linear maps half; a gate must take both."""
    torch.manual_seed(0)
    gate, (a, b) = kind(WIDTH), torch.randn(2, 5, WIDTH)
    for first, second in ((a, b), (a.bfloat16(), b), (a, b.bfloat16())):
        with torch.autocast("cpu", torch.bfloat16):
            found = gate(first, second)
        torch.testing.assert_close(found.float(), gate(a, b), atol=0.05, rtol=0.05)
