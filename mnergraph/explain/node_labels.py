"""Texts by which plots, reports and networkx graphs show the nodes of node types of your own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch_geometric.data import Batch, HeteroData

from mnergraph.graph.node_types import DEFAULT_NODE_TYPES, CreatedNodes, NodeType
from mnergraph.models.base import Tagger

#: Attributes of nodes in networkx graphs that `NodeType.describe` must not return.
RESERVED = ("type", "index", "features", "mean_gate", "stands_for")


def own_node_types(model: nn.Module) -> dict[str, NodeType]:
    """Return the node types of your own that a model reads: none of this package, none created by layers."""
    if not isinstance(model, Tagger):
        return {}
    return {
        name: node_type
        for name, node_type in model.builder.node_types.items()
        if name not in DEFAULT_NODE_TYPES and not isinstance(node_type, CreatedNodes)
    }


def node_labels(batch: Batch, node_types: Mapping[str, NodeType]) -> dict[str, list[list[str]]]:
    """Return for every node type the labels of the nodes of each post; nodes without one get type and index."""
    posts = [batch.get_example(number) for number in range(batch.num_graphs)] if node_types else []
    return {
        name: [
            [
                str(node.get("label") or f"{name} {index}")
                for index, node in enumerate(checked_describe(node_type, post))
            ]
            for post in posts
        ]
        for name, node_type in node_types.items()
    }


def checked_describe(node_type: NodeType, data: HeteroData) -> list[dict[str, Any]]:
    """Return what `NodeType.describe` returns for the graph of one post.

    Raises:
        ValueError: when that is not one dict per node, or has names that networkx graphs use for other values.
    """
    described = node_type.describe(data)
    count = data[node_type.name].num_nodes
    if len(described) != count:
        raise ValueError(
            f"{type(node_type).__name__}.describe returned {len(described)} dicts for {count} {node_type.name!r} "
            "nodes; it must return one per node"
        )
    reserved = sorted({name for node in described for name in node if name in RESERVED})
    if reserved:
        raise ValueError(
            f"{type(node_type).__name__}.describe returned {', '.join(reserved)}, which networkx graphs have for every "
            "node; choose other names"
        )
    return described
