"""Entities as nodes: spans decoded from labels, nodes and edges created from them, features pooled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mnergraph.graph.collate import EdgeType
from mnergraph.graph.layout import Edges, Layout
from mnergraph.nn.conv.pooling import SpanPooling
from mnergraph.nn.layers.node_types import Creation
from mnergraph.nn.state import GraphState


class SpanDecoder(nn.Module):
    """The spans that B, I and O labels mark, as `mnergraph.labels.tags_to_spans`: an I after O begins a span.

    Args:
        labels: the labels' names, in order; B, I and O among them.
    """

    is_begin: Tensor
    is_inside: Tensor

    def __init__(self, labels: Sequence[str]) -> None:
        super().__init__()
        for name, prefixes in (("is_begin", "B"), ("is_inside", "BI")):
            flags = torch.tensor([label in tuple(prefixes) for label in labels], dtype=torch.bool)
            self.register_buffer(name, flags, persistent=False)

    def forward(self, labels: Tensor, tokens: Layout) -> tuple[Tensor, Tensor, Layout]:
        """``[tokens]`` -> rows of tokens in spans, their spans (``[tokens in spans]`` each), the spans' layout."""
        inside = self.is_inside[labels]
        # whether the previous token of the same post is inside a span
        previous_inside = F.pad(inside[:-1], (1, 0)) & (tokens.position > 0)
        begins = inside & (self.is_begin[labels] | ~previous_inside)
        # number of spans that begin before each token, [tokens + 1]
        num_begun = F.pad(begins.cumsum(0), (1, 0))
        token = inside.nonzero()[:, 0]
        return token, num_begun[token + 1] - 1, Layout(num_begun[tokens.ptr])


class EntityNodes(nn.Module):
    """Create an ``entity`` node for every span that the labels mark (GEI, sections 2.1 and 2.3).

    E_n = max over the tokens i of span n of x_i, elementwise

    The new nodes replace all ``entity`` nodes of the graph. Edges of ``membership`` join each entity and the tokens of
    its span; fully connected relations are adapted.

    Args:
        labels: the labels' names, in order; B, I and O among them.
        membership: relations between ``entity`` and ``token``, in either direction.
        in_key: name of the tokens' labels, ``[tokens]``.

    Attributes:
        creates: how the nodes come about.

    Raises:
        ValueError: for relations between other node types.
    """

    creates: ClassVar[dict[str, Creation]] = {"entity": Creation(("token",), "pooled per span")}

    def __init__(self, labels: Sequence[str], membership: Sequence[EdgeType], *, in_key: str) -> None:
        super().__init__()
        for key in membership:
            if {key[0], key[2]} != {"entity", "token"}:
                raise ValueError(f"membership relations are between entity and token, not {key}")
        self.spans, self.membership, self.in_key = SpanDecoder(labels), tuple(membership), in_key
        self.pool = SpanPooling("max")

    def forward(self, graph: GraphState) -> GraphState:
        """Return the graph with the new ``entity`` nodes, ``[entities, hidden_size]``, and their edges."""
        tokens = graph.layouts["token"]
        token, entity, entities = self.spans(graph.x[self.in_key], tokens)
        to_entity = Edges(tokens, entities, torch.stack([token, entity]))
        to_token = Edges(entities, tokens, torch.stack([entity, token]))
        x = graph.x["token"]
        x = self.pool(x, x.new_zeros(entities.num_nodes, x.shape[-1]), to_entity)
        edges = {key: to_entity if key[0] == "token" else to_token for key in self.membership}
        return graph.replace_nodes("entity", x, entities, edges)


class EntityEdges(nn.Module):
    """Connect nodes of a type to the tokens that lie in an entity, and to no others (GEI without entity nodes).

    Args:
        labels: the labels' names, in order; B, I and O among them.
        relations: between ``token`` and another node type, in either direction.
        in_key: name of the tokens' labels, ``[tokens]``.

    Raises:
        ValueError: for a relation with no or two ends of type ``token``.
    """

    def __init__(self, labels: Sequence[str], relations: Sequence[EdgeType], *, in_key: str) -> None:
        super().__init__()
        for key in relations:
            if (key[0], key[2]).count("token") != 1:
                raise ValueError(f"relations are between token and another node type, not {key}")
        self.spans, self.relations, self.in_key = SpanDecoder(labels), tuple(relations), in_key

    def forward(self, graph: GraphState) -> GraphState:
        """Return the graph with the new edges of ``relations``."""
        inside = self.spans.is_inside[graph.x[self.in_key]]
        edges = {}
        for key in self.relations:
            ends = graph.layouts[key[0]], graph.layouts[key[2]]
            index = Edges(*ends).index
            tokens = index[0 if key[0] == "token" else 1]
            edges[key] = Edges(*ends, index[:, inside[tokens]])
        return graph.with_edges(edges)
