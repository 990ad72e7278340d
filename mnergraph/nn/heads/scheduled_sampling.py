"""What changes while a model trains, other than its weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from mnergraph.graph.node_types import NO_LABEL
from mnergraph.nn.state import GraphState


class EpochAware(nn.Module, ABC):
    """A layer that is told which epoch begins, by whoever trains it (GEI's scheduled sampling).

    What it makes of that it keeps in a buffer, so that it is saved with the weights.
    """

    @abstractmethod
    def on_epoch_start(self, epoch: int) -> None:
        """Called before every epoch of training, from 0."""


class ScheduledSampling(EpochAware):
    """Labels of a side task that later layers build on: gold at first, then more and more often predicted.

    Scheduled sampling (Bengio et al., 2015; GEI, section 3.1). In training every sentence draws on its own,
    at every step anew, whether its labels are predicted, with a probability that rises by the epoch:

    share = most * (epoch - first) / (last - first), not below 0, not above most

    In evaluation, and where a sentence has no gold labels, they are predicted. Predicting passes no gradient.

    Args:
        decode: the side task's best label of every token, as `Task.decode` gives it.
        reads: the side task's label of each of the tags, ``[tags]``, as `Task.reads` holds it.
        out_key: under which name the labels are kept, ``[tokens]``, int64.
        start_epoch: the last epoch without predicted labels; epochs count from 0.
        end_epoch: the epoch from which on their share no longer rises.
        max_ratio: that share, 0 to 1.
    """

    share: Tensor
    reads: Tensor

    def __init__(
        self,
        decode: Callable[[GraphState], Tensor],
        reads: Tensor,
        *,
        out_key: str,
        start_epoch: int = 2,
        end_epoch: int = 6,
        max_ratio: float = 0.9,
    ) -> None:
        super().__init__()
        if not 0 <= start_epoch < end_epoch:
            raise ValueError(
                f"the share rises from one epoch to a later one, counted from 0, not {start_epoch} to {end_epoch}"
            )
        if not 0 <= max_ratio <= 1:
            raise ValueError(f"the share of predicted labels is 0 to 1, not {max_ratio}")
        self.decode, self.out_key = decode, out_key
        self.start_epoch, self.end_epoch, self.max_ratio = start_epoch, end_epoch, max_ratio
        self.register_buffer("reads", reads, persistent=False)
        self.register_buffer("share", torch.zeros(()))

    def on_epoch_start(self, epoch: int) -> None:
        risen = (epoch - self.start_epoch) / (self.end_epoch - self.start_epoch)
        self.share.fill_(self.max_ratio * min(max(risen, 0.0), 1.0))

    def forward(self, graph: GraphState) -> GraphState:
        gold, layout = graph.data["token"].y, graph.layouts["token"]
        if self.training:
            predicted = torch.rand(layout.num_graphs, device=gold.device) < self.share
            told = (gold != NO_LABEL) & ~predicted[layout.graph_index]
        else:
            told = torch.zeros_like(gold, dtype=torch.bool)
        labels = self.reads[gold.clamp(min=0)]
        if not told.all():
            with torch.no_grad():
                labels = torch.where(told, labels, self.decode(graph))
        return graph.with_features(self.out_key, labels, nodes_of="token")
