"""Stores of a HeteroData and batches of graphs, through PyG's private attributes: the only file that uses them.

Most of the time of a small graph is PyG's attribute access: setting an attribute of a store costs more than making
its tensor. Here a store is set with all its attributes at once, exactly as PyG holds them; a test compares the two.

`collate` makes the same HeteroDataBatch as PyG. PyG's own takes node and edge types from the first graph: a type
missing there is dropped, and one missing later puts edges on the wrong sentence, both silently. Here every graph must
have the same stores with the same attributes, as all graphs of one builder do, or the post that differs is named.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Batch, HeteroData
from torch_geometric.data.storage import BaseStorage, EdgeStorage, NodeStorage

from mnergraph.graph.layout import Layout
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
    """Return what the graph holds besides node and edge stores: its ``pair``."""
    values: dict[str, Any] = data._global_store._mapping
    return values


def set_pair(data: HeteroData, pair: Pair) -> None:
    """Set ``data.pair``."""
    data._global_store._mapping["pair"] = pair


def pair_of(data: HeteroData) -> Pair:
    """Return ``data.pair``, at a fraction of its cost."""
    pair: Pair = data._global_store._mapping["pair"]
    return pair


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


def _check_same_types(graphs: Sequence[HeteroData], first: HeteroData) -> None:
    """Raise an error that names the first post with a node or edge type that the first graph lacks."""
    nodes, edges = first._node_store_dict.keys(), first._edge_store_dict.keys()
    for graph in graphs:
        if graph._node_store_dict.keys() == nodes and graph._edge_store_dict.keys() == edges:
            continue
        others = [*(graph._node_store_dict.keys() - nodes), *(graph._edge_store_dict.keys() - edges)]
        if others:
            raise ValueError(
                f"post {graph.pair.id!r} holds {', '.join(sorted(map(str, others)))}, which the batch's "
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
                f"post {graph.pair.id!r} holds {attributes} for {key}, the batch's first post "
                f"{', '.join(expected)}; graphs of one batch come from one builder"
            )
        stores.append(store._mapping)
    return stores


def layouts(batch: Batch) -> dict[str, Layout]:
    """Return the layout of every node type of a batch."""
    return {store._key: Layout(store.ptr) for store in batch.node_stores}
