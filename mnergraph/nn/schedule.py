"""What changes while a model trains, other than its weights."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import nn


class Scheduled(nn.Module, ABC):
    """A layer that is told which epoch begins, by whoever trains it (GEI's scheduled sampling).

    What it makes of that it keeps in a buffer, so that it is saved with the weights.
    """

    @abstractmethod
    def at_epoch(self, epoch: int) -> None:
        """Called before every epoch of training, from 0."""
