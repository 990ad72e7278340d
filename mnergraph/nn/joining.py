"""Features of the same nodes, joined to one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from mnergraph.nn.fusion import Apply
from mnergraph.nn.heads import Emit


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


def joined_linear(width: int, message: int) -> Joined:
    """W [x, message] + b, as wide as x (MGCMT, eq. 4)."""
    return Joined(nn.Linear(width + message, width))


def joined_scores(
    seen: Sequence[str], width: int, labels: int, *, dropout: float, after: Sequence[nn.Module], extra: bool
) -> Iterator[nn.Module]:
    """Layers from words and what they have seen to the tags' scores (MGCMT, eq. 15 and section 3.4).

    S = after(W dropout([S_v, S_o]) + b) (eq. 15);  P = [h, S];  scores = W P + b. Where words
    have seen one thing only, that is S, as in the released code.

    Args:
        seen: by which names that is kept, one or two.
        width: of each.
        labels: how many tags there are.
        dropout: on both together.
        after: what follows eq. 15: nothing, or a ReLU in the authors' code.
        extra: whether one more linear map, to the words' width, follows P, as in the authors' code.
    """
    fused = seen[0]
    if len(seen) == 2:
        fused = "S"
        fusion = nn.Sequential(nn.Dropout(dropout), nn.Linear(2 * width, width), *after)
        yield Apply(Joined(fusion), read=seen, write=fused)
    if not extra:
        yield Emit("tags", 2 * width, labels, read=("token", fused))
        return
    yield Apply(Joined(nn.Linear(2 * width, width)), read=("token", fused), write="token")
    yield Emit("tags", width, labels)
