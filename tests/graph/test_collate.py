"""Our collate against PyG's: the same batch, and inconsistent graphs are refused."""

from __future__ import annotations

import pytest
from fakes import SCHEMA, awkward_posts, builder_of_all, check_same, equal, make_builder, post, without_objects
from torch_geometric.data import Batch

from mnergraph.graph import Schema, collate
from mnergraph.graph.collate import layouts
from mnergraph.pair import Pair

BUILDER = builder_of_all()


@pytest.mark.parametrize(
    "posts",
    [
        awkward_posts(),
        awkward_posts()[:1],
        without_objects(),
        [Pair(("a",))],
        [post(2), Pair(("a",)), post(3, 1)],
    ],
    ids=["awkward", "one", "without objects", "bare", "mixed"],
)
def test_equals_pyg(posts: list[Pair]) -> None:
    graphs = BUILDER.build_all(posts)
    ours, theirs = collate(graphs), Batch.from_data_list(BUILDER.build_all(posts))
    check_same(ours, theirs)
    assert ours.num_graphs == theirs.num_graphs == len(posts)
    assert ours.pair == list(posts)
    for kind in ours.node_types:
        assert ours[kind]._num_nodes == theirs[kind]._num_nodes
    for name in ("_slice_dict", "_inc_dict"):
        mine, other = getattr(ours, name), getattr(theirs, name)
        for key in mine.keys() & other.keys():
            if not isinstance(mine[key], dict):
                continue
            assert mine[key].keys() == other[key].keys(), (name, key)
            if name == "_slice_dict":
                assert equal(mine[key], other[key]), (name, key)


@pytest.mark.parametrize("posts", [awkward_posts(), without_objects()], ids=["awkward", "without objects"])
def test_to_data_list_restores_the_graphs(posts: list[Pair]) -> None:
    batch = collate(BUILDER.build_all(posts))
    for found, expected in zip(batch.to_data_list(), BUILDER.build_all(posts), strict=True):
        check_same(found, expected)
    check_same(batch[1], BUILDER(posts[1]))
    assert batch.pair[0] is posts[0]


def test_materialized_graphs_too() -> None:
    graphs = [SCHEMA.materialize(graph) for graph in BUILDER.build_all(awkward_posts())]
    batch = collate(graphs)
    check_same(batch, Batch.from_data_list(graphs))
    for found, expected in zip(batch.to_data_list(), graphs, strict=True):
        check_same(found, expected)


def test_collate_does_not_change_the_graphs() -> None:
    graphs = BUILDER.build_all(awkward_posts())
    collate(graphs)
    for found, expected in zip(graphs, BUILDER.build_all(awkward_posts()), strict=True):
        check_same(found, expected)


def test_a_type_missing_later_is_refused() -> None:
    """PyG silently puts the edges of later posts on the wrong sentence."""
    graphs = [make_builder(SCHEMA)(post(3, 2, seed=seed, grounded=0.0)) for seed in (1, 2, 3)]
    del graphs[1]["object", "guides", "token"], graphs[1]["token", "guides", "object"]
    del graphs[1]["object", "around", "object"], graphs[1]["object"]
    wrong = Batch.from_data_list(graphs)
    assert wrong["object"].ptr.tolist() == [0, 2, 4], "the trap: two sentences' objects for three"
    with pytest.raises(ValueError, match="post 'post-2' holds nothing for object, the batch's first post box, "):
        collate(graphs)


def test_a_type_missing_first_is_refused() -> None:
    """PyG drops it from the whole batch."""
    graphs = [make_builder(Schema())(post(3)), make_builder(SCHEMA)(post(3, 2, seed=5))]
    assert "object" not in Batch.from_data_list(graphs).node_types
    with pytest.raises(
        ValueError,
        match=r"post 'post-5' holds \('object', 'around', 'object'\), .*object, which the batch's first post",
    ):
        collate(graphs)


def test_an_attribute_missing_is_refused() -> None:
    graphs = [
        BUILDER(post(3, seed=1)),
        make_builder(BUILDER.schema, tokenizer=BUILDER.node_types["token"].tokenizer)(post(2, seed=2)),
    ]
    with pytest.raises(ValueError, match="post 'post-2' holds word, starts_word, num_nodes for token, "):
        collate(graphs)


def test_no_graphs() -> None:
    with pytest.raises(ValueError, match="a batch needs at least one graph"):
        collate([])


def test_layouts() -> None:
    posts = awkward_posts()
    found = layouts(collate(BUILDER.build_all(posts)))
    assert found["token"].counts.tolist() == [len(pair.words) for pair in posts]
    assert found["object"].counts.tolist() == [len(pair.objects) for pair in posts]
    assert found["thought"].counts.tolist() == [0] * len(posts)
