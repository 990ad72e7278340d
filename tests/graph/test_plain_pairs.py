"""Graphs whose pair is plain values: saved and loaded by torch's safe default, batched by PyG, and as they were."""

from __future__ import annotations

import io
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes import SCHEMA, awkward_posts, builder_of_all, check_same, make_builder, post, without_objects
from hashtags import with_hashtags
from torch_geometric.data import Batch, HeteroData
from torch_geometric.data.collate import collate as join
from torch_geometric.data.separate import separate
from torch_geometric.loader import DataLoader

from mnergraph.explain import record_attention
from mnergraph.explain.convert import to_networkx
from mnergraph.graph import collate, pair_of, with_pair, with_plain_pair
from mnergraph.graph.collate import JoinedGraphs
from mnergraph.graph.plain_pairs import pair_from_plain, plain_values
from mnergraph.pair import ContextText, DetectedObject, GroundedEntity, Pair, SourceText

BUILDER = builder_of_all()
FULL = Pair(
    words=("Ann", "é\u2028", "\ud83d"),
    labels=("B-PER", "O", "O"),
    id="7",
    image_path=Path("a folder") / "7.jpg",
    size=(40, 30),
    objects=(DetectedObject("hat", (0, 1.5, 4, 9), 0.1, (0, 1)), DetectedObject()),
    caption="a hat",
    context=(ContextText("ocr", "SALE"),),
    entities=((0, 1),),
    grounding=(GroundedEntity(0, 1, "PER", ((0.0, 1.0, 5.5, 9.0),)),),
    source=SourceText("Ann, é\u2028\ud83d", ((0, 3), (5, 7), (7, 8))),
    extra={"scene": {"rain": [1, 2.5, None]}},
)
every_pair = pytest.mark.parametrize("pair", [FULL, Pair(("a",)), *awkward_posts()], ids=lambda pair: pair.id)


def saved_and_loaded(value: Any) -> Any:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return torch.load(io.BytesIO(buffer.getvalue()), weights_only=True)


@every_pair
def test_there_and_back(pair: Pair) -> None:
    values = saved_and_loaded(plain_values(pair))
    assert pair_from_plain(values) == pair
    assert dict(pair_from_plain(values).extra) == dict(pair.extra)


def test_numbers_of_numpy_and_torch() -> None:
    box = tuple(np.array([1, 2, 3.5, 4], dtype=np.float32))
    odd = Pair((np.str_("a"),), objects=(DetectedObject("hat", box, torch.tensor(0.25)),))  # type: ignore[arg-type]
    found = pair_from_plain(saved_and_loaded(plain_values(odd)))
    assert found == Pair(("a",), objects=(DetectedObject("hat", (1.0, 2.0, 3.5, 4.0), 0.25),))


def test_extra_data_that_is_not_json_is_left_out_with_a_warning() -> None:
    pair = replace(FULL, extra={"scene": 1, "depth": torch.ones(2), "mask": {3}})
    with pytest.warns(UserWarning, match="'depth', 'mask' of the posts' extra data is not JSON and is left out"):
        values = plain_values(pair)
    assert pair_from_plain(values).extra == {"scene": 1}


@pytest.mark.parametrize("pair", awkward_posts(), ids=lambda pair: pair.id)
def test_a_graph_under_the_safe_default(pair: Pair) -> None:
    graph = BUILDER(pair)
    with pytest.raises(pickle.UnpicklingError):
        saved_and_loaded(graph.to_dict())
    plain = with_plain_pair(graph)
    loaded = HeteroData.from_dict(saved_and_loaded(plain.to_dict()))
    check_same(loaded, plain)
    assert (loaded.id, loaded.words, loaded.labels) == (pair.id, list(pair.words), list(pair.labels or ()))
    assert pair_of(loaded) == pair_of(graph) == pair
    check_same(with_pair(loaded), graph)
    assert graph.pair is pair, "the given graph is unchanged"
    assert with_plain_pair(plain) is plain
    assert with_pair(graph) is graph


def test_a_graph_without_a_pair() -> None:
    bare = HeteroData()
    assert with_pair(bare) is bare
    for function in (pair_of, with_plain_pair):
        with pytest.raises(KeyError):
            function(bare)


@pytest.mark.parametrize("posts", [awkward_posts(), awkward_posts()[:1], without_objects()], ids=["all", "one", "bare"])
def test_batches_of_pyg(posts: list[Pair]) -> None:
    graphs = [with_plain_pair(graph) for graph in BUILDER.build_all(posts)]
    for graph in graphs:
        graph.weight = 0.5  # an attribute of one's own stays
    ours, theirs = collate(graphs), Batch.from_data_list(graphs)
    assert theirs.words == [list(pair.words) for pair in posts]
    assert with_pair(theirs).pair == with_pair(theirs.to("cpu")).pair == posts
    assert theirs.weight.tolist() == with_pair(theirs).weight.tolist() == [0.5] * len(posts)
    assert "pair" not in theirs, "the given batch is unchanged"
    plain = collate([with_plain_pair(graph) for graph in BUILDER.build_all(posts)])
    check_same(with_pair(plain), collate(BUILDER.build_all(posts)))
    assert with_pair(ours).pair == posts


def test_batches_of_pygs_loader_are_taken_apart() -> None:
    """PyG's own fails for a node type without tensors."""
    posts = awkward_posts()
    (batch,) = DataLoader([with_plain_pair(graph) for graph in BUILDER.build_all(posts)], batch_size=len(posts))
    with pytest.raises(KeyError, match="entity"):
        batch.to_data_list()
    for found, expected in zip(with_pair(batch).to_data_list(), BUILDER.build_all(posts), strict=True):
        check_same(found, expected)


def test_a_loader_that_excludes_a_value() -> None:
    graphs = [with_plain_pair(BUILDER(post(3, 1)))]
    (batch,) = DataLoader(graphs, exclude_keys=["labels"])
    with pytest.raises(KeyError, match="labels"):
        with_pair(batch)


def test_a_model_with_a_node_type_of_its_own() -> None:
    """Its `describe` reads ``data.pair``."""
    model = with_hashtags()
    posts = [Pair(("#now", "in", "#paris")), Pair(("rain",))]
    graphs = [with_plain_pair(graph) for graph in model.builder.build_all(posts)]
    (batch,) = DataLoader(graphs, batch_size=2)
    with record_attention(model) as record:
        scores = model(batch).emissions["tags"]
    assert torch.equal(scores, model(collate(model.builder.build_all(posts))).emissions["tags"])
    assert record.posts[0].pair == posts[0]
    node_types = model.builder.node_types
    found = to_networkx(graphs[0], model.schema, node_types=node_types)
    expected = to_networkx(model.builder(posts[0]), model.schema, node_types=node_types)
    assert (found.graph, dict(found.nodes), dict(found.edges)) == (
        expected.graph,
        dict(expected.nodes),
        dict(expected.edges),
    )
    assert found.nodes["hashtag 1"]["label"] == "#paris"


def test_edges_of_plain_graphs() -> None:
    """Rules read the pair where they read any."""
    graph = BUILDER(awkward_posts()[0])
    check_same(with_pair(BUILDER.schema.materialize(with_plain_pair(graph))), BUILDER.schema.materialize(graph))


def test_differing_graphs_are_named() -> None:
    graphs = [with_plain_pair(BUILDER(post(3, seed=1))), with_plain_pair(make_builder(SCHEMA)(post(2, seed=2)))]
    with pytest.raises(ValueError, match="post 'post-2' holds"):
        collate(graphs)


@pytest.mark.parametrize("nested", [False, True], ids=["plain", "nested"])
def test_joined_graphs_are_taken_apart_as_pyg_does(nested: bool) -> None:
    graphs = [with_plain_pair(graph) for graph in BUILDER.build_all(awkward_posts())]
    for number, graph in enumerate(graphs):
        graph.number, graph.ratio, graph["token"].depth = number, torch.rand(1, 3), torch.rand(graph["token"].num_nodes)
        del graph["entity"], graph["thought"]  # which PyG can't take apart
        if nested:
            graph.by_name = {"a": torch.rand(2), "b": [torch.rand(1), torch.rand(3)]}
    data, slices, _ = join(HeteroData, data_list=graphs, increment=False, add_batch=False)
    joined = JoinedGraphs(data, slices)
    for index in range(len(graphs)):
        check_same(joined[index], separate(HeteroData, data, index, slices, decrement=False))
        assert joined[index].number == index
        assert torch.equal(joined[index].ratio, graphs[index].ratio)
