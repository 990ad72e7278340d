"""Stores of a HeteroData and batches of graphs, through PyG's private attributes: the only file that uses them.

Most of the time of a small graph is PyG's attribute access: setting an attribute of a store costs more than making
its tensor. Here a store is set with all its attributes at once, exactly as PyG holds them; a test compares the two.

`collate` makes the same HeteroDataBatch as PyG. PyG's own takes node and edge types from the first graph: a type
missing there is dropped, and one missing later puts edges on the wrong sentence, both silently. Here every graph must
have the same stores with the same attributes, as all graphs of one builder do, or the post that differs is named.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Batch, HeteroData
from torch_geometric.data.separate import separate
from torch_geometric.data.storage import BaseStorage, EdgeStorage, NodeStorage

from mnergraph.graph.layout import Layout
from mnergraph.graph.plain_pairs import PLAIN_NAMES, pair_from_plain, plain_values
from mnergraph.pair import Pair

#: Source node type, name, target node type.
EdgeType = tuple[str, str, str]


def set_store(data: HeteroData, key: str | EdgeType, values: dict[str, Any]) -> None:
    """Set the store of a node or edge type to these attributes, replacing the store there was."""
    if isinstance(key, str):
        store, stores = NodeStorage.__new__(NodeStorage), data._node_store_dict
    else:
        store, stores = EdgeStorage.__new__(EdgeStorage), data._edge_store_dict
    store.__dict__.update(_mapping=values, _key=key, _parent=weakref.ref(data))
    stores[key] = store


def store_values(data: HeteroData, key: str | EdgeType) -> dict[str, Any]:
    """Return the attributes of a node or edge type's store by name; not to be changed.

    Raises:
        KeyError: when the graph has no such store.
    """
    stores = data._node_store_dict if isinstance(key, str) else data._edge_store_dict
    values: dict[str, Any] = stores[key]._mapping
    return values


def num_nodes(data: HeteroData, node_type: str) -> int:
    """Return ``data[node_type].num_nodes`` of a pair's graph, at a fraction of its cost."""
    count: int = data._node_store_dict[node_type]._mapping["num_nodes"]
    return count


def graph_values(data: HeteroData) -> dict[str, Any]:
    """Return what the graph holds besides node and edge stores: its ``pair``, or plain values in its place."""
    values: dict[str, Any] = data._global_store._mapping
    return values


def set_pair(data: HeteroData, pair: Pair) -> None:
    """Set ``data.pair``."""
    data._global_store._mapping["pair"] = pair


def pair_of(data: HeteroData) -> Pair:
    """Return the pair of one post's graph, ``data.pair``, or the one that its plain values stand for.

    Raises:
        KeyError: when the graph has neither.
    """
    values = data._global_store._mapping
    try:
        pair: Pair = values["pair"]
    except KeyError:
        return pair_from_plain(values)
    return pair


def with_plain_pair(data: HeteroData) -> HeteroData:
    """Return one post's graph with ``id``, ``words``, ``labels`` and ``evidence`` in the place of ``pair``.

    Such a graph holds tensors, text and lists of text alone: ``HeteroData.to_dict`` of it is what `torch.load` reads
    with its safe default (``weights_only=True``). Models take it as it is; `pair_of` gives its pair. See
    `mnergraph.graph.plain_pairs.plain_values`.

    Raises:
        KeyError: when the graph has no pair.
    """
    values = dict(graph_values(data))
    if "pair" not in values and "words" in values:
        return data
    plain = plain_values(values.pop("pair"))
    return _with_graph_values(data, {**plain, **values})


def with_pair(data: HeteroData | Batch) -> HeteroData | Batch:
    """Return a graph, or a batch, with ``pair`` in the place of plain values; any other as it is.

    Batches of PyG's own loader can be taken apart afterwards (`Batch.to_data_list`), also where a node type has no
    tensors.

    Raises:
        KeyError: when only some of the plain values are there.
    """
    values = graph_values(data)
    if "pair" in values or "words" not in values:
        return data
    others = {name: value for name, value in values.items() if name not in PLAIN_NAMES}
    if not isinstance(data, Batch):
        return _with_graph_values(data, {"pair": pair_from_plain(values), **others})
    rows = zip(*(values[name] for name in PLAIN_NAMES), strict=True)
    pairs = [pair_from_plain(dict(zip(PLAIN_NAMES, row, strict=True))) for row in rows]
    return _with_graph_values(data, {"pair": pairs, **others})


def _with_graph_values(data: HeteroData, values: dict[str, Any]) -> HeteroData:
    """Return a copy whose attributes besides its stores are these, each with one value per graph in a batch."""
    copied = copy.copy(data)
    copied._global_store.__dict__["_mapping"] = values
    if isinstance(data, Batch):
        stores = (*data._node_store_dict, *data._edge_store_dict)
        for name, of_value in (("_slice_dict", torch.arange(data.num_graphs + 1)), ("_inc_dict", None)):
            known = getattr(data, name)
            of_stores = {key: known.get(key, {}) for key in stores}
            setattr(copied, name, of_stores | {key: known.get(key, of_value) for key in values})
    return copied


def collate(graphs: Sequence[HeteroData]) -> Batch:
    """Return a batch of graphs, equal to ``Batch.from_data_list(graphs)``.

    Raises:
        ValueError: for no graphs, or graphs with different stores or attributes.
    """
    if not graphs:
        raise ValueError("a batch needs at least one graph")
    batch = Batch(_base_cls=HeteroData)
    slices: dict[Any, Any] = {}
    shifts: dict[Any, Any] = {}
    counts: dict[str, list[int]] = {}
    first = graphs[0]
    _check_same_types(graphs, first)
    for store in first.node_stores:
        counts[store._key] = _collate_nodes(graphs, store, batch, slices, shifts)
    ptr = {node_type: batch[node_type].ptr for node_type in counts}
    for store in first.edge_stores:
        _collate_edges(graphs, store, batch, ptr, slices, shifts)
    for key in first._global_store:
        batch._global_store[key] = [graph._global_store[key] for graph in graphs]
        slices[key], shifts[key] = torch.arange(len(graphs) + 1), None
    batch._num_graphs = len(graphs)
    batch._slice_dict, batch._inc_dict = slices, shifts
    return batch


def _collate_nodes(
    graphs: Sequence[HeteroData], store: NodeStorage, batch: Batch, slices: dict, shifts: dict
) -> list[int]:
    node_type = store._key
    stores = _matching_stores(graphs, store)
    counts = [s["num_nodes"] for s in stores]
    ptr = _ptr_of(counts)
    values: dict[str, Any] = {}
    for key in store._mapping:
        values[key] = sum(counts) if key == "num_nodes" else torch.cat([s[key] for s in stores])
    tensors = values.keys() - {"num_nodes"}
    slices[node_type], shifts[node_type] = dict.fromkeys(tensors, ptr), dict.fromkeys(tensors)
    values["batch"] = torch.from_numpy(np.repeat(np.arange(len(graphs)), counts))
    values["ptr"] = ptr
    set_store(batch, node_type, values)
    # num_nodes is not sliced: this is where PyG looks when it takes a batch apart
    batch._node_store_dict[node_type].__dict__["_num_nodes"] = counts
    return counts


def _collate_edges(
    graphs: Sequence[HeteroData], store: EdgeStorage, batch: Batch, ptr: dict, slices: dict, shifts: dict
) -> None:
    key = store._key
    stores = _matching_stores(graphs, store)
    counts = [s["edge_index"].shape[1] for s in stores]
    edge_ptr = _ptr_of(counts)
    values = {
        name: torch.cat([s[name] for s in stores], dim=1 if name == "edge_index" else 0) for name in store._mapping
    }
    start = np.stack([ptr[key[0]].numpy()[:-1], ptr[key[2]].numpy()[:-1]])
    values["edge_index"] += torch.from_numpy(np.repeat(start, counts, axis=1))
    slices[key], shifts[key] = dict.fromkeys(values, edge_ptr), dict.fromkeys(values)
    shifts[key]["edge_index"] = torch.from_numpy(start).t()[..., None]
    set_store(batch, key, values)


def _ptr_of(counts: list[int]) -> Tensor:
    """Return the cumulative counts from 0, ``[counts + 1]``."""
    return torch.from_numpy(np.concatenate([_ZERO, np.cumsum(counts)]))


_ZERO = np.zeros(1, dtype=np.int64)


class JoinedGraphs:
    """Graphs joined as PyG's `InMemoryDataset` keeps them; each is taken out at a fraction of PyG's cost.

    Args:
        data: all graphs as one, without shifted edges.
        slices: where the graphs begin in every attribute, by store and attribute.
    """

    def __init__(self, data: HeteroData, slices: Mapping[Any, Any]) -> None:
        self.data, self.slices = data, slices
        self._is_plain = True
        self._stores = [
            (store._key, self._columns(store), store.__dict__.get("_num_nodes"))
            for store in (data._global_store, *data.node_stores, *data.edge_stores)
        ]

    def _columns(self, store: BaseStorage) -> list[tuple[str, Any, list[int], int | None]]:
        """Return name, values, and for tensors where graphs begin and in which dimension, of every attribute."""
        known = self.slices if store._key is None else self.slices[store._key]
        columns: list[tuple[str, Any, list[int], int | None]] = []
        for name, value in store._mapping.items():
            if name == "num_nodes" or name not in known:
                continue
            slices, dim = known[name], self.data.__cat_dim__(name, value, store)
            if not isinstance(slices, Tensor) or slices.dim() != 1:
                self._is_plain = False
            elif isinstance(value, list):
                columns.append((name, value, [], None))
            elif type(value) is Tensor and isinstance(dim, int):
                columns.append((name, value, slices.tolist(), dim))
            else:
                self._is_plain = False
        return columns

    def __getitem__(self, index: int) -> HeteroData:
        """Return a graph, whose tensors are rows of those of all graphs."""
        if not self._is_plain:
            return separate(HeteroData, self.data, index, self.slices, decrement=False)
        graph = HeteroData()
        for key, columns, counts in self._stores:
            values: dict[str, Any] = {}
            for name, value, begins, dim in columns:
                if dim is None:
                    values[name] = value[index]
                else:
                    values[name] = value.narrow(dim, begins[index], begins[index + 1] - begins[index])
            if counts is not None:
                values["num_nodes"] = counts[index]
            if key is None:
                graph._global_store.__dict__["_mapping"] = values
            else:
                set_store(graph, key, values)
        return graph


def check_same_stores(graphs: Sequence[HeteroData]) -> None:
    """Check that graphs have the same node types, relations and attributes.

    Raises:
        ValueError: for one that differs from the first, naming its post.
    """
    for first in graphs[:1]:
        _check_same_types(graphs, first)
        for store in (*first.node_stores, *first.edge_stores):
            _matching_stores(graphs, store)


def _check_same_types(graphs: Sequence[HeteroData], first: HeteroData) -> None:
    """Raise an error that names the first post with a node or edge type that the first graph lacks."""
    nodes, edges = first._node_store_dict.keys(), first._edge_store_dict.keys()
    for graph in graphs:
        if graph._node_store_dict.keys() == nodes and graph._edge_store_dict.keys() == edges:
            continue
        others = [*(graph._node_store_dict.keys() - nodes), *(graph._edge_store_dict.keys() - edges)]
        if others:
            raise ValueError(
                f"post {pair_of(graph).id!r} holds {', '.join(sorted(map(str, others)))}, which the batch's "
                "first post lacks; graphs of one batch come from one builder"
            )


def _matching_stores(graphs: Sequence[HeteroData], reference: BaseStorage) -> list[dict[str, Any]]:
    """Return every graph's attributes of the store, checked to have the names of ``reference``."""
    key = reference._key
    attribute = "_edge_store_dict" if isinstance(key, tuple) else "_node_store_dict"
    expected = reference._mapping.keys()
    stores = []
    for graph in graphs:
        store = graph.__dict__[attribute].get(key)
        if store is None or store._mapping.keys() != expected:
            attributes = "nothing" if store is None else ", ".join(store.keys())
            raise ValueError(
                f"post {pair_of(graph).id!r} holds {attributes} for {key}, the batch's first post "
                f"{', '.join(expected)}; graphs of one batch come from one builder"
            )
        stores.append(store._mapping)
    return stores


def layouts(batch: Batch) -> dict[str, Layout]:
    """Return the layout of every node type of a batch."""
    return {store._key: Layout(store.ptr) for store in batch.node_stores}
