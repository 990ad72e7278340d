"""Gates: how much of one thing joins another, by sigmoids of both."""

from __future__ import annotations

from torch import Tensor, nn

from mnergraph.nn.conv.gated_sum import GateValues


class Gate(nn.Module):
    """How much of one thing joins another, feature by feature: sigmoid(W_a a + W_b b), with a bias if asked.

    Args:
        hidden_size: of a and b.
        bias: whether the gate has one.
    """

    def __init__(self, hidden_size: int, *, bias: bool = False) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(hidden_size, hidden_size, bias=bias), nn.Linear(hidden_size, hidden_size, bias=False)
        self.gates = GateValues()

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """``[nodes, width]`` twice -> ``[nodes, width]``, 0 to 1."""
        values: Tensor = self.gates(self.a(a), self.b(b))
        return values


class GatedMix(Gate):
    """Two readings of the same nodes, mixed by a gate (GEI, eqs. 9-12; MGCMT, eqs. 13-14).

    out = g * a + (1 - g) * b,  g = sigmoid(W_a a + W_b b)
    """

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """``[nodes, width]`` twice -> ``[nodes, width]``."""
        # not torch.lerp, which takes one precision only
        return b + super().forward(a, b) * (a - b)


class LinearMix(nn.Module):
    """Two readings of the same nodes, mixed by weights that may leave 0 to 1 (HamLearning, eqs. 13-14).

    out = alpha * a + (1 - alpha) * b,  alpha = W sigmoid(W_a a + W_b b)

    The paper does not say which sigma it means: the sigmoid is our choice, and alpha by feature.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.gate, self.outer = Gate(hidden_size), nn.Linear(hidden_size, hidden_size, bias=False)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """``[nodes, width]`` twice -> ``[nodes, width]``."""
        return b + self.outer(self.gate(a, b)) * (a - b)


class VisualGate(Gate):
    """What of the picture reaches the words (UMT, eq. 3): g * b,  g = sigmoid(W_a a + W_b b)."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Image-aware words ``a`` and word-aware picture ``b``, ``[nodes, width]`` -> ``[nodes, width]``."""
        return super().forward(a, b) * b
