"""Additive attention along one relation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mnergraph.graph.layout import Edges
from mnergraph.nn.conv.attention import DENSE_ABOVE, aggregate, masked_softmax


class AdditiveWeights(nn.Module):
    """The weights of additive attention. Has no parameters; a module of its own so that the weights can be hooked.

    alpha_ij = softmax over the source nodes j of target node i of  w . tanh(q_i + k_j)
    """

    def forward(
        self, query: Tensor, key: Tensor, edges: Edges, dense: bool, score: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Return the weights of one relation, of one head, in the form of `AttentionWeights`.

        Args:
            query: ``[dst nodes, 1, attention_size]``.
            key: ``[src nodes, 1, attention_size]``.
            edges: the relation's edges.
            dense: whether to compute dense weights.
            score: the linear map w, ``[..., attention_size]`` to ``[..., 1]``.
        """
        if not dense:
            src, dst = edges.index
            return masked_softmax(score(torch.tanh(query[dst] + key[src]))[..., 0], edges, dense)
        # [graphs, heads, max dst nodes, max src nodes, attention_size]
        hidden = torch.tanh(
            edges.dst.to_dense(query).transpose(1, 2)[:, :, :, None]
            + edges.src.to_dense(key).transpose(1, 2)[:, :, None]
        )
        return masked_softmax(score(hidden)[..., 0], edges, dense)


class AdditiveAttention(nn.Module):
    """Additive attention (Bahdanau et al., 2015, appendix A.1.2).

    out_i = sum over j of alpha_ij x_j,  alpha_ij = softmax_j w . tanh(W_q x_i + W_k x_j + b)

    Source nodes have no value projection. A target node without incoming edges gets zeros.

    Args:
        hidden_size: features of the source nodes, and so of the result.
        attention_size: features of the hidden layer that computes the scores.
        query_size: features of the target nodes; by default ``hidden_size``.
    """

    def __init__(self, hidden_size: int, attention_size: int, *, query_size: int | None = None) -> None:
        super().__init__()
        self.query = nn.Linear(hidden_size if query_size is None else query_size, attention_size)
        self.key = nn.Linear(hidden_size, attention_size, bias=False)
        self.score = nn.Linear(attention_size, 1, bias=False)
        self.weights = AdditiveWeights()

    def forward(self, x_src: Tensor, x_dst: Tensor, edges: Edges) -> Tensor:
        """``[src nodes, hidden_size]``, ``[dst nodes, query_size]`` -> ``[dst nodes, hidden_size]``."""
        dense = edges.is_dense(DENSE_ABOVE)
        weights = self.weights(self.query(x_dst)[:, None], self.key(x_src)[:, None], edges, dense, score=self.score)
        return aggregate(weights.to(x_src.dtype), x_src[:, None], edges, dense).flatten(1)
