"""Modules that change in the course of training, by the epoch or by the step: scheduled sampling."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from mnergraph.graph.node_types import NO_LABEL
from mnergraph.nn.state import GraphState


class EpochAware(nn.Module, ABC):
    """Base class of layers that change from epoch to epoch; training calls `on_epoch_start`.

    State that depends on the epoch is to be a buffer, so that it is saved with the weights.
    """

    @abstractmethod
    def on_epoch_start(self, epoch: int) -> None:
        """Update the layer before an epoch of training.

        Args:
            epoch: the epoch, from 0.
        """


class ProgressAware(nn.Module, ABC):
    """Base class of modules that change from step to step of training; training calls `on_progress`.

    State that depends on the progress is to be a buffer, so that it is saved with the weights.
    """

    @abstractmethod
    def on_progress(self, progress: float) -> None:
        """Update the module before a step of training.

        Args:
            progress: the steps done before as a share of all steps of the run, 0 to 1.
        """


class ScheduledSampling(EpochAware):
    """Labels of an auxiliary task, gold or predicted, for later layers (Bengio et al., 2015; GEI, section 3.1).

    In training every post draws at every step whether its labels are predicted, with a probability that rises by the
    epoch:

    share = max_ratio * (epoch - start_epoch) / (end_epoch - start_epoch), clipped to 0 .. max_ratio

    In evaluation, and for posts without gold labels, labels are predicted. Predictions have no gradient.

    Args:
        decode: returns the auxiliary task's best label of every token, ``[tokens]``; see
            `SpanDetectionHead.decode_labels`.
        label_map: the auxiliary task's label of every tag, ``[tags]``; see `span_label_ids`.
        out_key: name of the labels, ``[tokens]``, int64, as features of tokens.
        start_epoch: the last epoch without predicted labels, from 0.
        end_epoch: the epoch from which on the share is ``max_ratio``.
        max_ratio: the largest share of posts with predicted labels, 0 to 1.

    Raises:
        ValueError: unless 0 <= start_epoch < end_epoch and 0 <= max_ratio <= 1.
    """

    share: Tensor
    label_map: Tensor

    def __init__(
        self,
        decode: Callable[[GraphState], Tensor],
        label_map: Tensor,
        *,
        out_key: str,
        start_epoch: int = 2,
        end_epoch: int = 6,
        max_ratio: float = 0.9,
    ) -> None:
        super().__init__()
        if not 0 <= start_epoch < end_epoch:
            raise ValueError(
                f"the share rises from an epoch, 0 or later, to a later one, not from {start_epoch} to {end_epoch}"
            )
        if not 0 <= max_ratio <= 1:
            raise ValueError(f"the share of predicted labels is 0 to 1, not {max_ratio}")
        self.decode, self.out_key = decode, out_key
        self.start_epoch, self.end_epoch, self.max_ratio = start_epoch, end_epoch, max_ratio
        self.register_buffer("label_map", label_map, persistent=False)
        self.register_buffer("share", torch.zeros(()))

    def on_epoch_start(self, epoch: int) -> None:
        """Set the share of posts with predicted labels for an epoch, from 0."""
        progress = (epoch - self.start_epoch) / (self.end_epoch - self.start_epoch)
        self.share.fill_(self.max_ratio * min(max(progress, 0.0), 1.0))

    def forward(self, graph: GraphState) -> GraphState:
        """Return the graph with the labels ``[tokens]`` under ``out_key``."""
        gold, layout = graph.data["token"].y, graph.layouts["token"]
        if self.training:
            predicted = torch.rand(layout.num_graphs, device=gold.device) < self.share
            use_gold = (gold != NO_LABEL) & ~predicted[layout.graph_index]
        else:
            use_gold = torch.zeros_like(gold, dtype=torch.bool)
        labels = self.label_map[gold.clamp(min=0)]
        if not use_gold.all():
            with torch.no_grad():
                labels = torch.where(use_gold, labels, self.decode(graph))
        return graph.with_features(self.out_key, labels, nodes_of="token")
