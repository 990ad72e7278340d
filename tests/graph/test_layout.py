"""Flat and padded, index and mask: both forms agree."""

from __future__ import annotations

import pytest
import torch
from fakes import awkward_edges, layout, neighbors, random_edges
from hypothesis import given, settings
from hypothesis import strategies as st

from mnergraph.graph import Edges, Layout

COUNTS = [(3, 0, 2), (4,), (0,), (0, 0), (2, 2), (128, 1), ()]


@pytest.mark.parametrize("counts", COUNTS)
def test_layout_by_loops(counts: tuple[int, ...]) -> None:
    node_layout = layout(*counts)
    rows = [(s, p) for s, count in enumerate(counts) for p in range(count)]
    assert node_layout.num_graphs == len(counts)
    assert node_layout.counts.tolist() == list(counts)
    assert (node_layout.num_nodes, node_layout.max_nodes) == (sum(counts), max(counts, default=0))
    assert node_layout.graph_index.tolist() == [s for s, _ in rows]
    assert node_layout.position.tolist() == [p for _, p in rows]
    assert node_layout.dense_index.tolist() == [s * node_layout.max_nodes + p for s, p in rows]
    assert node_layout.mask.tolist() == [[p < count for p in range(node_layout.max_nodes)] for count in counts]
    assert node_layout.is_dense == bool(node_layout.mask.all())


@given(st.lists(st.integers(0, 6), max_size=5), st.sampled_from([(), (3,), (2, 4)]), st.sampled_from([0.0, -1.0]))
@settings(max_examples=50, deadline=None)
def test_pad_and_unpad_are_inverse(counts: list[int], rest: tuple[int, ...], fill: float) -> None:
    node_layout = layout(*counts)
    x = torch.randn(node_layout.num_nodes, *rest)
    padded = node_layout.to_dense(x, fill)
    assert padded.shape == (node_layout.num_graphs, node_layout.max_nodes, *rest)
    assert torch.equal(node_layout.to_flat(padded), x)
    assert torch.equal(padded[node_layout.mask], x)
    assert (padded[~node_layout.mask] == fill).all()


def test_padding_keeps_dtype_and_gradient() -> None:
    node_layout = layout(2, 3)
    assert node_layout.to_dense(torch.tensor([1, 2, 3, 4, 5]), -1).tolist() == [[1, 2, -1], [3, 4, 5]]
    assert node_layout.to_dense(torch.ones(5, dtype=torch.bool)).dtype == torch.bool
    x = torch.randn(5, 2, requires_grad=True)
    node_layout.to_flat(node_layout.to_dense(x)).sum().backward()
    assert torch.equal(x.grad, torch.ones(5, 2))


def test_dense_layout_pads_without_a_copy() -> None:
    x = torch.randn(6, 2)
    assert layout(3, 3).to_dense(x).data_ptr() == x.data_ptr()
    assert layout(3, 3).to_flat(layout(3, 3).to_dense(x)).data_ptr() == x.data_ptr()


def test_complete() -> None:
    node_layout = layout(2, 1)
    assert Edges(node_layout, node_layout).complete
    assert Edges(node_layout, node_layout).with_layout("sparse").complete
    assert not Edges(node_layout, node_layout, Edges(node_layout, node_layout).index).complete


@pytest.mark.parametrize(("name", "edges"), [pytest.param(n, e, id=n) for n, e in awkward_edges()])
def test_index_and_mask_agree(name: str, edges: Edges) -> None:
    src, dst = edges.src, edges.dst
    mask = torch.zeros(dst.num_graphs, dst.max_nodes, src.max_nodes, dtype=torch.bool)
    has_incoming = torch.zeros(dst.num_graphs, dst.max_nodes, dtype=torch.bool)
    for sender, receiver in edges.index.t().tolist():
        assert src.graph_index[sender] == dst.graph_index[receiver]
        position = int(dst.graph_index[receiver]), int(dst.position[receiver])
        mask[(*position, int(src.position[sender]))] = True
        has_incoming[position] = True
    assert torch.equal(edges.mask, mask)
    assert torch.equal(edges.has_incoming, has_incoming)
    assert edges.receivers.tolist() == [i for i, senders in enumerate(neighbors(edges)) if senders]
    assert int(mask.sum()) == edges.index.shape[1], "a pair twice"
    assert edges.mask[edges.dense_index].all()
    # and back: an index made of the mask names the same pairs
    rebuilt = Edges(src, dst, torch.stack(torch.where(dst.to_flat(mask))) if mask.numel() else None)
    assert edges.num_possible_edges == int((src.counts * dst.counts).sum())
    assert edges.density == pytest.approx(
        int(mask.sum()) / edges.num_possible_edges if edges.num_possible_edges else 1.0
    )
    assert rebuilt.num_possible_edges == edges.num_possible_edges


def test_a_complete_relation_joins_all_of_a_sentence() -> None:
    edges = Edges(layout(2, 0, 1), layout(1, 3, 2))
    assert neighbors(edges) == [[0, 1], [], [], [], [2], [2]]
    assert edges.density == 1.0
    assert edges.complete
    assert not Edges(layout(1), layout(1), torch.zeros(2, 1, dtype=torch.long)).complete


@pytest.mark.parametrize("counts", [(2, 1, 3), (2, 0, 1), (0, 0), ()])
def test_relations_that_reach_all_target_nodes(counts: tuple[int, ...]) -> None:
    src, dst = layout(*counts), layout(*[2] * len(counts))
    assert src.min_nodes == min(counts, default=0)
    complete = Edges(src, dst)
    assert complete.reaches_all is bool(counts and complete.has_incoming[dst.mask].all())
    assert not Edges(src, dst, complete.index).reaches_all, "of stored edges it is not known"


def test_index_and_mask_are_computed_once() -> None:
    edges = random_edges(layout(3, 2), layout(4, 1), 0.5)
    complete = Edges(layout(3, 2), layout(4, 1))
    for name in ("mask", "has_incoming", "receivers", "index", "density", "num_possible_edges", "dense_index"):
        assert getattr(edges, name) is getattr(edges, name), name
        assert getattr(complete, name) is getattr(complete, name), name
    for name in ("counts", "graph_index", "position", "dense_index", "mask"):
        assert getattr(edges.src, name) is getattr(edges.src, name), name


def test_dense_or_sparse() -> None:
    edges = Edges(layout(4), layout(5), torch.tensor([[0, 1, 2, 3, 0], [0, 1, 2, 3, 4]]))
    assert edges.density == 0.25
    assert edges.is_dense(0.25)
    assert not edges.is_dense(0.26)
    assert edges.with_layout("dense").is_dense(1.0)
    assert not edges.with_layout("sparse").is_dense(0.0)
    assert edges.with_layout("sparse").with_layout(None).is_dense(0.1)
    typed = Edges(layout(1), layout(1), torch.tensor([[0], [0]]), type=torch.tensor([3]), attr=torch.ones(1, 2))
    assert typed.with_layout("dense").type is typed.type
    assert typed.with_layout("dense").attr is typed.attr
    assert Edges(Layout(torch.tensor([0, 0])), layout(3)).is_dense(1.0), "no pair at all counts as joined"
