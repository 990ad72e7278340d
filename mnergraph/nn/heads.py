"""Reading tags off the last graph: a task owns a label set and a scorer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mnergraph.nn.crf import CRF
from mnergraph.nn.softmax import Softmax
from mnergraph.nn.state import Graph


class Emit(nn.Module):
    """Linear scores of a task's labels from the tokens' features; several features are concatenated first.

    Args:
        task: under which name the scores go into the graph.
        width: of the features, all together.
        labels: how many labels.
        read: names of the features.
    """

    def __init__(self, task: str, width: int, labels: int, *, read: Sequence[str] = ("token",)) -> None:
        super().__init__()
        self.task, self.read = task, tuple(read)
        self.linear = nn.Linear(width, labels)

    def forward(self, graph: Graph) -> Graph:
        features = torch.cat([graph.x[name] for name in self.read], -1)
        return graph.emit(self.task, self.linear(features))


class Task(nn.Module):
    """What a model is trained to tell of every token: a label set, a scorer and a weight in the loss.

    Args:
        name: the emissions it reads.
        scorer: a CRF or a softmax over the label set ``scorer.tags``.
        weight: of its loss in the model's.
    """

    def __init__(self, name: str, scorer: CRF | Softmax, *, weight: float = 1.0) -> None:
        super().__init__()
        self.name, self.scorer, self.weight = name, scorer, weight

    def loss(self, graph: Graph, gold: Tensor) -> Tensor:
        """Negative log-likelihood of every sentence, ``[sentences]``; ``gold`` is ``[tokens]``."""
        layout = graph.layouts["token"]
        emissions, mask = self.scores(graph)
        return -self.scorer(emissions, layout.pad(gold), mask)

    def decode(self, graph: Graph) -> Tensor:
        """The best label of every token, ``[tokens]``."""
        return graph.layouts["token"].unpad(self.scorer.decode(*self.scores(graph)))

    def scores(self, graph: Graph) -> tuple[Tensor, Tensor]:
        """Padded emissions ``[sentences, slots, labels]`` and their mask ``[sentences, slots]``."""
        layout = graph.layouts["token"]
        return layout.pad(graph.emissions[self.name]), layout.mask
