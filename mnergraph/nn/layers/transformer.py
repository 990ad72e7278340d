"""The transformer layer along any relation, and the path there and back that the papers build of it."""

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

    P = LN(Q + MHA(Q, K, V)),  out = LN(P + FFN(P));  Q the receivers, K and V the senders

    Along (token, token) it is self-attention, along (image, token) words query the picture. A receiver that
    hears nobody keeps itself, but for the attention's bias, the norms and the feed-forward.

    Args:
        relation: whose senders and receivers these are; the graph's schema must hold it.
        hidden_size: of both.
        num_heads: of the attention.
        intermediate_size: inside the feed-forward; by default 4 times the width.
        dropout: of attention weights and of both residuals.
        activation: inside the feed-forward; BERT's layers have a GELU.
        eps: of the norms; BERT's layers have 1e-12.
        dst_key: name of the receivers' features; by default their node type.
        src_key: name of the senders' features; by default their node type.
        out_key: under which name the result is kept; by default the receivers' own.
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
        if self.relation not in graph.edges:
            raise KeyError(f"{self.relation} is not in the graph, which has {', '.join(map(str, graph.edges))}")
        dst, src = graph.x[self.dst_key], graph.x[self.src_key]
        attended = self.residual(dst, self.attention(src, dst, graph.edges[self.relation]))
        return graph.with_features(self.out_key, self.feed_forward(attended), nodes_of=self.relation[2])


@dataclass(frozen=True)
class TransformerConfig:
    """What all transformer layers of a model have in common; makes them.

    Args:
        hidden_size: of all nodes.
        num_heads: of the attentions.
        intermediate_size: inside the feed-forwards; by default 4 times the width.
        dropout: of attention weights and residuals.
        activation: inside the feed-forwards; BERT's layers have a GELU.
        eps: of the norms; BERT's layers have 1e-12.
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
        """A layer along this relation; names as for `TransformerLayer`."""
        return TransformerLayer(relation, **vars(self), dst_key=dst_key, src_key=src_key, out_key=out_key)


class CoAttention(nn.Sequential):
    """The words go to another modality and come back with it (UMT, eqs. 1-2; MGCMT, section 3.3.1).

    P = transformer (other queries words),  out = transformer (words query P)

    Args:
        there: relation from the words to the other modality.
        back: relation from the other modality to the words.
        transformers: makes both layers.
        words_key: name of the words' features; by default their node type.
        other_key: name of the other modality's features; by default its node type.
        out_key: under which name the result is kept; what the other modality heard is kept as ``out + " there"``.

    Raises:
        ValueError: when the second relation does not lead back where the first comes from.
    """

    def __init__(
        self,
        there: EdgeType,
        back: EdgeType,
        transformers: TransformerConfig,
        *,
        words_key: str | None = None,
        other_key: str | None = None,
        out_key: str,
    ) -> None:
        if (there[0], there[2]) != (back[2], back[0]):
            raise ValueError(f"{back} does not lead back where {there} comes from")
        reached = f"{out_key} there"
        super().__init__(
            transformers.layer(there, dst_key=other_key, src_key=words_key, out_key=reached),
            transformers.layer(back, dst_key=words_key, src_key=reached, out_key=out_key),
        )


def relations_used(layers: Iterable[nn.Module]) -> set[EdgeType]:
    """The edge types that these layers use: those that a schema for them needs."""
    modules = (module for layer in layers for module in layer.modules())
    return {key for module in modules for key in getattr(module, "relations", ())}
