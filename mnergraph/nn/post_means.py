"""Means over the nodes of every post, for layers and heads that compute something of a whole post."""

from __future__ import annotations

from torch import Tensor

from mnergraph.graph.layout import Layout
from mnergraph.nn.conv.pooling import segment_sum
from mnergraph.nn.state import GraphState


def post_means(graph: GraphState, key: str) -> Tensor:
    """Return the mean of node features of every post, ``[posts, features]``, zeros for a post without such nodes.

    Args:
        graph: the graph.
        key: name of the features.

    Raises:
        KeyError: for features whose node type no layer declared.
    """
    layout = layout_of(graph, key)
    return segment_sum(graph.x[key], layout.graph_index, layout.num_graphs, mean=True)


def layout_of(graph: GraphState, key: str) -> Layout:
    """Return the layout of the nodes that features belong to.

    Raises:
        KeyError: for features whose node type no layer declared.
    """
    node_type = graph.node_type_of(key)
    if node_type is None:
        raise KeyError(f"no layer declared which nodes {key!r} are features of; write them by GraphState.with_features")
    return graph.layouts[node_type]
