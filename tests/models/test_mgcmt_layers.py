"""Similar words and object classes: rows of tables, and the sum by cosines against its equation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from fakes import awkward_edges, gradients, layout, make_builder, neighbors, random_edges

from mnergraph.graph import Edges, NearestWordOf, Relation, Schema, collate
from mnergraph.models.mgcmt.layers import CosineSum, CosineWeights, NearestWordVectors, ObjectClasses
from mnergraph.nn.state import GraphState
from mnergraph.pair import DetectedObject, Pair


def with_cosines(edges: Edges) -> Edges:
    """The same edges as a relation that carries a cosine on each."""
    cosines = torch.rand(edges.index.shape[1], 1, generator=torch.Generator().manual_seed(3)) * 2 - 1
    return Edges(edges.src, edges.dst, edges.index, attr=cosines)


@pytest.mark.parametrize("edge_layout", [None, "dense", "sparse"])
@pytest.mark.parametrize("edges", [pytest.param(edges, id=name) for name, edges in awkward_edges()])
def test_cosine_sum(edges: Edges, edge_layout: str | None) -> None:
    edges = with_cosines(edges).with_layout(edge_layout)
    src, dst = torch.randn(edges.src.num_nodes, 5), torch.randn(edges.dst.num_nodes, 8)
    found = CosineSum()(src, dst, edges)
    cosine = {tuple(edge): float(c) for edge, c in zip(edges.index.t().tolist(), edges.attr, strict=True)}
    expected = torch.zeros(edges.dst.num_nodes, 5)
    for receiver, senders in enumerate(neighbors(edges)):
        total = sum(math.exp(cosine[sender, receiver]) for sender in senders)
        for sender in senders:
            expected[receiver] += math.exp(cosine[sender, receiver]) / total * src[sender]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_gradients_reach_only_the_source_nodes() -> None:
    edges = with_cosines(random_edges(layout(6, 2), layout(3, 4), 0.5))
    of_dst, of_src = gradients(
        lambda dst, src: CosineSum()(src, dst, edges), CosineSum(), torch.randn(7, 4), torch.randn(8, 4)
    )
    assert not of_dst.any()
    assert of_src.any(1).tolist() == [bool((edges.index[0] == row).any()) for row in range(8)]


def test_forward_hook_gets_the_weights() -> None:
    edges, hooked = with_cosines(random_edges(layout(6), layout(3), 0.5)), []
    operator = CosineSum()
    operator.weights.register_forward_hook(lambda module, given, weights: hooked.append(weights))
    operator(torch.randn(6, 2), torch.zeros(3, 2), edges)
    sums = torch.zeros(3, 1).index_add(0, edges.index[1], hooked[0])
    torch.testing.assert_close(sums[edges.index[1].unique()], torch.ones(len(edges.index[1].unique()), 1))
    assert not list(CosineSum().parameters())


def test_a_relation_without_cosines() -> None:
    with pytest.raises(ValueError, match="needs a relation with cosines as edge attributes"):
        CosineWeights()(random_edges(layout(2), layout(2), 1.0))


SCHEMA = Schema([Relation("similar", "augments", "token", NearestWordOf())], nodes=["object"])


def graph(*pairs: Pair, **options: object) -> GraphState:
    return GraphState.from_batch(collate(make_builder(SCHEMA, **options).build_all(pairs)), SCHEMA)  # type: ignore[arg-type]


def test_similar_vectors() -> None:
    def near(words: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        indices = np.arange(len(words))
        return indices[::-1] + 1, indices, np.ones(len(words), np.float32)

    vectors = torch.randn(5, 3)
    layer = NearestWordVectors(vectors)
    state = layer(graph(Pair(("a", "b", "c")), Pair(("a",)), nearest_words=near))
    assert torch.equal(state.x["similar"], vectors[[3, 2, 1, 1]])
    assert layer.state_dict() == {}, "vectors are saved in a file of their own"
    assert [name for name, _ in layer.named_buffers()] == ["vectors"]
    assert layer(graph(Pair(("a",)))).x["similar"].shape == (0, 3)


@pytest.mark.parametrize("learn_placeholder", [False, True])
def test_object_classes(learn_placeholder: bool) -> None:
    layer = ObjectClasses(4, 2, learn_placeholder=learn_placeholder)
    labelled = tuple(map(DetectedObject, ("hat", "Dog", "a dog", "dog", "")))
    state = layer(
        graph(Pair(("a",), objects=labelled), Pair(("b",)), object_classes=("dog", "hat"), add_placeholder_object=True)
    )
    assert state.data["object"].class_id.tolist() == [2, 1, 3, 1, 3, 0]
    one_hot = torch.eye(4)[[2, 1, 3, 1, 3, 0]]
    torch.testing.assert_close(state.x["object"], one_hot @ layer.table.weight)
    assert bool(state.x["object"][-1].any()) == learn_placeholder
    state.x["object"].sum().backward()
    assert layer.table.weight.grad.any(1).tolist() == [learn_placeholder, True, True, True]
