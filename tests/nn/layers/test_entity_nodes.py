"""Spans decoded from labels, entity nodes and edges created from them, features pooled."""

from __future__ import annotations

import pytest
import torch
from fakes import awkward_edges, gradients, layout, neighbors, state
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mnergraph.graph import Complete, Edges, InEntity, Member, Relation, Schema
from mnergraph.labels import tags_to_spans
from mnergraph.nn.conv.pooling import SpanPooling
from mnergraph.nn.layers.entity_nodes import EntityEdges, EntityNodes, SpanDecoder
from mnergraph.nn.state import GraphState
from mnergraph.pair import DetectedObject, Pair

WIDTH = 8
EDGES = [pytest.param(edges, id=name) for name, edges in awkward_edges()]
FORMS, FILLS = ("token", "forms", "entity"), ("entity", "fills", "token")
NAMES, SHOWS = ("entity", "names", "object"), ("object", "shows", "token")
BACK = ("token", "names", "object")
SCHEMA = Schema(
    [
        Relation(*FORMS, Member()),
        Relation(*FILLS, Member()),
        Relation(*NAMES, Complete()),
        Relation(*SHOWS, InEntity()),
        Relation(*BACK, InEntity()),
    ]
)
#: Sentences by their span labels: entities of one word, adjacent ones, orphans, at both ends, none.
SENTENCES = ["OBIIOB", "O", "B", "I", "BBIBI", "IIOI", "OOO", "BIII", "OI"]


def of(sentences: list[str], labels: str) -> Tensor:
    return torch.tensor([labels.index(label) for sentence in sentences for label in sentence])


def typed(sentence: str) -> list[str]:
    """Tags of one entity type for B, I and O."""
    return [label if label == "O" else f"{label}-PER" for label in sentence]


@given(st.lists(st.text("BIO", min_size=1, max_size=9), min_size=1, max_size=5), st.permutations("BIO"))
@settings(max_examples=200, deadline=None)
def test_spans_are_those_of_the_labels(sentences: list[str], order: list[str]) -> None:
    words = layout(*map(len, sentences))
    word, span, span_layout = SpanDecoder(order)(of(sentences, "".join(order)), words)
    found = [tags_to_spans(typed(sentence)) for sentence in sentences]
    assert span_layout.counts.tolist() == [len(some) for some in found]
    assert span_layout.num_nodes == sum(map(len, found))
    expected, number = [], 0
    for start, some in zip(words.ptr.tolist(), found, strict=False):
        for one in some:
            expected += [(start + position, number) for position in range(one.start, one.end)]
            number += 1
    assert list(zip(word.tolist(), span.tolist(), strict=True)) == expected


def test_labels_other_than_b_and_i_are_outside() -> None:
    word, span, span_layout = SpanDecoder(["X", "I", "O", "B", "[CLS]"])(torch.tensor([4, 3, 0, 1, 2]), layout(5))
    assert (word.tolist(), span.tolist(), span_layout.num_nodes) == ([1, 3], [0, 1], 2)


def labelled(sentences: list[str], objects: int = 2) -> GraphState:
    """Sentences whose given entities are not those of their labels."""
    posts = [
        Pair(tuple(sentence), entities=((0, len(sentence)),), objects=(DetectedObject(),) * objects)
        for sentence in sentences
    ]
    return state(posts, schema=SCHEMA).update(found=of(sentences, "BIO"))


@pytest.mark.parametrize(
    "sentences",
    [SENTENCES, ["B"], ["O", "OO"], *([sentence] for sentence in SENTENCES)],
    ids=lambda sentences: " ".join(sentences),
)
def test_entity_nodes(sentences: list[str]) -> None:
    graph = labelled(sentences)
    with_entities = EntityNodes("BIO", [FORMS, FILLS], in_key="found")(graph)
    rows, members, counts = [], [], []
    for sentence, start in zip(sentences, graph.layouts["token"].ptr.tolist(), strict=False):
        some = tags_to_spans(typed(sentence))
        counts.append(len(some))
        for one in some:
            inside = range(start + one.start, start + one.end)
            members += [(word, len(rows)) for word in inside]
            rows.append([max(float(graph.x["token"][w, feature]) for w in inside) for feature in range(WIDTH)])
    assert with_entities.x["entity"].tolist() == rows
    assert with_entities.layouts["entity"].counts.tolist() == counts
    assert [tuple(edge) for edge in with_entities.edges[FORMS].index.t().tolist()] == members
    assert torch.equal(with_entities.edges[FILLS].index, with_entities.edges[FORMS].index.flip(0))
    assert with_entities.edges[FORMS].dst is with_entities.edges[FILLS].src is with_entities.edges[NAMES].src
    assert with_entities.edges[NAMES].complete
    assert with_entities.edges[NAMES].num_possible_edges == 2 * len(rows)
    assert torch.equal(with_entities.x["token"], graph.x["token"])


def test_gradients_of_entities_go_to_the_largest_word() -> None:
    graph = labelled(["OBII", "BO"])
    x = graph.x["token"].requires_grad_()
    with_entities = EntityNodes("BIO", [FORMS, FILLS], in_key="found")(graph).x["entity"]
    with_entities.sum().backward()
    expected = torch.zeros_like(x)
    expected[1 + x[1:4].argmax(0), torch.arange(WIDTH)] = 1
    expected[4] = 1
    assert torch.equal(x.grad, expected)


@pytest.mark.parametrize("objects", [0, 1, 3])
def test_entity_edges(objects: int) -> None:
    graph = labelled(SENTENCES, objects)
    joined = EntityEdges("BIO", [SHOWS, BACK], in_key="found")(graph)
    words, objects_layout = graph.layouts["token"], graph.layouts["object"]
    expected = {
        (obj, word)
        for word, label in enumerate("".join(SENTENCES))
        for obj in range(objects_layout.num_nodes)
        if label != "O" and words.graph_index[word] == objects_layout.graph_index[obj]
    }
    for key, turn in ((SHOWS, 1), (BACK, -1)):
        edges = [tuple(edge[::turn]) for edge in joined.edges[key].index.t().tolist()]
        assert len(edges) == len(expected)
        assert set(edges) == expected
        assert (joined.edges[key].src, joined.edges[key].dst) == (words, objects_layout)[::-turn]
    assert joined.edges[FORMS] is graph.edges[FORMS]


@pytest.mark.parametrize("how", ["max", "sum"])
@pytest.mark.parametrize("edges", EDGES)
def test_span_pooling(how: str, edges: Edges) -> None:
    generator = torch.Generator().manual_seed(0)
    src = torch.randn(edges.src.num_nodes, WIDTH, generator=generator)
    dst = torch.randn(edges.dst.num_nodes, WIDTH, generator=generator)
    pool = SpanPooling(how)  # type: ignore[arg-type]
    assert not list(pool.parameters())
    expected = torch.zeros_like(dst)
    for i, senders in enumerate(neighbors(edges)):
        for feature in range(WIDTH if senders else 0):
            values = [float(src[j, feature]) for j in senders]
            expected[i, feature] = max(values) if how == "max" else sum(values)
    found = {}
    for edge_layout in ("dense", "sparse"):
        read = edges.with_layout(edge_layout)
        torch.testing.assert_close(pool(src, dst, read), expected, atol=1e-4, rtol=1e-5)
        found[edge_layout] = gradients(lambda d, s, read=read: pool(s, d, read), pool, dst, src)
    for dense, sparse in zip(*found.values(), strict=True):
        assert torch.equal(dense, sparse)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="mode is max or sum, not 'mean'"):
        SpanPooling("mean")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"membership relations are between entity and token, not \('entity', "):
        EntityNodes("BIO", [NAMES], in_key="found")
    with pytest.raises(ValueError, match=r"relations are between token and another node type, not \('entity'"):
        EntityEdges("BIO", [NAMES], in_key="found")
