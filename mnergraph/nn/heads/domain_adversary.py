"""An auxiliary task that makes the features of two node types alike: a domain classifier behind gradient reversal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mnergraph.nn.conv.pooling import segment_sum
from mnergraph.nn.heads.base import Head, full_precision
from mnergraph.nn.layers.batch_norm import node_batch_norm
from mnergraph.nn.layers.gradient_reversal import GradientReversal
from mnergraph.nn.post_means import layout_of
from mnergraph.nn.state import GraphState


class DomainAdversaryHead(Head):
    """A classifier of two node types by their features, whose gradient is reversed for these (Object-AGBAN).

    loss of a post = mean over its nodes i of type A of -log(1 - D(x_i)) + mean over those of type B of -log D(x_i)

    D is a multilayer perceptron with batch norm behind `GradientReversal`: it learns to tell the types apart, and the
    layers before it to make them alike. The means weight each type by the inverse of its number of nodes in the post,
    so that a type with many nodes counts as much as one with few. A post that lacks nodes of one type has loss 0: its
    nodes of the other would tip the balance. Both types go through D together, as batch norm over one type at a time
    would remove the difference of their means; see `AddBatchNorm` for what batch norm does in training.

    Args:
        hidden_size: features of the nodes of both types; D's hidden layers have a half and a quarter of it.
        in_keys: names of the two features in the last graph.
        name: name of the task.
        weight: weight of the loss in the model's loss.
        steepness: of `GradientReversal`.
        max_alpha: of `GradientReversal`.
    """

    shown: ClassVar[bool] = False

    def __init__(
        self,
        hidden_size: int,
        *,
        in_keys: Sequence[str],
        name: str = "domain",
        weight: float = 1.0,
        steepness: float = 10.0,
        max_alpha: float = 1.0,
    ) -> None:
        super().__init__(name, weight=weight)
        self.first_key, self.second_key = in_keys
        half, quarter = max(1, hidden_size // 2), max(1, hidden_size // 4)
        self.reversal = GradientReversal(steepness=steepness, max_alpha=max_alpha)
        # batch norm has a bias of its own
        self.classifier = nn.Sequential(
            nn.Linear(hidden_size, half, bias=False),
            node_batch_norm(half),
            nn.ReLU(),
            nn.Linear(half, quarter, bias=False),
            node_batch_norm(quarter),
            nn.ReLU(),
            nn.Linear(quarter, 1),
        )

    def loss(self, graph: GraphState) -> Tensor:
        """Return the classifier's loss of every post, ``[posts]``."""
        first, second = self.scores(graph)
        return self._mean(graph, self.first_key, F.softplus(first)) + self._mean(
            graph, self.second_key, F.softplus(-second)
        )

    def scores(self, graph: GraphState) -> tuple[Tensor, Tensor]:
        """Return the scores of belonging to the second type, of the nodes of both, ``[nodes]`` each.

        Raises:
            KeyError: for features whose node type no layer declared.
        """
        first, second = graph.x[self.first_key], graph.x[self.second_key]
        dtype = torch.promote_types(first.dtype, second.dtype)
        scores = self.classifier(self.reversal(torch.cat([first.to(dtype), second.to(dtype)])))[:, 0]
        return full_precision(scores[: len(first)]), full_precision(scores[len(first) :])

    def decode(self, graph: GraphState) -> list[float | None]:
        """Return the share of nodes whose type the classifier finds, mean over both types; None where it has no loss.

        0.5 is chance: the classifier does not separate the types.
        """
        first, second = self.scores(graph)
        right = self._mean(graph, self.first_key, (first <= 0).to(first.dtype))
        right = (right + self._mean(graph, self.second_key, (second > 0).to(second.dtype))) / 2
        return [
            share if has else None for share, has in zip(right.tolist(), self._has_both(graph).tolist(), strict=True)
        ]

    def _mean(self, graph: GraphState, key: str, values: Tensor) -> Tensor:
        layout = layout_of(graph, key)
        means = segment_sum(values[:, None], layout.graph_index, layout.num_graphs, mean=True)[:, 0]
        return means * self._has_both(graph)

    def _has_both(self, graph: GraphState) -> Tensor:
        return (layout_of(graph, self.first_key).counts > 0) & (layout_of(graph, self.second_key).counts > 0)
