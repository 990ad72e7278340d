"""Multi-head attention along one relation, dense or sparse, with one set of parameters."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch_geometric.utils import softmax

from mnergraph.graph.layout import Edges

#: Density from which dense weights are computed; on a CPU both take the same time at 0.05 to 0.1.
DENSE_ABOVE = 0.1


class AttentionWeights(nn.Module):
    """The weights of dot-product attention. Has no parameters; a module of its own so that the weights can be hooked.

    alpha_ij = softmax over the source nodes j of target node i of  q_i . k_j / sqrt(head_size)
    """

    def forward(self, query: Tensor, key: Tensor, edges: Edges, dense: bool) -> Tensor:
        """Return the weights of one relation.

        Args:
            query: ``[dst nodes, heads, head_size]``.
            key: ``[src nodes, heads, head_size]``.
            edges: the relation's edges.
            dense: whether to compute dense weights.

        Returns:
            dense ``[graphs, heads, max dst nodes, max src nodes]``, undefined for target nodes without incoming edges;
            sparse ``[edges, heads]``.
        """
        query = query * query.shape[-1] ** -0.5
        if not dense:
            src, dst = edges.index
            return masked_softmax((query[dst] * key[src]).sum(-1), edges, dense)
        # [graphs, heads, dst, head_size] @ [graphs, heads, head_size, src]
        return masked_softmax(
            edges.dst.to_dense(query).transpose(1, 2) @ edges.src.to_dense(key).permute(0, 2, 3, 1), edges, dense
        )


class AttentionShare(nn.Module):
    """The weights of one relation's edges in a softmax that runs over further keys, too, such as in a text encoder.

    It computes nothing but passes its first argument on, so that `record_attention` finds weights and edges here. They
    sum to less than 1 over the source nodes of a target node.
    """

    @property
    def is_recorded(self) -> bool:
        """Whether anything records the output: only then are weights computed."""
        return bool(self._forward_hooks)

    def forward(self, weights: Tensor, edges: Edges) -> Tensor:
        """Return the weights, ``[edges, heads]``, as they are given."""
        return weights


def masked_softmax(scores: Tensor, edges: Edges, dense: bool) -> Tensor:
    """Return the softmax over the source nodes of every target node.

    Args:
        scores: in the form of the weights that `AttentionWeights` returns.
        edges: the relation's edges.
        dense: whether the scores are dense.
    """
    if not dense:
        return softmax(scores, edges.index[1], num_nodes=edges.dst.num_nodes)
    if edges.complete and edges.src.is_dense:  # nothing is padded but target nodes, whose rows are undefined
        return scores.softmax(-1)
    no_edge = ~edges.mask[:, None]
    return scores.masked_fill(no_edge, torch.finfo(scores.dtype).min).softmax(-1)


def aggregate(weights: Tensor, value: Tensor, edges: Edges, dense: bool) -> Tensor:
    """Return the weighted sum over the source nodes of every target node; zeros without incoming edges.

    Args:
        weights: as `AttentionWeights` returns them.
        value: ``[src nodes, heads, head_size]``.
        edges: the relation's edges.
        dense: whether the weights are dense.

    Returns:
        ``[dst nodes, heads, head_size]``.
    """
    if not dense:
        src, dst = edges.index
        zeros = value.new_zeros(edges.dst.num_nodes, *value.shape[1:])
        return zeros.index_add(0, dst, weights[..., None] * value[src])
    # [graphs, heads, dst, src] @ [graphs, heads, src, head_size]
    messages = (weights @ edges.src.to_dense(value).transpose(1, 2)).transpose(1, 2)
    return edges.dst.to_flat(messages if edges.reaches_all else messages * edges.has_incoming[:, :, None, None])


class RelationAttention(nn.Module):
    """Scaled dot-product attention with several heads (Vaswani et al., 2017, section 3.2).

    out_i = W_o [sum over j of alpha_ij^h W_v^h x_j]_h;  zeros before W_o for a target node without incoming edges.

    Args:
        hidden_size: features of source and target nodes.
        num_heads: number of heads; divides ``hidden_size``.
        dropout: dropout rate of the attention weights.
        value: whether there is a value projection W_v; UMGF's released code has none over objects.
        output: whether there is an output projection W_o.

    Raises:
        ValueError: when the heads do not divide the hidden size.
    """

    def __init__(
        self, hidden_size: int, num_heads: int, *, dropout: float = 0.0, value: bool = True, output: bool = True
    ) -> None:
        super().__init__()
        if hidden_size % num_heads:
            fitting = next(heads for heads in range(min(num_heads, hidden_size), 0, -1) if hidden_size % heads == 0)
            raise ValueError(
                f"{num_heads} heads do not divide a hidden size of {hidden_size}; give num_heads={fitting} "
                f"(--model.num_heads {fitting})"
            )
        self.num_heads = num_heads
        self.query, self.key = nn.Linear(hidden_size, hidden_size), nn.Linear(hidden_size, hidden_size)
        self.value = nn.Linear(hidden_size, hidden_size) if value else nn.Identity()
        self.output = nn.Linear(hidden_size, hidden_size) if output else nn.Identity()
        self.weights = AttentionWeights()
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_src: Tensor, x_dst: Tensor, edges: Edges) -> Tensor:
        """``[src nodes, hidden_size]``, ``[dst nodes, hidden_size]`` -> ``[dst nodes, hidden_size]``."""
        heads = (self.num_heads, x_dst.shape[-1] // self.num_heads)
        # [nodes, heads, head_size]
        query, key = self.query(x_dst).unflatten(-1, heads), self.key(x_src).unflatten(-1, heads)
        value = self.value(x_src).unflatten(-1, heads).to(query.dtype)
        dense = edges.is_dense(DENSE_ABOVE)
        weights = self.dropout(self.weights(query, key, edges, dense)).to(value.dtype)
        return self.output(aggregate(weights, value, edges, dense).flatten(1))
