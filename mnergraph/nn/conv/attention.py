"""Multi-head attention along any relation, dense or sparse, with one set of parameters."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch_geometric.utils import softmax

from mnergraph.graph.layout import Edges

#: Dense from this share of joined pairs on; on a CPU the two meet near 0.05 to 0.1.
DENSE_ABOVE = 0.1


class AttentionWeights(nn.Module):
    """The weights themselves, and nothing learned: what one hooks to look at attention.

    alpha_ij = softmax over the senders j that receiver i hears of  q_i . k_j / sqrt(head width)
    """

    def forward(self, query: Tensor, key: Tensor, edges: Edges, dense: bool) -> Tensor:
        """Weights of one relation.

        Args:
            query: ``[dst nodes, heads, head width]``.
            key: ``[src nodes, heads, head width]``.
            edges: the relation.
            dense: which reading to use.

        Returns:
            dense ``[sentences, heads, dst slots, src slots]``, anything where a receiver hears nobody;
            sparse ``[edges, heads]``.
        """
        query = query * query.shape[-1] ** -0.5
        if not dense:
            src, dst = edges.index
            return masked_softmax((query[dst] * key[src]).sum(-1), edges, dense)
        # [sentences, heads, dst, width] @ [sentences, heads, width, src]
        return masked_softmax(
            edges.dst.to_dense(query).transpose(1, 2) @ edges.src.to_dense(key).permute(0, 2, 3, 1), edges, dense
        )


def masked_softmax(scores: Tensor, edges: Edges, dense: bool) -> Tensor:
    """Softmax over every receiver's senders, of scores shaped as the weights of `AttentionWeights` are."""
    if not dense:
        return softmax(scores, edges.index[1], num_nodes=edges.dst.num_nodes)
    unheard = ~edges.mask[:, None]
    return scores.masked_fill(unheard, torch.finfo(scores.dtype).min).softmax(-1)


def aggregate(weights: Tensor, value: Tensor, edges: Edges, dense: bool) -> Tensor:
    """Every receiver's senders, weighted and summed; zeros for a receiver that hears nobody.

    Args:
        weights: as `AttentionWeights` returns them.
        value: ``[src nodes, heads, head width]``.
        edges: the relation.
        dense: which reading the weights are in.

    Returns:
        ``[dst nodes, heads, head width]``.
    """
    if not dense:
        senders, receivers = edges.index
        nothing = value.new_zeros(edges.dst.num_nodes, *value.shape[1:])
        return nothing.index_add(0, receivers, weights[..., None] * value[senders])
    # [sentences, heads, dst, src] @ [sentences, heads, src, head width]
    found = weights @ edges.src.to_dense(value).transpose(1, 2)
    return edges.dst.to_flat(found.transpose(1, 2) * edges.has_incoming[:, :, None, None])


class RelationAttention(nn.Module):
    """Scaled dot-product attention with several heads (Vaswani et al., 2017, section 3.2).

    out_i = W_o [sum over j of alpha_ij^h W_v^h x_j]_h;  a receiver that hears nobody gets zeros before W_o.

    Args:
        hidden_size: features of senders and receivers.
        num_heads: heads; they divide the width.
        dropout: share of the weights that is dropped in training.
        value: whether the senders pass a linear map; UMGF's released code has none over objects.
        output: whether the heads pass one.
    """

    def __init__(
        self, hidden_size: int, num_heads: int, *, dropout: float = 0.0, value: bool = True, output: bool = True
    ) -> None:
        super().__init__()
        if hidden_size % num_heads:
            raise ValueError(f"{num_heads} heads do not divide a hidden size of {hidden_size}")
        self.num_heads = num_heads
        self.query, self.key = nn.Linear(hidden_size, hidden_size), nn.Linear(hidden_size, hidden_size)
        self.value = nn.Linear(hidden_size, hidden_size) if value else nn.Identity()
        self.output = nn.Linear(hidden_size, hidden_size) if output else nn.Identity()
        self.weights = AttentionWeights()
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_src: Tensor, x_dst: Tensor, edges: Edges) -> Tensor:
        """``[src nodes, width]``, ``[dst nodes, width]`` -> ``[dst nodes, width]``."""
        split = (self.num_heads, x_dst.shape[-1] // self.num_heads)
        # [nodes, heads, head width]
        query, key = self.query(x_dst).unflatten(-1, split), self.key(x_src).unflatten(-1, split)
        value = self.value(x_src).unflatten(-1, split).to(query.dtype)
        dense = edges.is_dense(DENSE_ABOVE)
        weights = self.dropout(self.weights(query, key, edges, dense)).to(value.dtype)
        return self.output(aggregate(weights, value, edges, dense).flatten(1))
