"""An operator behind a gate."""

from __future__ import annotations

from torch import Tensor, nn

from mnergraph.graph import Edges
from mnergraph.nn.gates import Highway


class Gated(nn.Module):
    """What an operator brings a receiver is mixed with what the receiver was (GEI, eqs. 8-10 and 11-12).

    R = operator(dst, src),  out = alpha * R + (1 - alpha) * dst,  alpha = sigmoid(W_1 R + W_2 dst)

    A receiver that hears nobody stays what it was.

    Args:
        operator: of the message, ``(dst, src, edges) -> [dst nodes, width]``.
        width: of receivers and messages.
    """

    def __init__(self, operator: nn.Module, width: int) -> None:
        super().__init__()
        self.operator, self.highway = operator, Highway(width)

    def forward(self, dst: Tensor, src: Tensor, edges: Edges) -> Tensor:
        """``[dst nodes, width]``, ``[src nodes, width]`` -> ``[dst nodes, width]``."""
        hearers = edges.hearers
        message = self.operator(dst, src, edges).index_select(0, hearers)
        mixed = self.highway(message, dst.index_select(0, hearers))
        return dst.index_copy(0, hearers, mixed.to(dst.dtype))
