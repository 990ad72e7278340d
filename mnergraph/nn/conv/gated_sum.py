"""A sum of messages along one relation, each multiplied by an elementwise gate."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mnergraph.graph.layout import Edges

#: Density from which dense gates are computed; on CPUs both take the same time at 0.4 to 0.75.
GATES_DENSE_ABOVE = 0.75


class GateValues(nn.Module):
    """The values of gates. Has no parameters; a module of its own so that the values can be hooked.

    Gates along a relation pass its edges, by which a recorder assigns the values to edges; gates of nodes pass none.
    """

    def forward(self, dst: Tensor, src: Tensor, edges: Edges | None = None) -> Tensor:
        """Two tensors that broadcast to ``[..., hidden_size]`` -> gates ``[..., hidden_size]``, 0 to 1."""
        return torch.sigmoid(dst + src)


class GatedSum(nn.Module):
    """Gated sum of the source nodes' features (UMGF, eqs. 3-6).

    out_i = sum over j of alpha_ij * x_j,  alpha_ij = sigmoid(W_dst x_i + W_src x_j)

    A target node without incoming edges gets zeros.

    Args:
        hidden_size: features of source and target nodes.
        bias: whether the gates have a bias; those of UMGF's released code do.
    """

    def __init__(self, hidden_size: int, *, bias: bool = False) -> None:
        super().__init__()
        self.dst = nn.Linear(hidden_size, hidden_size, bias=bias)
        self.src = nn.Linear(hidden_size, hidden_size, bias=False)
        self.gates = GateValues()

    def forward(self, x_src: Tensor, x_dst: Tensor, edges: Edges) -> Tensor:
        """``[src nodes, hidden_size]``, ``[dst nodes, hidden_size]`` -> ``[dst nodes, hidden_size]``."""
        dst_part, src_part = self.dst(x_dst), self.src(x_src)
        if edges.is_dense(GATES_DENSE_ABOVE):
            # [graphs, max dst nodes, max src nodes, hidden_size]
            gates = self.gates(edges.dst.to_dense(dst_part)[:, :, None], edges.src.to_dense(src_part)[:, None], edges)
            if edges.density < 1:  # at 1 no mask is needed: padded source nodes are zeros
                gates = gates * edges.mask[..., None]
            return edges.dst.to_flat((gates * edges.src.to_dense(x_src)[:, None]).sum(2))
        src, dst = edges.index
        # [edges, hidden_size]
        message = self.gates(dst_part[dst], src_part[src], edges) * x_src[src]
        return message.new_zeros(x_dst.shape).index_add(0, dst, message)
