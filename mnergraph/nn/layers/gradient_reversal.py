"""Gradient reversal, for adversarial tasks."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from mnergraph.nn.heads.scheduled_sampling import ProgressAware


class GradientReversal(ProgressAware):
    """The identity, whose gradient is multiplied by -alpha (Ganin and Lempitsky, 2015, section 3.1 and equation 14).

    alpha = max_alpha * (2 / (1 + exp(-steepness * p)) - 1),  p the share of training that is done

    Before training alpha is 0: what is trained through the layer learns its task, and what comes before it is not
    changed.

    Args:
        steepness: how fast alpha rises; 10 in the paper.
        max_alpha: alpha's limit.
    """

    alpha: Tensor

    def __init__(self, *, steepness: float = 10.0, max_alpha: float = 1.0) -> None:
        super().__init__()
        self.steepness, self.max_alpha = steepness, max_alpha
        self.register_buffer("alpha", torch.zeros(()))

    def on_progress(self, progress: float) -> None:
        """Set alpha for a share of training, 0 to 1."""
        self.alpha.fill_(self.max_alpha * (2 / (1 + math.exp(-self.steepness * progress)) - 1))

    def forward(self, x: Tensor) -> Tensor:
        """``[nodes, hidden_size]`` -> the same."""
        reversed_: Tensor = _Reversal.apply(x, self.alpha.clone())
        return reversed_


class _Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: Tensor) -> Tensor:
        ctx.save_for_backward(alpha)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (alpha,) = ctx.saved_tensors
        return -alpha * grad, None
