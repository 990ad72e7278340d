"""Bilinear attention with one softmax per post: by loops, dense and sparse, and for posts without source nodes."""

from __future__ import annotations

import copy

import pytest
import torch
from equations import scatter
from fakes import awkward_edges, gradients, layout, random_edges
from torch import Tensor, nn

from mnergraph.explain.recorder import RECORDED_MODULES
from mnergraph.graph import Edges
from mnergraph.nn.conv.bilinear_attention import BilinearAttention, BilinearWeights

WIDTH, SRC, HIDDEN = 6, 5, 7
EDGES = [pytest.param(edges, id=name) for name, edges in awkward_edges()]


def bilinear(**options: float) -> BilinearAttention:
    operator = BilinearAttention(WIDTH, src_size=SRC, attention_size=HIDDEN, **options).double()
    scatter(operator, std=0.8)
    return operator


def inputs(edges: Edges, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    dst = torch.randn(edges.dst.num_nodes, WIDTH, generator=generator, dtype=torch.float64)
    return dst, torch.randn(edges.src.num_nodes, SRC, generator=generator, dtype=torch.float64)


def weight(part: nn.Linear) -> Tensor:
    """The weight-normalized matrix: one magnitude times the direction."""
    magnitude, direction = part.parametrizations.weight.original0, part.parametrizations.weight.original1
    return magnitude * direction / direction.square().sum().sqrt()


def plain(operator: BilinearAttention, dst: Tensor, src: Tensor, edges: Edges) -> Tensor:
    """One post, one pair of nodes at a time."""
    out = torch.zeros_like(dst)
    query, key, value = operator.query, operator.key, operator.value
    h = weight(operator.score)[0]
    for post in range(edges.dst.num_graphs):
        scores = {}
        for j, i in edges.index.t().tolist():
            if int(edges.dst.graph_index[i]) == post:
                of_source = h * torch.relu(weight(key) @ src[j] + key.bias)
                scores[j, i] = of_source @ torch.relu(weight(query) @ dst[i] + query.bias)
        total = sum(score.exp() for score in scores.values())
        for (j, i), score in scores.items():
            out[i] += score.exp() / total * torch.relu(weight(value) @ src[j] + value.bias)
    return out


@torch.no_grad()
@pytest.mark.parametrize("edge_layout", ["dense", "sparse"])
@pytest.mark.parametrize("edges", EDGES)
def test_against_the_equations(edges: Edges, edge_layout: str) -> None:
    if edges.src is edges.dst:
        edges = Edges(edges.src, edges.dst, edges.index[:, ::7])  # complete among 128 words, the loop is slow
    operator, (dst, src) = bilinear(), inputs(edges)
    found = operator(src, dst, edges.with_layout(edge_layout))
    torch.testing.assert_close(found, plain(operator, dst, src, edges), rtol=1e-10, atol=1e-10)


@torch.no_grad()
@pytest.mark.parametrize("edge_layout", ["dense", "sparse"])
def test_alone_equals_batched(edge_layout: str) -> None:
    words, objects = (4, 9, 1, 3), (2, 0, 3, 1)
    edges = Edges(layout(*objects), layout(*words)).with_layout(edge_layout)
    operator, (dst, src) = bilinear(), inputs(edges)
    together = operator(src, dst, edges).split(words)
    for index, (d, s) in enumerate(zip(dst.split(words), src.split(objects), strict=True)):
        own = Edges(layout(len(s)), layout(len(d))).with_layout(edge_layout)
        torch.testing.assert_close(operator(s, d, own), together[index], rtol=1e-10, atol=1e-10)


@torch.no_grad()
@pytest.mark.parametrize("edge_layout", ["dense", "sparse"])
def test_weights_of_a_post_sum_to_one(edge_layout: str) -> None:
    edges = random_edges(layout(3, 0, 4, 2), layout(5, 2, 4, 3), 0.6).with_layout(edge_layout)
    operator, captured = bilinear(), []
    operator.weights.register_forward_hook(lambda module, args, weights: captured.append(weights))
    dst, src = inputs(edges)
    found = operator(src, dst, edges)
    weights = captured[0][:, 0][edges.dense_index] if edge_layout == "dense" else captured[0][:, 0]
    post = edges.dst.graph_index[edges.index[1]]
    totals = torch.zeros(4, dtype=torch.float64).index_add(0, post, weights)
    torch.testing.assert_close(totals, torch.tensor([1.0, 0, 1, 1], dtype=torch.float64))
    assert not found[5:7].any(), "a post without source nodes gets zeros"


@torch.no_grad()
def test_a_word_that_no_object_concerns_receives_almost_nothing() -> None:
    edges = Edges(layout(1), layout(3))
    operator, (dst, src) = bilinear(), inputs(edges)
    operator.score.parametrizations.weight.original0.fill_(100.0)
    found = operator(src, dst, edges).norm(dim=-1)
    # with a softmax for each word all would receive the one object whole
    value = torch.relu(operator.value(src[0])).norm()
    torch.testing.assert_close(found.sum(), value)
    assert found.max() > 100 * found.min()


@pytest.mark.parametrize("edges", EDGES)
def test_gradients_dense_and_sparse(edges: Edges) -> None:
    operator, (dst, src) = bilinear(), inputs(edges)
    found = []
    for name in ("dense", "sparse"):
        read = edges.with_layout(name)
        found.append(gradients(lambda d, s, read=read: operator(s, d, read), operator, dst, src))
    for dense, sparse in zip(*found, strict=True):
        assert dense.isfinite().all()
        torch.testing.assert_close(dense, sparse)


def test_every_parameter_has_a_gradient() -> None:
    edges = Edges(layout(3, 2), layout(5, 4))
    operator, (dst, src) = bilinear(), inputs(edges)
    operator(src, dst, edges).sin().sum().backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in operator.parameters())


@pytest.mark.parametrize("options", [{"input_dropout": 0.5}, {"dropout": 0.5}])
def test_dropout(options: dict[str, float]) -> None:
    edges = Edges(layout(3, 2), layout(5, 4))
    operator, (dst, src) = bilinear(**options), inputs(edges)
    assert not torch.equal(operator(src, dst, edges), operator(src, dst, edges))
    operator.eval()
    assert torch.equal(operator(src, dst, edges), operator(src, dst, edges))


def test_copied_saved_and_recorded() -> None:
    edges = Edges(layout(3, 2), layout(5, 4))
    operator, (dst, src) = bilinear(), inputs(edges)
    other = bilinear()
    scatter(other, seed=3)
    other.load_state_dict(operator.state_dict())
    for same in (other, copy.deepcopy(operator)):
        assert torch.equal(same(src, dst, edges), operator(src, dst, edges))
    assert BilinearWeights in RECORDED_MODULES
    assert not list(BilinearWeights().parameters())


def test_default_sizes() -> None:
    operator = BilinearAttention(4)
    assert (operator.query.in_features, operator.key.in_features, operator.query.out_features) == (4, 4, 12)


def test_in_mixed_precision() -> None:
    edges = Edges(layout(3, 2), layout(5, 4))
    operator, (dst, src) = bilinear().float(), (part.float() for part in inputs(edges))
    with torch.autocast("cpu", torch.bfloat16):
        found = operator(src, dst, edges)
    torch.testing.assert_close(found.float(), operator(src, dst, edges), atol=0.05, rtol=0.05)
