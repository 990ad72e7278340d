"""Gates: combinations of two features of the same nodes, weighted by sigmoids of both."""

from __future__ import annotations

from torch import Tensor, nn

from mnergraph.nn.conv.gated_sum import GateValues


class Gate(nn.Module):
    """Elementwise gate of two features: sigmoid(W_a a + W_b b + bias).

    Args:
        hidden_size: features of a and b.
        bias: whether the gate has a bias.
    """

    def __init__(self, hidden_size: int, *, bias: bool = False) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(hidden_size, hidden_size, bias=bias), nn.Linear(hidden_size, hidden_size, bias=False)
        self.gates = GateValues()

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """``[nodes, hidden_size]`` twice -> gate ``[nodes, hidden_size]``, 0 to 1."""
        values: Tensor = self.gates(self.a(a), self.b(b))
        return values


class GatedMix(Gate):
    """Convex combination of two features by a gate (GEI, eqs. 9-12; MGCMT, eqs. 13-14).

    out = g * a + (1 - g) * b,  g = sigmoid(W_a a + W_b b)
    """

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """``[nodes, hidden_size]`` twice -> ``[nodes, hidden_size]``."""
        # not torch.lerp, which needs both in one precision
        return b + super().forward(a, b) * (a - b)


class LinearMix(nn.Module):
    """Combination of two features by weights that are not limited to 0 .. 1 (HamLearning, eqs. 13-14).

    out = alpha * a + (1 - alpha) * b,  alpha = W sigmoid(W_a a + W_b b)

    The paper does not define its sigma; we take the sigmoid, and alpha elementwise.

    Args:
        hidden_size: features of a and b.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.gate, self.outer = Gate(hidden_size), nn.Linear(hidden_size, hidden_size, bias=False)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """``[nodes, hidden_size]`` twice -> ``[nodes, hidden_size]``."""
        return b + self.outer(self.gate(a, b)) * (a - b)


class VisualGate(Gate):
    """Gated visual features (UMT, eq. 3): g * b,  g = sigmoid(W_a a + W_b b)."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Image-aware text ``a``, text-aware image ``b``, ``[nodes, hidden_size]`` each -> ``[nodes, hidden_size]``."""
        return super().forward(a, b) * b


class GatedAdd(Gate):
    """Residual connection whose message passes a gate (Object-AGBAN): a + g * b,  g = sigmoid(W_a a + W_b b).

    A node without a message, b = 0, keeps its features.
    """

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Node ``a`` and its message ``b``, ``[nodes, hidden_size]`` each -> ``[nodes, hidden_size]``."""
        return a + super().forward(a, b) * b
