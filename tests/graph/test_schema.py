"""Schemas: printed, joined, thinned, saved, written out."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import pytest
import torch
from fakes import SCHEMA, awkward_posts, make_builder, post
from torch_geometric.data import HeteroData

from mnergraph.graph import (
    Complete,
    EdgeRule,
    Grounded,
    InEntity,
    Member,
    Relation,
    Schema,
    Windowed,
    collate,
    edge_index_from,
)
from mnergraph.graph.box_geometry import SPATIAL_LABELS
from mnergraph.nn.state import GraphState

TEXT = Schema([Relation("token", "attends", "token", Complete())])
GUIDES = Schema([Relation("object", "guides", "token", Grounded())])
BACK = Schema([Relation("token", "guides", "object", Grounded())])
AMONG = Schema([Relation("object", "attends", "object", Windowed(3))])


def test_printed_as_sentences() -> None:
    unreachable = Relation("token", "updates", "image", Complete())
    assert str(TEXT | GUIDES | AMONG | Schema([unreachable])).split("\n") == [
        "Nodes: token, object, image.",
        "(token, attends, token): every token reaches every token.",
        "(object, guides, token): objects and tokens are joined where a phrase grounds the object, "
        "general objects with all.",
        "(object, attends, object): every object reaches the objects at most 3 places away.",
        "(token, updates, image): every token reaches every image. It cannot reach the tags.",
    ]
    assert repr(TEXT) == str(TEXT)
    assert str(Schema(nodes=["image"])) == "Nodes: token, image."


def test_union() -> None:
    both = TEXT | GUIDES | TEXT
    assert [r.name for r in both] == ["attends", "guides"]
    assert both.nodes == ("token", "object")
    assert (TEXT | Schema(nodes=["image"])).nodes == ("token", "image")
    assert TEXT.nodes == ("token",), "the parts stay what they were"


def test_union_refuses_conflicts() -> None:
    other = Schema([Relation("token", "attends", "token", Windowed(2))])
    with pytest.raises(ValueError, match=r"\(token, attends, token\) is Complete\(\) in one schema and Windowed"):
        TEXT | other
    with pytest.raises(ValueError, match="one schema tags token, the other piece"):
        TEXT | Schema(tags="piece")
    with pytest.raises(ValueError, match=r"a relation is given twice among \(token, attends, token\), "):
        Schema([*TEXT, *other])


def test_without() -> None:
    less = (TEXT | GUIDES).without(("object", "guides", "token"))
    assert list(less) == list(TEXT)
    assert less.nodes == ("token", "object"), "ablations keep the nodes"
    with pytest.raises(KeyError, match=r"is not in the schema, which has \(token, attends, token\)"):
        TEXT.without(("object", "guides", "token"))


def test_access_and_metadata() -> None:
    assert SCHEMA["token", "near", "token"].rule == Windowed(2)
    nodes, edges = SCHEMA.metadata()
    assert nodes == ["token", "object"]
    assert edges == [relation.key for relation in SCHEMA]
    assert TEXT != GUIDES
    assert TEXT != "text"
    with pytest.raises(TypeError, match="unhashable"):
        hash(TEXT)


def test_unreachable_relations_of_umgf() -> None:
    schema = TEXT | Schema([Relation("object", "attends", "object", Complete())]) | GUIDES | BACK
    assert [r.key for r in schema.unreachable_relations()] == [
        ("object", "attends", "object"),
        ("token", "guides", "object"),
    ]
    assert schema.unreachable_relations(1) == []
    assert [r.key for r in (TEXT | BACK).unreachable_relations(5)] == [("token", "guides", "object")]


def test_unreachable_relations_of_a_chain() -> None:
    chain = Schema([Relation(a, "to", b, Complete()) for a, b in (("d", "c"), ("c", "b"), ("b", "token"))])
    assert [[r.src for r in chain.unreachable_relations(rounds)] for rounds in range(4)] == [["d", "c"], ["d"], [], []]


def test_materialize() -> None:
    builder = make_builder(SCHEMA)
    for pair in awkward_posts():
        data = builder(pair)
        before = {key: data[key].edge_index.clone() for key in data.edge_types}
        whole = SCHEMA.materialize(data)
        assert set(whole.edge_types) == set(SCHEMA.relations)
        assert set(data.edge_types) == {r.key for r in SCHEMA if not r.rule.fully_connected}, "the graph itself grew"
        graph = GraphState.from_batch(data, SCHEMA)
        for key, edges in graph.edges.items():
            found = {tuple(edge) for edge in whole[key].edge_index.t().tolist()}
            assert found == {tuple(edge) for edge in edges.index.t().tolist()}, key
            assert len(found) == whole[key].edge_index.shape[1]
        assert whole.validate()
        for key, index in before.items():
            whole[key].edge_index += 1
            assert torch.equal(data[key].edge_index, index), "the copy shares memory with the graph"
        assert whole["object", "around", "object"].edge_type.numel() == before["object", "around", "object"].shape[1]


def test_materialize_commutes_with_collate() -> None:
    graphs = make_builder(SCHEMA).build_all(awkward_posts())
    whole, thin = (
        collate([SCHEMA.materialize(graph) for graph in graphs]),
        GraphState.from_batch(collate(graphs), SCHEMA),
    )
    for key, edges in thin.edges.items():
        found = {tuple(edge) for edge in whole[key].edge_index.t().tolist()}
        assert found == {tuple(edge) for edge in edges.index.t().tolist()}, key
    assert int(whole["object", "around", "object"].edge_type.max()) < len(SPATIAL_LABELS)


@dataclass(frozen=True)
class Named(EdgeRule):
    """A rule whose fields have names of a relation's."""

    name: str
    src: int = 0
    description = "the {dst}s called so"

    def connect(self, data: HeteroData, src: str, dst: str) -> torch.Tensor:
        return edge_index_from([])


def test_saved_and_loaded() -> None:
    schema = SCHEMA | Schema(
        [Relation("entity", "of", "token", Member()), Relation("object", "x", "token", Named("dog", src=3))],
        nodes=["image"],
    )
    loaded = Schema.from_dict(json.loads(json.dumps(schema.to_dict())))
    assert loaded == schema
    assert list(loaded) == list(schema)
    assert loaded.nodes == schema.nodes
    assert loaded["object", "x", "token"].rule == Named("dog", src=3)


def test_unknown_rule() -> None:
    saved = TEXT.to_dict()
    for key in ("rule", "kind"):
        saved["relations"][0].pop("rule", None)
        saved["relations"][0][key] = "Telepathic"
        with pytest.raises(
            ValueError, match=r"edge rule 'Telepathic' is not imported; imported: .*Complete, .*Windowed"
        ):
            Schema.from_dict(saved)


def test_rules_are_saved_by_module_and_name() -> None:
    schema = TEXT | Schema([Relation("object", "x", "token", Named("dog", src=3))])
    rules = [entry["rule"] for entry in schema.to_dict()["relations"]]
    assert rules == ["Complete", f"{__name__}:Named"]


def test_custom_rule_does_not_replace_a_built_in_one() -> None:
    @dataclass(frozen=True)
    class Complete(EdgeRule):
        def connect(self, data: HeteroData, src: str, dst: str) -> torch.Tensor:
            return edge_index_from([])

    saved = TEXT.to_dict()
    assert Schema.from_dict(saved) == TEXT
    assert type(Schema.from_dict(saved)["token", "attends", "token"].rule) is not Complete
    own = Schema([Relation("token", "attends", "token", Complete())])
    assert type(Schema.from_dict(own.to_dict())["token", "attends", "token"].rule) is Complete
    assert own != TEXT


def test_schemas_of_version_0_1() -> None:
    schema = SCHEMA | Schema([Relation("object", "x", "token", Named("dog", src=3))])
    saved = schema.to_dict()
    for entry in saved["relations"]:
        entry["kind"] = entry.pop("rule").rpartition(":")[2]
    assert Schema.from_dict(saved) == schema


def make_rule() -> type[EdgeRule]:
    @dataclass(frozen=True)
    class Duplicate(EdgeRule):
        def connect(self, data: HeteroData, src: str, dst: str) -> torch.Tensor:
            return edge_index_from([])

    return Duplicate


def test_two_rules_of_one_name_are_an_error() -> None:
    first, second = make_rule(), make_rule()
    saved = Schema([Relation("token", "x", "token", first())]).to_dict()
    assert second.__qualname__ == first.__qualname__
    with pytest.raises(
        ValueError, match=r"rule .*Duplicate' is ambiguous: \d classes have the name .*rename all but one"
    ):
        Schema.from_dict(saved)
    saved["relations"][0]["kind"] = "Duplicate"
    del saved["relations"][0]["rule"]
    with pytest.raises(ValueError, match="edge rule 'Duplicate' is ambiguous"):
        Schema.from_dict(saved)


@pytest.mark.parametrize(
    ("kind", "ends"),
    [
        (Grounded(), ("object", "token")),
        (Member(), ("entity", "token")),
        (InEntity(), ("object", "token")),
    ],
    ids=str,
)
def test_edges_of_symmetric_rules_are_computed_once(kind: EdgeRule, ends: tuple[str, str]) -> None:
    forward, backward = Relation(ends[0], "to", ends[1], kind), Relation(ends[1], "from", ends[0], kind)
    both = Schema([forward, backward])
    for pair in [*awkward_posts(), replace(post(7, 3, seed=1), entities=((0, 2), (4, 5)))]:
        data = make_builder(both)(pair)
        for relation in (forward, backward):
            drawn = relation.connect(data).edge_index
            stored = data[relation.key].edge_index
            assert stored.is_contiguous()
            assert sorted(stored.t().tolist()) == sorted(drawn.t().tolist())
        assert torch.equal(data[forward.key].edge_index.flip(0), data[backward.key].edge_index)
