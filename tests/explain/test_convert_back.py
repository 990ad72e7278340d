"""Round trips through networkx, JSON and GraphML."""

from __future__ import annotations

import json
import re
from pathlib import Path

import networkx as nx
import pytest
import torch
from fakes import LABELS, SCHEMA, awkward_posts, make_builder, post
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.data import HeteroData

from mnergraph.explain import from_networkx, graphml_safe, to_networkx
from mnergraph.features.text.encoder import tiny_encoder
from mnergraph.graph import GraphBuilder
from mnergraph.pair import DetectedObject, Pair

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.bool)


def same(one: HeteroData, other: HeteroData) -> None:
    assert one.node_types == other.node_types
    assert one.edge_types == other.edge_types
    assert one._global_store._mapping == other._global_store._mapping
    for mine, yours in zip(one.stores, other.stores, strict=True):
        assert set(mine.keys()) == set(yours.keys())
        for name, value in mine.items():
            if isinstance(value, Tensor):
                assert (value.dtype, value.shape) == (yours[name].dtype, yours[name].shape), name
                torch.testing.assert_close(value, yours[name], rtol=0, atol=0, equal_nan=True)
            else:
                assert value == yours[name]


@st.composite
def attributes(draw: st.DrawFn, count: int) -> dict[str, Tensor]:
    result = {}
    for name in draw(st.lists(st.sampled_from(["x", "y", "word", "edge_attr", "a b"]), unique=True, max_size=3)):
        shape = (count, *draw(st.lists(st.integers(0, 3), max_size=2)))
        values = torch.randn(shape, generator=torch.Generator().manual_seed(draw(st.integers(0, 99)))) * 5
        values[values > 9] = torch.nan
        values[values < -9] = torch.inf
        dtype = draw(st.sampled_from(DTYPES))
        result[name] = (values if dtype.is_floating_point else values.nan_to_num(0, 0, 0)).to(dtype)
    return result


@st.composite
def graphs(draw: st.DrawFn) -> HeteroData:
    """Any node and edge types, empty ones among them, pairs joined twice, loops, any attributes."""
    data = HeteroData()
    kinds = draw(st.lists(st.text("ab 1/é", min_size=1, max_size=3), unique=True, min_size=1, max_size=3))
    counts = {kind: draw(st.integers(0, 4)) for kind in kinds}
    for kind, count in counts.items():
        data[kind].num_nodes = count
        for name, values in draw(attributes(count)).items():
            data[kind][name] = values
    ends = st.tuples(st.sampled_from(kinds), st.sampled_from(["r", "s t"]), st.sampled_from(kinds))
    for key in draw(st.lists(ends, unique=True, max_size=4)):
        most = 0 if 0 in (counts[key[0]], counts[key[2]]) else 6
        pair = st.tuples(st.integers(0, max(counts[key[0]] - 1, 0)), st.integers(0, max(counts[key[2]] - 1, 0)))
        index = draw(st.lists(pair, max_size=most))
        data[key].edge_index = torch.tensor(index, dtype=torch.long).reshape(-1, 2).t().contiguous()
        for name, values in draw(attributes(len(index))).items():
            data[key][name] = values
    return data


@settings(max_examples=80, deadline=None)
@given(graphs())
def test_networkx_round_trip(data: HeteroData) -> None:
    graph = to_networkx(data)
    assert graph.number_of_nodes() == sum(store.num_nodes for store in data.node_stores)
    assert graph.number_of_edges() == sum(store.num_edges for store in data.edge_stores)
    same(from_networkx(graph), data)
    same(
        from_networkx(nx.node_link_graph(json.loads(json.dumps(nx.node_link_data(graph), allow_nan=False)))),
        data,
    )


def through_graphml(graph: nx.MultiDiGraph, path: Path) -> nx.MultiDiGraph:
    nx.write_graphml(graphml_safe(graph), path)
    return nx.read_graphml(path, force_multigraph=True)


@settings(max_examples=25, deadline=None)
@given(data=graphs())
def test_graphml_round_trip(data: HeteroData, tmp_path_factory: pytest.TempPathFactory) -> None:
    same(from_networkx(through_graphml(to_networkx(data), tmp_path_factory.mktemp("graphml") / "x")), data)


def builders() -> list[GraphBuilder]:
    options = {"tokenizer": tiny_encoder(["paris"]).tokenizer, "labels": LABELS, "region_dim": 6, "image_dim": 5}
    return [make_builder(SCHEMA), make_builder(SCHEMA, **options)]


@pytest.mark.parametrize("pair", awkward_posts(), ids=lambda pair: pair.id)
def test_posts_round_trip(pair: Pair, tmp_path: Path) -> None:
    for builder in builders():
        data = builder(pair)
        graph = to_networkx(data, SCHEMA)
        same(from_networkx(graph), data)
        if len(pair.words) < 100:  # networkx writes 1,800 edges of GraphML in a second
            same(from_networkx(through_graphml(graph, tmp_path / "x.graphml")), data)
        written = SCHEMA.materialize(data)
        same(from_networkx(to_networkx(written, SCHEMA)), written)


def test_order_is_kept_when_nodes_are_removed() -> None:
    data = HeteroData()
    data["a"].x = torch.arange(5.0)[:, None]
    data["b"].num_nodes = 2
    data["a", "r", "b"].edge_index = torch.tensor([[4, 0, 3, 1], [0, 1, 1, 0]])
    data["a", "r", "b"].edge_attr = torch.tensor([[40.0], [1.0], [31.0], [10.0]])
    graph = to_networkx(data)
    graph.remove_nodes_from(["a 0", "a 2"])
    graph.remove_edge("a 1", "b 0", "r")
    left = from_networkx(graph)
    assert left["a"].x[:, 0].tolist() == [1.0, 3.0, 4.0]
    assert left["a", "r", "b"].edge_index.tolist() == [[2, 1], [0, 1]]
    assert left["a", "r", "b"].edge_attr[:, 0].tolist() == [40.0, 31.0]


def test_added_node_and_edge_types_are_refused() -> None:
    graph = to_networkx(make_builder(SCHEMA)(post(3, 2)), SCHEMA)
    graph.add_edge("token 0", "object 1", "mine", relation="mine", index=0, features={})
    with pytest.raises(ValueError, match=re.escape("('token', 'mine', 'object') was not in the graph at first")):
        from_networkx(graph)
    graph = to_networkx(make_builder(SCHEMA)(post(3, 2)), SCHEMA)
    graph.add_node("mine 0", type="mine", index=0, features={})
    with pytest.raises(ValueError, match="mine was not in the graph at first"):
        from_networkx(graph)
    with pytest.raises(ValueError, match="from_networkx takes graphs of to_networkx"):
        from_networkx(nx.MultiDiGraph())


def test_attributes_without_a_row_per_node_are_refused() -> None:
    data = make_builder(SCHEMA)(post(3, 2))
    data["token"].mean = torch.zeros(2)
    with pytest.raises(ValueError, match="mean of token is not a tensor with a row for each of the 3"):
        to_networkx(data)
    data["token"].mean = "so"
    with pytest.raises(ValueError, match="mean of token is not a tensor"):
        to_networkx(data)


@settings(max_examples=30, deadline=None)
@given(
    words=st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1, max_size=3),
    label=st.text(st.characters(exclude_categories=["Cs"])),
)
def test_hostile_words_in_graphml(words: list[str], label: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    pair = Pair(tuple(words), objects=(DetectedObject(label),))
    graph = to_networkx(make_builder(SCHEMA)(pair), SCHEMA)
    again = through_graphml(graph, tmp_path_factory.mktemp("graphml") / "x.graphml")
    assert from_networkx(again).pair == pair
    for number, word in enumerate(words):
        expected = again.nodes[f"token {number}"]["word"]
        assert len(expected.replace("\r\n", "\n")) >= len(word.replace("\r\n", "\n")) - word.count("\r")


def test_plain_values() -> None:
    expected = {"attention": {"4": [0.25, 0.5], "5.0": [1.0]}, "mean_gate": {"6": 0.5}, "box": [1, 2], "n": 3}
    graph = nx.MultiDiGraph(pair=None)
    graph.add_node("a", word="a\x00b\ud800c", ok=True, **expected)
    result = graphml_safe(graph)
    assert result.nodes["a"] == {
        "word": "a\ufffdb\ufffdc",
        "ok": True,
        "attention 4.0": 0.25,
        "attention 4.1": 0.5,
        "attention 5.0.0": 1.0,
        "mean_gate 6": 0.5,
        "box": "[1, 2]",
        "n": 3,
    }
    assert result.graph == {"pair": "null"}
    assert graph.nodes["a"]["attention"] == expected["attention"], "the graph itself stays"
