"""Modules that change in the course of training, by the epoch or by the step: scheduled sampling."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mnergraph.graph.node_types import NO_LABEL
from mnergraph.nn.state import GraphState

#: A span of words, half-open.
WordSpan = tuple[int, int]


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


@dataclass(frozen=True)
class ScheduledSamplingConfig:
    """When training replaces gold entities by predicted ones; see `ScheduledSampling` and `PredictedSpans`.

    Args:
        start_epoch: the last epoch on gold entities alone, counted from 0.
        end_epoch: the epoch from which on the ratio of predicted entities is constant.
        max_ratio: that ratio, 0 to 1.

    Raises:
        ValueError: unless 0 <= start_epoch < end_epoch and 0 <= max_ratio <= 1.
    """

    start_epoch: int = 2
    end_epoch: int = 6
    max_ratio: float = 0.9

    def __post_init__(self) -> None:
        if not 0 <= self.start_epoch < self.end_epoch:
            raise ValueError(
                f"the share rises from an epoch, 0 or later, to a later one, not from {self.start_epoch} to "
                f"{self.end_epoch}"
            )
        if not 0 <= self.max_ratio <= 1:
            raise ValueError(f"the share of predicted labels is 0 to 1, not {self.max_ratio}")


class PredictedShare(EpochAware):
    """Base class of what takes predictions in the place of gold in training, for a share of posts that rises by epochs.

    share = max_ratio * (epoch - start_epoch) / (end_epoch - start_epoch), clipped to 0 .. max_ratio

    Args:
        config: the schedule.
    """

    share: Tensor

    def __init__(self, config: ScheduledSamplingConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("share", torch.zeros(()))

    def on_epoch_start(self, epoch: int) -> None:
        """Set the share of posts with predictions for an epoch, from 0."""
        config = self.config
        progress = (epoch - config.start_epoch) / (config.end_epoch - config.start_epoch)
        self.share.fill_(config.max_ratio * min(max(progress, 0.0), 1.0))

    def drawn(self, num_graphs: int) -> Tensor:
        """Return which posts draw predictions, ``[posts]``, bool."""
        return torch.rand(num_graphs, device=self.share.device) < self.share


class ScheduledSampling(PredictedShare):
    """Labels of an auxiliary task, gold or predicted, for later layers (Bengio et al., 2015; GEI, section 3.1).

    In training every post draws at every step whether its labels are predicted, with the probability of
    `PredictedShare`. In evaluation, and for posts without gold labels, labels are predicted. Predictions have no
    gradient.

    Args:
        decode: returns the auxiliary task's best label of every token, ``[tokens]``; see
            `SpanDetectionHead.decode_labels`.
        label_map: the auxiliary task's label of every tag, ``[tags]``; see `span_label_ids`.
        out_key: name of the labels, ``[tokens]``, int64, as features of tokens.
        config: the schedule.
    """

    label_map: Tensor

    def __init__(
        self,
        decode: Callable[[GraphState], Tensor],
        label_map: Tensor,
        *,
        out_key: str,
        config: ScheduledSamplingConfig = ScheduledSamplingConfig(),
    ) -> None:
        super().__init__(config)
        self.decode, self.out_key = decode, out_key
        self.register_buffer("label_map", label_map, persistent=False)

    def forward(self, graph: GraphState) -> GraphState:
        """Return the graph with the labels ``[tokens]`` under ``out_key``."""
        gold, layout = graph.data["token"].y, graph.layouts["token"]
        if self.training:
            predicted = self.drawn(layout.num_graphs)
            use_gold = (gold != NO_LABEL) & ~predicted[layout.graph_index]
        else:
            use_gold = torch.zeros_like(gold, dtype=torch.bool)
        labels = self.label_map[gold.clamp(min=0)]
        if not use_gold.all():
            with torch.no_grad():
                labels = torch.where(use_gold, labels, self.decode(graph))
        return graph.with_features(self.out_key, labels, nodes_of="token")


class PredictedSpans(PredictedShare):
    """Spans of gold entities, or the predicted ones nearest to them, for a head that is trained on entities.

    In training every post draws at every step whether it takes predicted spans, with the probability of
    `PredictedShare`. In the place of each of its gold entities it then has the predicted span that shares most words
    with it, the first one of several; its own span where none shares any, so that every entity keeps its target.
    """

    def forward(
        self, gold: Sequence[Sequence[WordSpan]], predict: Callable[[], Sequence[Sequence[WordSpan]]]
    ) -> list[list[WordSpan]]:
        """Return a span for every gold entity of every post.

        Args:
            gold: the gold entities' spans of every post, half-open ranges of words.
            predict: returns the predicted spans of every post; called without gradients, if any post takes them.
        """
        drawn = self.drawn(len(gold)).tolist() if self.training else [False] * len(gold)
        if not any(drawn):
            return [list(post) for post in gold]
        with torch.no_grad():
            predicted = predict()
        return [
            [nearest_span(span, found) for span in post] if takes else list(post)
            for post, found, takes in zip(gold, predicted, drawn, strict=True)
        ]


def nearest_span(span: WordSpan, others: Sequence[WordSpan]) -> WordSpan:
    """Return the first of the spans that share most words with a span; the span itself where none shares any.

    >>> nearest_span((2, 4), [(0, 3), (3, 6), (7, 8)])
    (0, 3)
    """
    shared = [min(span[1], end) - max(span[0], start) for start, end in others]
    best = max(range(len(others)), key=shared.__getitem__, default=-1)
    return others[best] if best >= 0 and shared[best] > 0 else span
