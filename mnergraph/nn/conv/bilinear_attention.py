"""Bilinear attention along one relation, with one softmax over all edges of a post."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torch_geometric.utils import softmax

from mnergraph.graph.layout import Edges
from mnergraph.nn.conv.attention import DENSE_ABOVE, aggregate


class BilinearWeights(nn.Module):
    """The weights of bilinear attention. Has no parameters; a module of its own so that the weights can be hooked.

    alpha_ij = softmax over all edges (j, i) of the post of  q_i . k_j

    The weights of a post sum to 1, those of a target node to less: it may receive almost nothing.
    """

    def forward(self, query: Tensor, key: Tensor, edges: Edges, dense: bool) -> Tensor:
        """Return the weights of one relation, in the form of `AttentionWeights`.

        Args:
            query: ``[dst nodes, heads, features]``.
            key: ``[src nodes, heads, features]``.
            edges: the relation's edges.
            dense: whether to compute dense weights, which are undefined for a post without edges.
        """
        if not dense:
            src, dst = edges.index
            post = edges.dst.graph_index[dst]
            return softmax((query[dst] * key[src]).sum(-1), post, num_nodes=edges.dst.num_graphs)
        # [graphs, heads, dst, features] @ [graphs, heads, features, src]
        scores = edges.dst.to_dense(query).transpose(1, 2) @ edges.src.to_dense(key).permute(0, 2, 3, 1)
        scores = scores.masked_fill(~edges.mask[:, None], torch.finfo(scores.dtype).min)
        return scores.flatten(2).softmax(-1).view_as(scores)


class BilinearAttention(nn.Module):
    """Low-rank bilinear attention whose softmax runs over all edges of a post (Kim et al., 2018; Object-AGBAN).

    out_i = sum over j of alpha_ij relu(W_v x_j + b_v)
    alpha = softmax over all edges (j, i) of the post of  (h * relu(W_k x_j + b_k)) . relu(W_q x_i + b_q)

    Every linear map and h are weight-normalized, each with one magnitude for the whole matrix. The bias that the
    source adds to all scores cancels in the softmax and is left out. A target node without incoming edges gets zeros;
    a post without source nodes gets zeros.

    Args:
        hidden_size: features of the target nodes, and of the result.
        src_size: features of the source nodes; by default ``hidden_size``.
        attention_size: features of the hidden layers that compute the scores; by default ``3 * hidden_size``.
        input_dropout: dropout rate of the inputs of all maps.
        dropout: dropout rate of the source nodes' hidden features in the scores.
    """

    def __init__(
        self,
        hidden_size: int,
        *,
        src_size: int | None = None,
        attention_size: int | None = None,
        input_dropout: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        src_size, attention_size = src_size or hidden_size, attention_size or 3 * hidden_size
        self.query = weight_norm(nn.Linear(hidden_size, attention_size), dim=-1)
        self.key = weight_norm(nn.Linear(src_size, attention_size), dim=-1)
        self.score = weight_norm(nn.Linear(attention_size, 1, bias=False), dim=-1)
        self.value = weight_norm(nn.Linear(src_size, hidden_size), dim=-1)
        self.input_dropout, self.dropout = nn.Dropout(input_dropout), nn.Dropout(dropout)
        self.weights = BilinearWeights()

    def forward(self, x_src: Tensor, x_dst: Tensor, edges: Edges) -> Tensor:
        """``[src nodes, src_size]``, ``[dst nodes, hidden_size]`` -> ``[dst nodes, hidden_size]``."""
        query = torch.relu(self.query(self.input_dropout(x_dst)))
        key = self.dropout(torch.relu(self.key(self.input_dropout(x_src)))) * self.score.weight
        value = torch.relu(self.value(self.input_dropout(x_src)))
        dense = edges.is_dense(DENSE_ABOVE)
        weights = self.weights(query[:, None], key[:, None].to(query.dtype), edges, dense)
        return aggregate(weights.to(value.dtype), value[:, None], edges, dense).flatten(1)
