"""Messages without parameters: the maximum, the sum or the mean of the source nodes."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from mnergraph.graph.layout import Edges


class SpanPooling(nn.Module):
    """The elementwise maximum or sum of the source nodes' features, such as span pooling (GEI, section 2.1).

    A target node without incoming edges gets zeros.

    Args:
        mode: ``"max"`` or ``"sum"``.

    Raises:
        ValueError: for another mode.
    """

    def __init__(self, mode: Literal["max", "sum"]) -> None:
        super().__init__()
        if mode not in ("max", "sum"):
            raise ValueError(f"mode is max or sum, not {mode!r}")
        self.mode = mode

    def forward(self, x_src: Tensor, x_dst: Tensor, edges: Edges) -> Tensor:
        """``[src nodes, hidden_size]``, ``[dst nodes, any]`` -> ``[dst nodes, hidden_size]``."""
        src, dst = edges.index
        messages, num_dst = x_src.index_select(0, src), edges.dst.num_nodes
        if self.mode == "sum":
            return segment_sum(messages, dst, num_dst)
        zeros = messages.new_zeros(num_dst, messages.shape[-1])
        return zeros.scatter_reduce(0, dst[:, None].expand_as(messages), messages, "amax", include_self=False)


def segment_sum(x: Tensor, index: Tensor, num_segments: int, *, mean: bool = False) -> Tensor:
    """Return the sum, or the mean, of the rows of every segment; zeros for an empty segment.

    Args:
        x: ``[rows, features]``.
        index: the segment of every row, ``[rows]``, int64.
        num_segments: number of segments.
        mean: return means.

    Returns:
        ``[num_segments, features]``.
    """
    total = x.new_zeros(num_segments, x.shape[-1]).index_add(0, index, x)
    if not mean:
        return total
    # not by bincount, the size of whose result depends on the data
    counts = index.new_zeros(num_segments).index_add(0, index, torch.ones_like(index))
    return total / counts.clamp(min=1)[:, None].to(x.dtype)
