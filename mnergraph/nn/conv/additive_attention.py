"""Additive attention along any relation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mnergraph.graph.layout import Edges
from mnergraph.nn.conv.attention import DENSE_ABOVE, aggregate, masked_softmax


class AdditiveWeights(nn.Module):
    """The weights of additive attention, and nothing learned: hooked as `AttentionWeights` are, of one head.

    alpha_ij = softmax over the senders j that receiver i hears of  w . tanh(q_i + k_j)
    """

    def forward(
        self, query: Tensor, key: Tensor, edges: Edges, dense: bool, score: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Weights of one relation, shaped as `AttentionWeights` says.

        Args:
            query: ``[dst nodes, 1, width]``.
            key: ``[src nodes, 1, width]``.
            edges: the relation.
            dense: which reading to use.
            score: the linear map w, ``[..., width]`` to ``[..., 1]``.
        """
        if not dense:
            src, dst = edges.index
            return masked_softmax(score(torch.tanh(query[dst] + key[src]))[..., 0], edges, dense)
        # [sentences, heads, dst slots, src slots, width]
        hidden = torch.tanh(
            edges.dst.to_dense(query).transpose(1, 2)[:, :, :, None]
            + edges.src.to_dense(key).transpose(1, 2)[:, :, None]
        )
        return masked_softmax(score(hidden)[..., 0], edges, dense)


class AdditiveAttention(nn.Module):
    """Attention whose scores a hidden layer of both sides makes (Bahdanau et al., 2015, appendix A.1.2).

    out_i = sum over j of alpha_ij x_j,  alpha_ij = softmax_j w . tanh(W_q x_i + W_k x_j + b)

    The senders pass as they are; a receiver that hears nobody gets zeros.

    Args:
        hidden_size: features of the senders, and so of the result.
        attention_size: of the layer that scores.
        query_size: features of the receivers; by default as many.
    """

    def __init__(self, hidden_size: int, attention_size: int, *, query_size: int | None = None) -> None:
        super().__init__()
        self.query = nn.Linear(hidden_size if query_size is None else query_size, attention_size)
        self.key = nn.Linear(hidden_size, attention_size, bias=False)
        self.score = nn.Linear(attention_size, 1, bias=False)
        self.weights = AdditiveWeights()

    def forward(self, x_src: Tensor, x_dst: Tensor, edges: Edges) -> Tensor:
        """``[src nodes, width]``, ``[dst nodes, queries]`` -> ``[dst nodes, width]``."""
        dense = edges.is_dense(DENSE_ABOVE)
        weights = self.weights(self.query(x_dst)[:, None], self.key(x_src)[:, None], edges, dense, score=self.score)
        return aggregate(weights.to(x_src.dtype), x_src[:, None], edges, dense).flatten(1)
