"""Posts as networkx graphs: attributes of nodes and edges, and recorded weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import networkx as nx
import pytest
import torch
from fakes import AROUND, SCHEMA, TO_TOKENS, TOKENS, awkward_posts, make_builder, post, state
from recorded_stack import OF, SHOWS, STACK_SCHEMA, build_stack

from mnergraph.explain import attention_graph, from_networkx, record_attention, to_networkx
from mnergraph.features.text.encoder import tiny_encoder
from mnergraph.graph import collate
from mnergraph.graph.box_geometry import SPATIAL_LABELS
from mnergraph.labels import Entity
from mnergraph.models import UMGF
from mnergraph.pair import DetectedObject, Pair

Make = Callable[..., UMGF]
POST = Pair(
    words=("Ann", "Lee", "saw", "Rome"),
    labels=("B-PER", "I-PER", "O", "B-LOC"),
    size=(40, 20),
    objects=(
        DetectedObject("person", (1, 2, 11, 12), 0.75, (0, 2)),
        DetectedObject("", (15, 2, 25, 12)),
        DetectedObject("arch"),
    ),
)


def edges(graph: nx.MultiDiGraph, relation: tuple[str, str, str]) -> dict[tuple[int, int], dict]:
    src, name, dst = relation
    types, indices = graph.nodes(data="type"), graph.nodes(data="index")
    return {
        (indices[u], indices[v]): attributes
        for u, v, attributes in graph.edges(data=True)
        if (types[u], attributes["relation"], types[v]) == (src, name, dst)
    }


def test_attributes_of_nodes(tmp_path: Path) -> None:
    pair = replace(POST, image_path=tmp_path / "x.jpg", entities=((0, 2), (3, 4)))
    schema = STACK_SCHEMA
    graph = to_networkx(make_builder(schema)(pair), entities=[Entity(0, 2, "PER", 0.5), Entity(3, 4, "ORG", 0.25)])
    words = [graph.nodes[f"token {number}"] for number in range(4)]
    assert [attributes["word"] for attributes in words] == list(pair.words)
    assert [attributes["tag"] for attributes in words] == list(pair.labels)
    assert [attributes.get("entity") for attributes in words] == ["PER", "PER", None, "ORG"]
    assert [attributes.get("entity_score") for attributes in words] == [0.5, 0.5, None, 0.25]
    first, second, third = (graph.nodes[f"object {number}"] for number in range(3))
    assert (first["label"], first["box"], first["score"], first["span"]) == (
        "person",
        [1, 2, 11, 12],
        0.75,
        [0, 2],
    )
    assert "label" not in second
    assert "span" not in second
    assert "box" not in third
    assert first["features"]["box"] == [1, 2, 11, 12]
    assert third["features"]["box"] == ["nan"] * 4
    assert graph.nodes["image 0"]["image_path"] == str(tmp_path / "x.jpg")
    assert graph.nodes["entity 0"]["word"] == "Ann Lee"
    assert graph.nodes["entity 1"]["span"] == [3, 4]
    assert {attributes["type"] for _, attributes in graph.nodes(data=True)} == {"token", "object", "image", "entity"}
    assert all(
        graph.nodes[f"{attributes['type']} {attributes['index']}"] is attributes
        for _, attributes in graph.nodes(data=True)
    )


def test_pieces_as_tokens_carry_their_word() -> None:
    graph = to_networkx(make_builder(SCHEMA, tokenizer=tiny_encoder(["ann"]).tokenizer, tokens="pieces")(POST))
    words = [attributes.get("word") for _, attributes in graph.nodes(data=True) if attributes["type"] == "token"]
    assert words[0] is words[-1] is None
    assert list(dict.fromkeys(words[1:-1])) == list(POST.words)
    assert "input_ids" in graph.nodes["piece 0"]["features"]


def test_edges_say_what_they_are() -> None:
    data = make_builder(SCHEMA)(POST)
    graph = to_networkx(data, SCHEMA)
    for relation in SCHEMA:
        result, index = edges(graph, relation.key), relation.connect(data).edge_index
        assert set(result) == set(map(tuple, index.t().tolist())), relation
        assert {attributes["kind"] for attributes in result.values()} <= {type(relation.rule).__name__}
    attributes = edges(graph, AROUND)[0, 1]
    assert attributes["label"] == SPATIAL_LABELS[3]
    assert attributes["distance"] == pytest.approx(14 / 40 / 2**0.5)
    assert attributes["angle"] == 0.0
    # parallel relations stay apart
    assert set(graph["token 0"]["token 1"]) == {"attends", "near"}


def test_complete_relations_need_the_schema() -> None:
    data = make_builder(SCHEMA)(POST)
    assert edges(to_networkx(data), TOKENS) == {}
    assert len(edges(to_networkx(data, SCHEMA), TOKENS)) == 16
    assert len(edges(to_networkx(SCHEMA.materialize(data)), TOKENS)) == 16


def test_weights_are_on_their_edges() -> None:
    stack, posts = build_stack().eval(), [pair for pair in awkward_posts() if len(pair.words) < 100]
    with record_attention(stack) as record:
        stack(state(posts, schema=STACK_SCHEMA))
    for pair, post_record in zip(posts, record.posts, strict=True):
        graph = to_networkx(make_builder(STACK_SCHEMA)(pair), STACK_SCHEMA, record=post_record)
        count = 0
        for w in post_record.weights:
            result = edges(graph, w.relation)
            assert len(result) == w.index.shape[1]
            for ends, heads in zip(w.index.t().tolist(), w.weights.tolist(), strict=True):
                attributes = result[tuple(ends)]
                if w.what == "attention":
                    assert attributes["attention"][w.layer] == heads
                else:
                    assert [attributes["mean_gate"][w.layer]] == heads
                count += 1
        held = [attributes for _, _, attributes in graph.edges(data=True)]
        assert count == sum(len(t.get("attention", {})) + len(t.get("mean_gate", {})) for t in held)
        for gates in post_record.gates:
            for number, value in enumerate(gates.values.tolist()):
                attributes = graph.nodes[f"{gates.node_type} {number}"].get("mean_gate", {})
                assert attributes.get(gates.layer) == (value if value == value else None)
    attributes = edges(
        to_networkx(make_builder(STACK_SCHEMA)(posts[0]), STACK_SCHEMA, record=record.posts[0]), TO_TOKENS
    )[1, 2]
    every = [attributes["mean_gate"]["0"], *attributes["attention"]["2.0"]]
    assert attributes["weight"] == pytest.approx(sum(every) / 3)


def test_nodes_created_by_the_model() -> None:
    stack, pair = build_stack().eval(), replace(post(7, 3, seed=1), entities=((0, 7),))
    with record_attention(stack) as record:
        stack(state([pair], schema=STACK_SCHEMA))
    graph = to_networkx(make_builder(STACK_SCHEMA)(pair), STACK_SCHEMA, record=record.posts[0])
    result = {node: attributes for node, attributes in graph.nodes(data=True) if attributes["type"] == "entity"}
    assert [attributes["span"] for attributes in result.values()] == [[0, 2], [2, 4], [4, 6]]
    assert result["entity 1"]["word"] == " ".join(pair.words[2:4])
    assert set(edges(graph, OF)) == {(e, t) for e in range(3) for t in (2 * e, 2 * e + 1)}
    assert len(edges(graph, SHOWS)) == 4 * 3
    assert [graph.nodes[f"visual {number}"]["stands_for"] for number in range(4)] == [
        "image 0",
        "object 0",
        "object 1",
        "object 2",
    ]
    # they come back as nodes of their own
    data = from_networkx(graph)
    assert data["entity"].num_nodes == 3
    assert data[OF].edge_index.tolist() == record.posts[0].dynamic_edges[OF].tolist()


def test_posts_of_a_model(umgf: Make) -> None:
    model, pair = umgf().train(), post(5, 2, seed=1)
    graph = attention_graph(model, pair)
    assert model.training
    (entities,) = model.predict([pair])
    assert entities
    predicted = {number for e in entities for number in range(e.start, e.end)}
    assert {n for n in range(5) if "entity" in graph.nodes[f"token {n}"]} == predicted
    assert [graph.nodes[f"token {n}"]["tag"] for n in range(5)] == list(pair.labels)
    for relation in model.schema:
        assert all("weight" in attributes for attributes in edges(graph, relation.key).values())


def test_networkx_algorithms_run(umgf: Make) -> None:
    graph = attention_graph(umgf(), post(5, 2, seed=1))
    strong = nx.subgraph_view(graph, filter_edge=lambda u, v, k: graph.edges[u, v, k].get("weight", 0) > 0.2)
    assert 0 < strong.number_of_edges() < graph.number_of_edges()
    ranks = nx.pagerank(graph, weight="weight")
    assert sum(ranks.values()) == pytest.approx(1.0)


def test_model_runs_on_a_filtered_graph(umgf: Make) -> None:
    """Without the node of an object the graph is that of the post without the object."""
    model, pair = umgf(), post(6, 3, seed=2, grounded=0.5)
    graph = to_networkx(model.builder(pair), model.schema)
    pieces = [
        u for u, v, attributes in graph.edges(data=True) if v == "object 1" and attributes["relation"] == "part_of"
    ]
    graph.remove_nodes_from(["object 1", *pieces])
    data = from_networkx(graph)
    fewer = replace(pair, objects=(pair.objects[0], pair.objects[2]))
    assert data.pair == fewer
    expected = model(collate([model.builder(fewer)])).emissions["tags"]
    torch.testing.assert_close(model(collate([data])).emissions["tags"], expected, rtol=0, atol=0)


def test_all_values_are_json_serializable(umgf: Make) -> None:
    for pair in (POST, post(3, 1, seed=2), post(1, 0, seed=5)):
        attributes = nx.node_link_data(attention_graph(umgf(), replace(pair, image_path=Path("x.jpg"))))
        read = json.loads(json.dumps(attributes, allow_nan=False))
        assert nx.node_link_data(nx.node_link_graph(read)) == read


def test_batches_and_other_records_are_refused(umgf: Make) -> None:
    model = umgf()
    data = model.builder(POST)
    with pytest.raises(ValueError, match="the graph of one post, not a batch"):
        to_networkx(collate([data, data]))
    with record_attention(model) as record:
        model.predict([POST])
    (post_record,) = record.posts
    with pytest.raises(ValueError, match=r"the record is of the post 'Ann Lee saw Rome', not of this one"):
        to_networkx(model.builder(post(3)), record=post_record)
    with pytest.raises(
        KeyError, match=r"layer 4 has a weight of .*'token 0'.* is no edge of the graph; give the schema"
    ):
        to_networkx(data, record=post_record)
    data.year = 2017
    with pytest.raises(ValueError, match="not a graph that itself holds pair, year"):
        to_networkx(data)
