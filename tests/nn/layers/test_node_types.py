"""Merged nodes against loops over sentences, and one softmax over several types."""

from __future__ import annotations

import pytest
import torch
from fakes import OBJECTS, SCHEMA, awkward_posts, layout, post, state, without_objects

from mnergraph.graph import Complete, Edges, EdgeType, InEntity, Relation, Schema, Spatial
from mnergraph.nn import HeteroLayer, MergeNodeTypes, RelationAttention, SplitNodeTypes
from mnergraph.nn.state import GraphState
from mnergraph.pair import Pair

PARTS = ("image", "object")
PART_ATTENTION: list[EdgeType] = [(src, "attends", dst) for src in PARTS for dst in PARTS]
NEAR: list[EdgeType] = [
    ("image", "near", "object"),
    ("object", "near", "image"),
    ("object", "near", "object"),
]
IMAGE_SCHEMA = SCHEMA | Schema(
    [*(Relation(*key, Complete()) for key in PART_ATTENTION), *(Relation(*key, Spatial()) for key in NEAR)]
)
REGION_ATTENTION, AROUND = ("regions", "attends", "regions"), ("regions", "near", "regions")
POSTS = [awkward_posts(), without_objects(), [post(3, 2, seed=1)], [post(3, 0, seed=1, image=False)]]
posts_of_all_kinds = pytest.mark.parametrize("posts", POSTS, ids=["awkward", "no object", "one", "nothing"])


def merged(posts: list[Pair], *relations: str) -> GraphState:
    return MergeNodeTypes("regions", PARTS, relation_names=relations)(state(posts, schema=IMAGE_SCHEMA))


def plain_rows(graph: GraphState) -> dict[tuple[str, int], int]:
    """The merged row of every node of every part: sentence by sentence, part by part."""
    rows: dict[tuple[str, int], int] = {}
    for s in range(graph.num_graphs):
        for part in PARTS:
            begin, end = graph.layouts[part].ptr[s : s + 2].tolist()
            rows |= {(part, node): len(rows) + node - begin for node in range(begin, end)}
    return rows


@posts_of_all_kinds
def test_merged_against_loops(posts: list[Pair]) -> None:
    graph = merged(posts, "near")
    rows = plain_rows(graph)
    assert graph.layouts["regions"].num_nodes == graph.x["regions"].shape[0] == len(rows)
    counts = sum(graph.layouts[part].counts for part in PARTS)
    assert torch.equal(graph.layouts["regions"].counts, torch.as_tensor(counts))
    for (part, node), row in rows.items():
        assert torch.equal(graph.x["regions"][row], graph.x[part][node])
    expected = {
        (rows[src, i], rows[dst, j]): (kind, geometry)
        for src, name, dst in NEAR
        for (i, j), kind, geometry in zip(
            graph.edges[src, name, dst].index.t().tolist(),
            graph.edges[src, name, dst].type.tolist(),
            graph.edges[src, name, dst].attr.tolist(),
            strict=True,
        )
    }
    edges = graph.edges[AROUND]
    found = zip(edges.index.t().tolist(), edges.type.tolist(), edges.attr.tolist(), strict=True)
    assert {tuple(pair): (kind, geometry) for pair, kind, geometry in found} == expected
    assert edges.index.shape[1] == len(expected)


@posts_of_all_kinds
def test_split_undoes_merge(posts: list[Pair]) -> None:
    graph = merged(posts, "attends")
    graph = graph.update(regions=2 * graph.x["regions"])
    found = SplitNodeTypes("regions", {"image": "image again", "object": "object"})(graph)
    assert torch.equal(found.x["image again"], 2 * graph.x["image"])
    assert torch.equal(found.x["object"], 2 * graph.x["object"])
    assert found.x["image"] is graph.x["image"]


@posts_of_all_kinds
def test_one_softmax_over_both_types(posts: list[Pair]) -> None:
    """Complete relations stay complete, and equal themselves when every edge is written out."""
    torch.manual_seed(0)
    attention = RelationAttention(8, 2)
    start = state(posts, schema=IMAGE_SCHEMA)
    written = {
        key: Edges(edges.src, edges.dst, edges.index) if key in PART_ATTENTION else edges
        for key, edges in start.edges.items()
    }
    merge = MergeNodeTypes("regions", PARTS, relation_names=["attends"])
    whole, thin = merge(start), merge(GraphState(start.data, start.x, written, start.layouts))
    assert whole.edges[REGION_ATTENTION].complete
    assert not thin.edges[REGION_ATTENTION].complete
    layer = HeteroLayer({REGION_ATTENTION: attention})
    found, expected = layer(whole).x["regions"], layer(thin).x["regions"]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    for (part, node), row in plain_rows(whole).items():
        s = int(whole.layouts[part].graph_index[node])
        mine = slice(*whole.layouts["regions"].ptr[s : s + 2].tolist())
        x = whole.x["regions"][mine]
        q, k, v = (map_(x).unflatten(-1, (2, 4)) for map_ in (attention.query, attention.key, attention.value))
        index = row - mine.start
        heads = [(k[:, h] @ q[index, h] / 2).softmax(0) @ v[:, h] for h in range(2)]
        torch.testing.assert_close(found[row], attention.output(torch.cat(heads)), atol=1e-5, rtol=1e-5)


def test_merging_partly_complete_relations_is_not_complete() -> None:
    start = state([post(3, 2, seed=1)], schema=IMAGE_SCHEMA)
    edges = {key: value for key, value in start.edges.items() if key != ("image", "attends", "image")}
    found = MergeNodeTypes("regions", PARTS, relation_names=["attends"])(
        GraphState(start.data, start.x, edges, start.layouts)
    )
    pairs = {(i, j) for i in range(3) for j in range(3)} - {(0, 0)}
    assert sorted(map(tuple, found.edges[REGION_ATTENTION].index.t().tolist())) == sorted(pairs)
    assert found.edges[REGION_ATTENTION].type is None


def test_gradients_pass_both_ways() -> None:
    graph = state(awkward_posts(), schema=IMAGE_SCHEMA)
    x = {part: graph.x[part].clone().requires_grad_() for part in PARTS}
    again = MergeNodeTypes("regions", PARTS, relation_names=["attends", "near"])(graph.update(**x))
    assert {REGION_ATTENTION, AROUND} <= again.edges.keys()
    back = SplitNodeTypes("regions", {part: part for part in PARTS})(again.update(regions=again.x["regions"] ** 2))
    sum(back.x[part].sum() for part in PARTS).backward()
    for part in PARTS:
        torch.testing.assert_close(x[part].grad, 2 * x[part])


def test_errors() -> None:
    graph = state([post(3, 2)], schema=IMAGE_SCHEMA)
    with pytest.raises(KeyError, match=r"no relation updates among image, object is in the graph, which has \('tok"):
        MergeNodeTypes("regions", PARTS, relation_names=["updates"])(graph)
    with pytest.raises(
        ValueError, match="regions merges image, object of hidden sizes 3, 8; project them to one first"
    ):
        MergeNodeTypes("regions", PARTS, relation_names=["near"])(graph.update(image=torch.zeros(1, 3)))


# --- relations of the new type that the schema names

TO_VISUAL, AMONG = ("token", "attends", "visual"), ("visual", "attends", "visual")
SHOWS = ("visual", "shows", "token")
MERGED = SCHEMA | Schema(
    [Relation(*TO_VISUAL, Complete()), Relation(*AMONG, Complete()), Relation(*SHOWS, InEntity())],
    nodes=["image"],
)


@pytest.mark.parametrize("posts", [awkward_posts(), without_objects(), [post(1)]], ids=["awkward", "bare", "one"])
@pytest.mark.parametrize("of", [("image", "object"), ("object", "token", "image"), ("object",)])
def test_relations_that_the_schema_names_by_loops(posts: list, of: tuple[str, ...]) -> None:
    graph = state(posts, schema=MERGED)
    merged = MergeNodeTypes("visual", of, empty_relations=[SHOWS])(graph)
    rows, counts = [], []
    for index in range(len(posts)):
        mine = [
            graph.x[kind][row]
            for kind in of
            for row in range(int(graph.layouts[kind].ptr[index]), int(graph.layouts[kind].ptr[index + 1]))
        ]
        rows += mine
        counts.append(len(mine))
    assert merged.layouts["visual"].counts.tolist() == counts
    assert torch.equal(merged.x["visual"], torch.stack(rows) if rows else torch.zeros(0, 8))
    assert torch.equal(merged.layouts["visual"].ptr, layout(*counts).ptr)
    for key in (TO_VISUAL, AMONG):
        assert merged.edges[key].complete
        assert merged.edges[key].dst is merged.layouts["visual"]
    assert merged.merged_from == {"visual": of}
    assert merged.edges[SHOWS].index.shape == (2, 0)
    assert merged.edges[SHOWS].src is merged.layouts["visual"]
    # the parts stay
    assert merged.edges[OBJECTS] is graph.edges[OBJECTS]
    assert merged.x["object"] is graph.x["object"]


def test_gradients_go_back_to_the_parts() -> None:
    graph = state([post(2, 3, seed=1), post(3, 1, seed=2)], schema=MERGED)
    parts = {kind: graph.x[kind].requires_grad_() for kind in ("image", "object")}
    merged = MergeNodeTypes("visual", ("image", "object"), empty_relations=[SHOWS])(graph).x["visual"]
    assert len(merged) == 2 + 4
    (merged * torch.arange(6.0)[:, None]).sum().backward()
    assert parts["image"].grad[:, 0].tolist() == [0, 4]
    assert parts["object"].grad[:, 0].tolist() == [1, 2, 3, 5]


def test_relations_without_edges_are_refused() -> None:
    graph = state([post(2, 3)], schema=MERGED)
    with pytest.raises(ValueError, match=r"replacing visual nodes leaves \[\('visual', 'shows', 'token'\)\]"):
        MergeNodeTypes("visual", ("image", "object"))(graph)
