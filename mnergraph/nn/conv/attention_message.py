"""Attention and feed-forward layers without residuals: the message alone, without the node that receives it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mnergraph.graph.layout import Edges
from mnergraph.nn.conv.attention import RelationAttention


class AttentionMessage(nn.Module):
    """Message of a transformer layer without its residuals, so that it holds the source nodes alone (OCSGA).

    V = LN(dropout(MHA(Q, K, V))),  out = LN(dropout(W_2 f(W_1 V + b_1) + b_2));  Q from the target nodes, K and V from
    the source nodes

    The target nodes decide by their queries what is in the message; their features are not. A target node without
    incoming edges gets zeros, not the biases of the two norms.

    Args:
        hidden_size: features of source and target nodes.
        num_heads: number of attention heads.
        intermediate_size: features of the feed-forward's hidden layer; by default ``4 * hidden_size``.
        dropout: dropout rate of the attention weights and of the inputs of both norms.
        activation: f.

    Raises:
        ValueError: when the heads do not divide the hidden size.
    """

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        *,
        intermediate_size: int | None = None,
        dropout: float = 0.0,
        activation: Callable[[Tensor], Tensor] = torch.relu,
    ) -> None:
        super().__init__()
        self.attention = RelationAttention(hidden_size, num_heads, dropout=dropout)
        intermediate_size = intermediate_size or 4 * hidden_size
        self.inner, self.outer = nn.Linear(hidden_size, intermediate_size), nn.Linear(intermediate_size, hidden_size)
        self.attention_norm, self.norm = nn.LayerNorm(hidden_size), nn.LayerNorm(hidden_size)
        self.activation, self.dropout = activation, nn.Dropout(dropout)

    def forward(self, x_src: Tensor, x_dst: Tensor, edges: Edges) -> Tensor:
        """``[src nodes, hidden_size]``, ``[dst nodes, hidden_size]`` -> ``[dst nodes, hidden_size]``."""
        message = self.attention_norm(self.dropout(self.attention(x_src, x_dst, edges)))
        message = self.norm(self.dropout(self.outer(self.activation(self.inner(message)))))
        return message * edges.dst.to_flat(edges.has_incoming)[:, None]
