"""Many graphs to one batch: the same HeteroDataBatch that PyG makes, without its cost per graph.

PyG's collate takes node and edge types from the first graph: a type missing there is dropped, one missing
later puts edges on the wrong sentence, both silently. Here every graph must hold the same stores with the
same attributes, as all graphs of one builder do, or the post that differs is named.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Batch, HeteroData
from torch_geometric.data.storage import BaseStorage, EdgeStorage, NodeStorage

from mnergraph.graph.layout import Layout


def collate(graphs: Sequence[HeteroData]) -> Batch:
    """A batch of graphs, equal to ``Batch.from_data_list(graphs)``.

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
    _refuse_others(graphs, first)
    for store in first.node_stores:
        counts[store._key] = _collate_nodes(graphs, store, batch[store._key], slices, shifts)
    ptr = {kind: batch[kind].ptr for kind in counts}
    for store in first.edge_stores:
        _collate_edges(graphs, store, batch[store._key], ptr, slices, shifts)
    for key in first._global_store:
        batch._global_store[key] = [graph._global_store[key] for graph in graphs]
        slices[key], shifts[key] = torch.arange(len(graphs) + 1), None
    batch._num_graphs = len(graphs)
    batch._slice_dict, batch._inc_dict = slices, shifts
    return batch


def _collate_nodes(
    graphs: Sequence[HeteroData], store: NodeStorage, out: NodeStorage, slices: dict, shifts: dict
) -> list[int]:
    kind = store._key
    stores = _alike(graphs, store)
    counts = [s["num_nodes"] for s in stores]
    ptr = _running(counts)
    slices[kind], shifts[kind] = {}, {}
    for key in store:
        if key == "num_nodes":
            # not sliced: `_num_nodes` is where PyG looks when it takes a batch apart
            out.num_nodes, out._num_nodes = sum(counts), counts
            continue
        out[key] = torch.cat([s[key] for s in stores])
        slices[kind][key], shifts[kind][key] = ptr, None
    out.batch = torch.arange(len(graphs)).repeat_interleave(torch.tensor(counts), output_size=sum(counts))
    out.ptr = ptr
    return counts


def _collate_edges(
    graphs: Sequence[HeteroData], store: EdgeStorage, out: EdgeStorage, ptr: dict, slices: dict, shifts: dict
) -> None:
    key = store._key
    stores = _alike(graphs, store)
    counts = [s["edge_index"].shape[1] for s in stores]
    slices[key], shifts[key] = {}, {}
    edge_ptr = _running(counts)
    for name in store:
        values = torch.cat([s[name] for s in stores], dim=-1 if name == "edge_index" else 0)
        slices[key][name], shifts[key][name] = edge_ptr, None
        if name == "edge_index":
            start = torch.stack([ptr[key[0]][:-1], ptr[key[2]][:-1]])
            values += start.repeat_interleave(torch.tensor(counts), dim=1, output_size=sum(counts))
            shifts[key][name] = start.t()[..., None]
        out[name] = values


def _running(counts: list[int]) -> Tensor:
    ptr = torch.zeros(len(counts) + 1, dtype=torch.long)
    ptr[1:] = torch.tensor(counts).cumsum(0)
    return ptr


def _refuse_others(graphs: Sequence[HeteroData], first: HeteroData) -> None:
    """An error that names the post with a node or edge type that the first graph lacks."""
    nodes, edges = first._node_store_dict.keys(), first._edge_store_dict.keys()
    for graph in graphs:
        others = [*(graph._node_store_dict.keys() - nodes), *(graph._edge_store_dict.keys() - edges)]
        if others:
            raise ValueError(
                f"post {graph.pair.id!r} holds {', '.join(sorted(map(str, others)))}, which the batch's "
                "first post lacks; graphs of one batch come from one builder"
            )


def _alike(graphs: Sequence[HeteroData], like: BaseStorage) -> list[BaseStorage]:
    """The store of this type in every graph; an error that names the post whose store differs."""
    kind = like._key
    of_type = "_edge_store_dict" if isinstance(kind, tuple) else "_node_store_dict"
    wanted = like._mapping.keys()
    stores = []
    for graph in graphs:
        store = getattr(graph, of_type).get(kind)
        if store is None or store._mapping.keys() != wanted:
            held = "nothing" if store is None else ", ".join(store.keys())
            raise ValueError(
                f"post {graph.pair.id!r} holds {held} for {kind}, the batch's first post "
                f"{', '.join(wanted)}; graphs of one batch come from one builder"
            )
        stores.append(store)
    return stores


def layouts(batch: Batch) -> dict[str, Layout]:
    """The layout of every node type of a batch."""
    return {store._key: Layout(store.ptr) for store in batch.node_stores}
