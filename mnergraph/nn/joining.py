"""Features of the same nodes, joined to one."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Joined(nn.Module):
    """Several features of the same nodes, side by side, through one module (MGCMT, eqs. 4 and 15).

    out = f([x_1, x_2, ...])

    Args:
        module: f, of as many features as those together.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *features: Tensor) -> Tensor:
        joined: Tensor = self.module(torch.cat(features, -1))
        return joined


class AddLinear(nn.Module):
    """x + W message + b, for a message of another width (MGCMT's released code, instead of eq. 4).

    Args:
        width: of x and of the result.
        message: width of the message.
    """

    def __init__(self, width: int, message: int) -> None:
        super().__init__()
        self.linear = nn.Linear(message, width)

    def forward(self, x: Tensor, message: Tensor) -> Tensor:
        return x + self.linear(message)
