"""Base class of heads: a task's loss, decoding and metrics."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mnergraph.nn.state import GraphState
from mnergraph.pair import Pair


class Head(nn.Module, ABC):
    """Base class of heads: one task, from the last graph to predictions.

    A head of your own is one class with these methods; give it to the model, ``Tagger(heads=[...])``. Training adds
    its loss, evaluation its metrics, and predictions have its results under ``name``.

    Args:
        name: name of the task; the head named ``"tags"``, an `EntityHead`, gives the model's entities.
        weight: weight of the loss in the model's loss.
    """

    #: Whether predictions are part of the results of `mnergraph predict`; off for auxiliary tasks.
    shown: ClassVar[bool] = True
    #: Whether predictions are scored even where they are not shown: evaluation has the metrics of the head.
    scored: ClassVar[bool] = False

    def __init__(self, name: str, *, weight: float = 1.0) -> None:
        super().__init__()
        self.name, self.weight = name, weight

    @abstractmethod
    def loss(self, graph: GraphState) -> Tensor:
        """Return the loss of every post, ``[posts]``; gold values are in ``graph.data``.

        Raises:
            ValueError: when a post has no gold value.
        """

    @abstractmethod
    def decode(self, graph: GraphState) -> list[Any]:
        """Return one prediction per post, as plain data."""

    def gold(self, pair: Pair) -> Any:
        """Return the gold value of a pair, of the same form as a prediction; None where the pair has none."""
        return None

    def metrics(self, gold: Sequence[Any], predicted: Sequence[Any]) -> Mapping[str, float]:
        """Return metrics by name, of posts that have a gold value; higher is better."""
        return {}


def full_precision(x: Tensor) -> Tensor:
    """Return a tensor for a loss: in float32, or in float64 if it is."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
