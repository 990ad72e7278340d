"""Features of nodes as their store has them, without a map."""

from __future__ import annotations

from torch import nn

from mnergraph.nn.state import GraphState


class StoredFeatures(nn.Module):
    """Features ``x`` of a node type's store under a name, for layers and heads that have a map of their own.

    Args:
        node_type: the node type, whose store has ``x``, such as ``"image"``.
        out_key: name of the features.
    """

    def __init__(self, node_type: str, *, out_key: str) -> None:
        super().__init__()
        self.node_type, self.out_key = node_type, out_key

    def forward(self, graph: GraphState) -> GraphState:
        """Return the graph with the features under ``out_key``, ``[nodes, features]``."""
        return graph.with_features(self.out_key, graph.data[self.node_type].x, nodes_of=self.node_type)
