"""Auxiliary heads that train a tagger on a second view of its posts: their sentences without context.

ITA's cross-view alignment (Wang et al., NAACL 2022): with them a model loses little where posts have no context.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mnergraph.graph.context import CONTEXT_PIECE, Agreement
from mnergraph.nn.conv.pooling import segment_sum
from mnergraph.nn.heads.base import Head
from mnergraph.nn.heads.tagging import TaggingHead
from mnergraph.nn.state import GraphState

#: The view of posts without context, see `GraphState.view`.
WITHOUT_CONTEXT = "without context"


class _ViewHead(Head):
    """Base of heads without predictions or parameters of their own, which use a tagging head's decoder."""

    shown = False

    def __init__(self, name: str, tags: TaggingHead, *, weight: float, view: str = WITHOUT_CONTEXT) -> None:
        super().__init__(name, weight=weight)
        self.view = view
        # in a tuple, as the decoder's parameters are those of the tagging head
        self._tags = (tags,)

    @property
    def tags(self) -> TaggingHead:
        """The tagging head."""
        return self._tags[0]

    def decode(self, graph: GraphState) -> list[Any]:
        """Return None for every post: this head is for training alone."""
        return [None] * graph.num_graphs


class ViewTagging(_ViewHead):
    """The loss of the tags in another view of the posts.

    Args:
        tags: the head of the tags.
        weight: weight of the loss in the model's loss.
        view: name of the view.
    """

    def __init__(self, tags: TaggingHead, *, weight: float = 1.0, view: str = WITHOUT_CONTEXT) -> None:
        super().__init__("tags_without_context", tags, weight=weight, view=view)

    def loss(self, graph: GraphState) -> Tensor:
        """Return the negative log-likelihood of every post's tags in the view, ``[posts]``."""
        return self.tags.loss(graph.view(self.view))


class ViewAgreement(_ViewHead):
    """The divergence of the tags' marginals in another view from those in the graph (ITA, cross-view alignment).

    loss = sum over tokens i of KL(q_i^(1/T) || p_i^(1/T)), both normalized, where q are the marginals
    p(y_i | post, context), without gradient, and p those of the view; 0 for posts without context.

    Args:
        tags: the head of the tags.
        temperature: T.
        weight: weight of the loss in the model's loss.
        view: name of the view.
    """

    def __init__(
        self, tags: TaggingHead, *, temperature: float = 2.0, weight: float = 0.5, view: str = WITHOUT_CONTEXT
    ) -> None:
        super().__init__("agreement", tags, weight=weight, view=view)
        self.temperature = temperature

    def loss(self, graph: GraphState) -> Tensor:
        """Return the divergence of every post, ``[posts]``."""
        other, layout = graph.view(self.view), graph.layouts["token"]
        # [tokens, labels]
        with torch.no_grad():
            q = (self.tags.log_marginals(graph) / self.temperature).log_softmax(-1)
        p = (self.tags.log_marginals(other) / self.temperature).log_softmax(-1)
        divergence = (q.exp() * (q - p)).sum(-1, keepdim=True)
        by_post = segment_sum(divergence, layout.graph_index, layout.num_graphs)[:, 0]
        return by_post * (graph.layouts[CONTEXT_PIECE].counts > 0)


def agreement_heads(tags: TaggingHead, agreement: Agreement) -> list[Head]:
    """Return the heads that train a model to predict the same without context; those of weight 0 are left out."""
    heads: list[Head] = []
    if agreement.weight:
        heads.append(ViewAgreement(tags, temperature=agreement.temperature, weight=agreement.weight))
    if agreement.text_weight:
        heads.append(ViewTagging(tags, weight=agreement.text_weight))
    return heads
