"""The graph's state: stores required by a schema, and updates that do not change the old state."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from fakes import OBJECTS, SCHEMA, TO_TOKENS, TOKENS, awkward_posts, layout, make_builder, post, state

from mnergraph.graph import Complete, Edges, Member, Relation, Schema, collate
from mnergraph.nn import CopyFeatures, FeatureModule, GatedMix, TransformerLayer
from mnergraph.nn.state import GraphState


def test_from_a_batch() -> None:
    posts = awkward_posts()
    batch = collate(make_builder(SCHEMA).build_all(posts))
    graph = GraphState.from_batch(batch, SCHEMA)
    assert graph.data is batch
    assert graph.num_graphs == len(posts)
    assert set(graph.edges) == set(SCHEMA.relations)
    assert (graph.x, graph.emissions) == ({}, {})
    assert graph.layouts["object"].counts.tolist() == [len(pair.objects) for pair in posts]
    complete = graph.edges[TOKENS]
    assert complete.density == 1.0
    assert complete.src is complete.dst is graph.layouts["token"]
    around = graph.edges["object", "around", "object"]
    assert around.type is batch["object", "around", "object"].edge_type
    assert around.attr is batch["object", "around", "object"].edge_attr
    assert graph.edges[TO_TOKENS].index is batch[TO_TOKENS].edge_index


def test_from_one_post() -> None:
    data = make_builder(SCHEMA)(post(3, 2))
    assert GraphState.from_batch(data, SCHEMA).num_graphs == 1
    assert GraphState.from_batch(data, SCHEMA).layouts["token"].counts.tolist() == [3]


def test_batch_without_stores_of_the_schema() -> None:
    data = make_builder(SCHEMA)(post(3, 2))
    with pytest.raises(KeyError, match="the batch has no entity; its node types are token, object"):
        GraphState.from_batch(data, SCHEMA | Schema([Relation("entity", "of", "token", Member())]))
    del data[TO_TOKENS]
    with pytest.raises(KeyError, match=r"the batch has no relation \(object, guides, token\); build its graphs"):
        GraphState.from_batch(data, SCHEMA)
    GraphState.from_batch(data, SCHEMA.without(TO_TOKENS))


def test_update_and_emit_return_new_states() -> None:
    graph = state([post(3, 2)])
    new = graph.update(token=torch.ones(3, 1), other=torch.zeros(2)).with_scores("tags", torch.ones(3, 4))
    assert new.x.keys() == {"token", "object", "other"}
    assert new.x["object"] is graph.x["object"]
    assert graph.x.keys() == {"token", "object"}
    assert (graph.emissions, new.emissions["tags"].shape) == ({}, (3, 4))
    assert new.with_scores("spans", torch.ones(3, 3)).emissions.keys() == {"tags", "spans"}
    with pytest.raises(dataclasses.FrozenInstanceError):
        graph.x = {}  # type: ignore[misc]


def test_replace_nodes() -> None:
    of, to = ("entity", "of", "token"), ("token", "in", "entity")
    schema = SCHEMA | Schema([Relation(*of, Member()), Relation(*to, Member())])
    graph = state([post(3, 2, seed=1), post(2, seed=2)], schema=schema)
    assert graph.layouts["entity"].num_nodes == 0
    node_layout = layout(1, 2)
    edges = {
        of: Edges(node_layout, graph.layouts["token"], torch.tensor([[0, 1], [0, 3]])),
        to: Edges(graph.layouts["token"], node_layout, torch.tensor([[0, 3], [0, 1]])),
    }
    replaced = graph.replace_nodes("entity", torch.ones(3, 8), node_layout, edges)
    assert replaced.layouts["entity"] is node_layout
    assert replaced.edges[of] is edges[of]
    assert replaced.edges[OBJECTS] is graph.edges[OBJECTS]
    assert graph.x["entity"].shape[0] == graph.edges[of].index.shape[1] == 0
    with pytest.raises(ValueError, match="2 rows of features for 3 nodes of type entity"):
        graph.replace_nodes("entity", torch.ones(2, 8), node_layout, edges)
    with pytest.raises(ValueError, match=r"replacing entity nodes leaves \[\('token', 'in', 'entity'\)\]"):
        graph.replace_nodes("entity", torch.ones(3, 8), node_layout, {of: edges[of]})


def test_complete_relations_follow_replaced_nodes() -> None:
    to, back = ("entity", "names", "object"), ("object", "shows", "entity")
    own = ("entity", "attends", "entity")
    schema = SCHEMA | Schema([Relation(*key, Complete()) for key in (to, back, own)])
    graph = state([post(3, 2, seed=1), post(2, seed=2)], schema=schema)
    node_layout = layout(1, 2)
    replaced = graph.replace_nodes("entity", torch.ones(3, 8), node_layout, {})
    for key in (to, back, own):
        assert replaced.edges[key].src is replaced.layouts[key[0]]
        assert replaced.edges[key].dst is replaced.layouts[key[2]]
        assert replaced.edges[key].complete
    assert replaced.edges[to].index.tolist() == [[0, 0], [0, 1]]
    assert sorted(replaced.edges[own].index.t().tolist()) == [[0, 0], [1, 1], [1, 2], [2, 1], [2, 2]]
    thin = Edges(node_layout, node_layout, torch.tensor([[1], [2]]))
    assert graph.replace_nodes("entity", torch.ones(3, 8), node_layout, {own: thin}).edges[own] is thin


def test_connect() -> None:
    graph = state([post(3, 2)])
    words = graph.layouts["token"]
    itself = Edges(words, words, torch.arange(3).repeat(2, 1))
    joined = graph.with_edges({TOKENS: itself})
    assert joined.edges[TOKENS] is itself
    assert joined.edges[OBJECTS] is graph.edges[OBJECTS]
    assert graph.edges[TOKENS].complete
    with pytest.raises(KeyError, match=r"\[\('token', 'x', 'token'\)\] is not in the graph, which has "):
        graph.with_edges({("token", "x", "token"): itself})


def test_complete_relations_need_no_store() -> None:
    schema = Schema([Relation(*OBJECTS, Complete())])
    graph = GraphState.from_batch(make_builder(schema)(post(2, 3)), schema)
    assert graph.data.edge_types == []
    assert graph.edges[OBJECTS].index.shape == (2, 9)


def test_with_features() -> None:
    graph = state([post(3, 2)])
    kept = graph.with_features("attended", graph.x["token"] + 1, nodes_of="token")
    again = kept.with_features("attended twice", kept.x["attended"], nodes_of="attended").update(
        other=torch.zeros(3, 8)
    )
    assert torch.equal(kept.x["attended"], graph.x["token"] + 1)
    assert [again.node_type_of(name) for name in ("token", "attended", "attended twice")] == ["token"] * 3
    assert again.node_type_of("other") is None
    # features derived from features of unknown node type have none either
    assert again.with_features("more", torch.zeros(3, 8), nodes_of="other").node_type_of("more") is None
    # features named as a node type are of that type, whatever nodes_of is
    assert graph.with_features("object", torch.zeros(2, 8), nodes_of="token").node_type_of("object") == "object"
    assert graph.feature_types == {}


def test_merged_from() -> None:
    graph = state([post(3, 2)])
    assert graph.merged_from == {}
    assert graph.with_parts("token", ["image", "object"]).merged_from == {"token": ("image", "object")}


def test_node_types_of_layer_outputs() -> None:
    graph = state([post(3, 2)])
    graph = TransformerLayer(TO_TOKENS, 8, 2, out_key="attended")(graph)
    graph = FeatureModule(GatedMix(8), in_keys=("attended", "token"), out_key="mixed")(graph)
    graph = CopyFeatures("object", "before")(graph)
    kinds = {name: graph.node_type_of(name) for name in ("attended", "mixed", "before")}
    assert kinds == {"attended": "token", "mixed": "token", "before": "object"}
