"""Messages without parameters: the maximum, the sum or the mean of the senders."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from mnergraph.graph.layout import Edges


class SpanPooling(nn.Module):
    """Every receiver takes the maximum or the sum of its senders, feature by feature; nothing is learned.

    From words to entities ``max`` is span pooling (GEI, section 2.1). Who hears nobody gets zeros.
    """

    def __init__(self, mode: Literal["max", "sum"]) -> None:
        super().__init__()
        if mode not in ("max", "sum"):
            raise ValueError(f"mode is max or sum, not {mode!r}")
        self.mode = mode

    def forward(self, x_src: Tensor, x_dst: Tensor, edges: Edges) -> Tensor:
        """``[src nodes, width]``, ``[dst nodes, width]`` -> ``[dst nodes, width]``."""
        senders, receivers = edges.index
        sent, nodes = x_src.index_select(0, senders), edges.dst.num_nodes
        if self.mode == "sum":
            return segment_sum(sent, receivers, nodes)
        empty = sent.new_zeros(nodes, sent.shape[-1])
        return empty.scatter_reduce(0, receivers[:, None].expand_as(sent), sent, "amax", include_self=False)


def segment_sum(x: Tensor, owner: Tensor, owners: int, *, mean: bool = False) -> Tensor:
    """Rows summed, or averaged, by owner: ``[rows, width] -> [owners, width]``, zeros for owners of none."""
    total = x.new_zeros(owners, x.shape[-1]).index_add(0, owner, x)
    if not mean:
        return total
    return total / owner.bincount(minlength=owners).clamp(min=1)[:, None].to(x.dtype)
