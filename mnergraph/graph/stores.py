"""Stores of a HeteroData, filled at once.

The time of a small graph is PyG's attribute access: setting an attribute of a store costs more than
making its tensor. Here a store is made with its attributes in one go, exactly as PyG would hold
them; a test compares the two.
"""

from __future__ import annotations

import weakref
from typing import Any

from torch_geometric.data import HeteroData
from torch_geometric.data.storage import EdgeStorage, NodeStorage

#: Source node type, name, target node type.
EdgeType = tuple[str, str, str]


def fill(data: HeteroData, kind: str | EdgeType, values: dict[str, Any]) -> None:
    """Gives the graph a new store of this node or edge type that holds these attributes."""
    if isinstance(kind, str):
        store, stores = NodeStorage.__new__(NodeStorage), data._node_store_dict
    else:
        store, stores = EdgeStorage.__new__(EdgeStorage), data._edge_store_dict
    store.__dict__.update(_mapping=values, _key=kind, _parent=weakref.ref(data))
    stores[kind] = store


def count(data: HeteroData, kind: str) -> int:
    """How many nodes of this type the graph of a post holds: ``data[kind].num_nodes``, without its cost."""
    return data._node_store_dict[kind]._mapping["num_nodes"]
