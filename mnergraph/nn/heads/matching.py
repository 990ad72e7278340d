"""An auxiliary task of whole posts: whether words and the messages to them are of the same post."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from mnergraph.nn.heads.base import Head, full_precision
from mnergraph.nn.layers.post_gate import exchanged_task
from mnergraph.nn.state import GraphState


class MatchingHead(Head):
    """Matching of words and messages, with those of another post of the batch as the negative (MAF).

    loss of a post = (-log sigmoid(s) - log(1 - sigmoid(s'))) / 2,  s its score, s' that with the exchanged messages

    A layer computes both scores, such as `PostGate` after `ExchangeMessages`; this head has no parameters. The loss is
    0 for a post without source nodes, in evaluation mode, and in a batch without negatives (fewer than two posts with
    source nodes), where positives alone would only raise the score of every post.

    Args:
        source: the node type that the messages come from.
        name: name of the task, and of the scores ``[posts]``.
        weight: weight of the loss in the model's loss.
    """

    shown: ClassVar[bool] = False

    def __init__(self, *, source: str, name: str = "match", weight: float = 1.0) -> None:
        super().__init__(name, weight=weight)
        self.source = source

    def loss(self, graph: GraphState) -> Tensor:
        """Return the loss of every post, ``[posts]``."""
        own, exchanged = full_precision(graph.emissions[self.name]), graph.emissions.get(exchanged_task(self.name))
        if not self.training or exchanged is None:
            return own * 0.0
        losses = (F.softplus(-own) + F.softplus(full_precision(exchanged))) / 2
        return losses * (graph.layouts[self.source].counts > 0)

    def decode(self, graph: GraphState) -> list[float | None]:
        """Return the probability that words and messages match, for every post; None without source nodes."""
        probabilities = graph.emissions[self.name].sigmoid().tolist()
        counts = graph.layouts[self.source].counts.tolist()
        return [value if count else None for value, count in zip(probabilities, counts, strict=True)]
