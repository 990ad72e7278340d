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
    word, span, places = SpanDecoder(order)(of(sentences, "".join(order)), words)
    found = [tags_to_spans(typed(sentence)) for sentence in sentences]
    assert places.counts.tolist() == [len(some) for some in found]
    assert places.num_nodes == sum(map(len, found))
    wanted, number = [], 0
    for start, some in zip(words.ptr.tolist(), found, strict=False):
        for one in some:
            wanted += [(start + place, number) for place in range(one.start, one.end)]
            number += 1
    assert list(zip(word.tolist(), span.tolist(), strict=True)) == wanted


def test_labels_that_are_no_boundary_lie_outside() -> None:
    word, span, places = SpanDecoder(["X", "I", "O", "B", "[CLS]"])(torch.tensor([4, 3, 0, 1, 2]), layout(5))
    assert (word.tolist(), span.tolist(), places.num_nodes) == ([1, 3], [0, 1], 2)


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
    grown = EntityNodes("BIO", [FORMS, FILLS], in_key="found")(graph)
    rows, members, counts = [], [], []
    for sentence, start in zip(sentences, graph.layouts["token"].ptr.tolist(), strict=False):
        some = tags_to_spans(typed(sentence))
        counts.append(len(some))
        for one in some:
            inside = range(start + one.start, start + one.end)
            members += [(word, len(rows)) for word in inside]
            rows.append([max(float(graph.x["token"][w, feature]) for w in inside) for feature in range(WIDTH)])
    assert grown.x["entity"].tolist() == rows
    assert grown.layouts["entity"].counts.tolist() == counts
    assert [tuple(edge) for edge in grown.edges[FORMS].index.t().tolist()] == members
    assert torch.equal(grown.edges[FILLS].index, grown.edges[FORMS].index.flip(0))
    assert grown.edges[FORMS].dst is grown.edges[FILLS].src is grown.edges[NAMES].src
    assert grown.edges[NAMES].complete
    assert grown.edges[NAMES].num_possible_edges == 2 * len(rows)
    assert torch.equal(grown.x["token"], graph.x["token"])


def test_gradients_of_entities_go_to_the_largest_word() -> None:
    graph = labelled(["OBII", "BO"])
    x = graph.x["token"].requires_grad_()
    grown = EntityNodes("BIO", [FORMS, FILLS], in_key="found")(graph).x["entity"]
    grown.sum().backward()
    wanted = torch.zeros_like(x)
    wanted[1 + x[1:4].argmax(0), torch.arange(WIDTH)] = 1
    wanted[4] = 1
    assert torch.equal(x.grad, wanted)


@pytest.mark.parametrize("objects", [0, 1, 3])
def test_join_entity_words(objects: int) -> None:
    graph = labelled(SENTENCES, objects)
    joined = EntityEdges("BIO", [SHOWS, BACK], in_key="found")(graph)
    words, things = graph.layouts["token"], graph.layouts["object"]
    wanted = {
        (thing, word)
        for word, label in enumerate("".join(SENTENCES))
        for thing in range(things.num_nodes)
        if label != "O" and words.graph_index[word] == things.graph_index[thing]
    }
    for key, turn in ((SHOWS, 1), (BACK, -1)):
        edges = [tuple(edge[::turn]) for edge in joined.edges[key].index.t().tolist()]
        assert len(edges) == len(wanted)
        assert set(edges) == wanted
        assert (joined.edges[key].src, joined.edges[key].dst) == (words, things)[::-turn]
    assert joined.edges[FORMS] is graph.edges[FORMS]


@pytest.mark.parametrize("how", ["max", "sum"])
@pytest.mark.parametrize("edges", EDGES)
def test_pool(how: str, edges: Edges) -> None:
    generator = torch.Generator().manual_seed(0)
    src = torch.randn(edges.src.num_nodes, WIDTH, generator=generator)
    dst = torch.randn(edges.dst.num_nodes, WIDTH, generator=generator)
    pool = SpanPooling(how)  # type: ignore[arg-type]
    assert not list(pool.parameters())
    wanted = torch.zeros_like(dst)
    for i, senders in enumerate(neighbors(edges)):
        for feature in range(WIDTH if senders else 0):
            values = [float(src[j, feature]) for j in senders]
            wanted[i, feature] = max(values) if how == "max" else sum(values)
    found = {}
    for edge_layout in ("dense", "sparse"):
        read = edges.with_layout(edge_layout)
        torch.testing.assert_close(pool(src, dst, read), wanted, atol=1e-4, rtol=1e-5)
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
