"""Gates: how much of one thing joins another, by sigmoids of both."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mnergraph.graph import Edges

#: The gated sum reads the mask from this share of joined pairs on; on CPUs the two meet at 0.4 to 0.75.
GATES_DENSE_ABOVE = 0.75


class GateValues(nn.Module):
    """The gates themselves, and nothing learned: what one hooks to look at them.

    Gates along a relation are handed its edges, which tell a record whose they are; gates of nodes are not.
    """

    def forward(self, dst: Tensor, src: Tensor, edges: Edges | None = None) -> Tensor:
        return torch.sigmoid(dst + src)


class GatedSum(nn.Module):
    """Every receiver sums its senders, each through an elementwise gate (UMGF, eqs. 3-6).

    out_i = sum over j of alpha_ij * x_j,  alpha_ij = sigmoid(W_dst x_i + W_src x_j)

    A receiver that hears nobody gets zeros.

    Args:
        width: features of senders and receivers.
        bias: whether the gate has one; UMGF's released code does.
    """

    def __init__(self, width: int, *, bias: bool = False) -> None:
        super().__init__()
        self.dst = nn.Linear(width, width, bias=bias)
        self.src = nn.Linear(width, width, bias=False)
        self.gates = GateValues()

    def forward(self, dst: Tensor, src: Tensor, edges: Edges) -> Tensor:
        """``[dst nodes, width]``, ``[src nodes, width]`` -> ``[dst nodes, width]``."""
        ours, theirs = self.dst(dst), self.src(src)
        if edges.is_dense(GATES_DENSE_ABOVE):
            # [sentences, dst slots, src slots, width]
            gates = self.gates(edges.dst.pad(ours)[:, :, None], edges.src.pad(theirs)[:, None], edges)
            if edges.density < 1:  # else every pair is joined, and the padded senders are zeros
                gates = gates * edges.mask[..., None]
            return edges.dst.unpad((gates * edges.src.pad(src)[:, None]).sum(2))
        senders, receivers = edges.index
        # [edges, width]
        message = self.gates(ours[receivers], theirs[senders], edges) * src[senders]
        return message.new_zeros(dst.shape).index_add(0, receivers, message)


class Gate(nn.Module):
    """How much of one thing joins another, feature by feature: sigmoid(W_a a + W_b b), with a bias if asked.

    Args:
        width: of a and b.
        bias: whether the gate has one.
    """

    def __init__(self, width: int, *, bias: bool = False) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(width, width, bias=bias), nn.Linear(width, width, bias=False)
        self.gates = GateValues()

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """``[nodes, width]`` twice -> ``[nodes, width]``, 0 to 1."""
        values: Tensor = self.gates(self.a(a), self.b(b))
        return values


class Highway(Gate):
    """Two readings of the same nodes, mixed by a gate (GEI, eqs. 9-12; MGCMT, eqs. 13-14).

    out = g * a + (1 - g) * b,  g = sigmoid(W_a a + W_b b)
    """

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """``[nodes, width]`` twice -> ``[nodes, width]``."""
        # not torch.lerp, which takes one precision only
        return b + super().forward(a, b) * (a - b)


class Blend(nn.Module):
    """Two readings of the same nodes, mixed by weights that may leave 0 to 1 (HamLearning, eqs. 13-14).

    out = alpha * a + (1 - alpha) * b,  alpha = W sigmoid(W_a a + W_b b)

    The paper does not say which sigma it means: the sigmoid is our choice, and alpha by feature.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate, self.outer = Gate(width), nn.Linear(width, width, bias=False)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """``[nodes, width]`` twice -> ``[nodes, width]``."""
        return b + self.outer(self.gate(a, b)) * (a - b)


class VisualGate(Gate):
    """What of the picture reaches the words (UMT, eq. 3): g * b,  g = sigmoid(W_a a + W_b b)."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Image-aware words ``a`` and word-aware picture ``b``, ``[nodes, width]`` -> ``[nodes, width]``."""
        return super().forward(a, b) * b
