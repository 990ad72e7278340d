"""Transformer layers along relations, and coupled ones between text and another modality."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mnergraph.graph.collate import EdgeType
from mnergraph.nn.conv.attention import RelationAttention
from mnergraph.nn.layers.hetero import AddNorm, FeedForward
from mnergraph.nn.state import GraphState


class TransformerLayer(nn.Module):
    """A transformer layer along one relation (Vaswani et al., 2017, section 3.1; UMT, eqs. 1-2).

    P = LN(Q + MHA(Q, K, V)),  out = LN(P + FFN(P));  Q from the target nodes, K and V from the source nodes

    Along (token, token) this is self-attention, along (image, token) cross-attention of the text to the image. For a
    target node without incoming edges MHA is the bias of its output projection.

    Args:
        relation: the edge type; the graph's schema must have it.
        hidden_size: features of source and target nodes.
        num_heads: number of attention heads.
        intermediate_size: features of the feed-forward's hidden layer; by default ``4 * hidden_size``.
        dropout: dropout rate of attention weights and of both residuals.
        activation: activation of the feed-forward; a GELU in BERT.
        eps: added to the variance by the layer norms; 1e-12 in BERT.
        dst_key: name of the target nodes' features; by default their node type.
        src_key: name of the source nodes' features; by default their node type.
        out_key: name of the result, features of the target nodes; by default ``dst_key``.
    """

    def __init__(
        self,
        relation: EdgeType,
        hidden_size: int,
        num_heads: int,
        *,
        intermediate_size: int | None = None,
        dropout: float = 0.0,
        activation: Callable[[Tensor], Tensor] = torch.relu,
        eps: float = 1e-5,
        dst_key: str | None = None,
        src_key: str | None = None,
        out_key: str | None = None,
    ) -> None:
        super().__init__()
        self.relation = relation
        self.src_key, self.dst_key = src_key or relation[0], dst_key or relation[2]
        self.out_key = out_key or self.dst_key
        self.attention = RelationAttention(hidden_size, num_heads, dropout=dropout)
        self.residual = AddNorm(hidden_size, dropout, eps)
        self.feed_forward = FeedForward(hidden_size, intermediate_size or 4 * hidden_size, dropout, activation, eps)

    @property
    def relations(self) -> list[EdgeType]:
        """The edge types that the layer uses."""
        return [self.relation]

    def forward(self, graph: GraphState) -> GraphState:
        """Return the graph with the result under ``out_key``, ``[dst nodes, hidden_size]``.

        Raises:
            KeyError: when the graph lacks the relation.
        """
        if self.relation not in graph.edges:
            raise KeyError(f"{self.relation} is not in the graph, which has {', '.join(map(str, graph.edges))}")
        dst, src = graph.x[self.dst_key], graph.x[self.src_key]
        attended = self.residual(dst, self.attention(src, dst, graph.edges[self.relation]))
        return graph.with_features(self.out_key, self.feed_forward(attended), nodes_of=self.relation[2])


@dataclass(frozen=True)
class TransformerConfig:
    """Settings that all transformer layers of a model share; creates the layers.

    Args:
        hidden_size: features of all nodes.
        num_heads: number of attention heads.
        intermediate_size: features of the feed-forward's hidden layer; by default ``4 * hidden_size``.
        dropout: dropout rate of attention weights and residuals.
        activation: activation of the feed-forward; a GELU in BERT.
        eps: added to the variance by the layer norms; 1e-12 in BERT.
    """

    hidden_size: int
    num_heads: int
    intermediate_size: int | None = None
    dropout: float = 0.0
    activation: Callable[[Tensor], Tensor] = torch.relu
    eps: float = 1e-5

    def layer(
        self, relation: EdgeType, *, dst_key: str | None = None, src_key: str | None = None, out_key: str | None = None
    ) -> TransformerLayer:
        """Return a layer along a relation; for the names of features see `TransformerLayer`."""
        return TransformerLayer(relation, **vars(self), dst_key=dst_key, src_key=src_key, out_key=out_key)


class CoAttention(nn.Sequential):
    """Coupled cross-modal transformer layers (UMT, eqs. 1-2; MGCMT, section 3.3.1).

    P = transformer layer with the other modality as queries and the text as keys and values
    out = transformer layer with the text as queries and P as keys and values

    Args:
        from_text: relation from the text to the other modality.
        to_text: relation from the other modality to the text.
        transformers: the settings of both layers.
        words_key: name of the text's features; by default their node type.
        other_key: name of the other modality's features; by default its node type.
        out_key: name of the result, features of the text.

    Attributes:
        intermediate_key: name of P, features of the other modality.

    Raises:
        ValueError: unless the second relation is between the same node types as the first, reversed.
    """

    def __init__(
        self,
        from_text: EdgeType,
        to_text: EdgeType,
        transformers: TransformerConfig,
        *,
        words_key: str | None = None,
        other_key: str | None = None,
        out_key: str,
    ) -> None:
        if (from_text[0], from_text[2]) != (to_text[2], to_text[0]):
            raise ValueError(f"{to_text} is not between the node types of {from_text}, reversed")
        intermediate_key = f"{out_key}_intermediate"
        super().__init__(
            transformers.layer(from_text, dst_key=other_key, src_key=words_key, out_key=intermediate_key),
            transformers.layer(to_text, dst_key=words_key, src_key=intermediate_key, out_key=out_key),
        )
        self.intermediate_key = intermediate_key


def relations_used(layers: Iterable[nn.Module]) -> set[EdgeType]:
    """Return the edge types that these layers use, which their schema needs."""
    modules = (module for layer in layers for module in layer.modules())
    return {key for module in modules for key in getattr(module, "relations", ())}
