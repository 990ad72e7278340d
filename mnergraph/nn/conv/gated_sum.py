"""A sum of messages along a relation, each through an elementwise gate."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mnergraph.graph.layout import Edges

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
        hidden_size: features of senders and receivers.
        bias: whether the gate has one; UMGF's released code does.
    """

    def __init__(self, hidden_size: int, *, bias: bool = False) -> None:
        super().__init__()
        self.dst = nn.Linear(hidden_size, hidden_size, bias=bias)
        self.src = nn.Linear(hidden_size, hidden_size, bias=False)
        self.gates = GateValues()

    def forward(self, x_src: Tensor, x_dst: Tensor, edges: Edges) -> Tensor:
        """``[src nodes, width]``, ``[dst nodes, width]`` -> ``[dst nodes, width]``."""
        ours, theirs = self.dst(x_dst), self.src(x_src)
        if edges.is_dense(GATES_DENSE_ABOVE):
            # [sentences, dst slots, src slots, width]
            gates = self.gates(edges.dst.to_dense(ours)[:, :, None], edges.src.to_dense(theirs)[:, None], edges)
            if edges.density < 1:  # else every pair is joined, and the padded senders are zeros
                gates = gates * edges.mask[..., None]
            return edges.dst.to_flat((gates * edges.src.to_dense(x_src)[:, None]).sum(2))
        senders, receivers = edges.index
        # [edges, width]
        message = self.gates(ours[receivers], theirs[senders], edges) * x_src[senders]
        return message.new_zeros(x_dst.shape).index_add(0, receivers, message)
