"""Residual connection with batch norm."""

from __future__ import annotations

from torch import Tensor, nn
from torch_geometric.nn import BatchNorm


class AddBatchNorm(nn.Module):
    """BatchNorm(x + dropout(message)), over the nodes of a batch (Ioffe and Szegedy, 2015; OCSGA).

    In training mode mean and variance are those of the batch's nodes, all posts together, so that a node's features
    depend on the other posts; the running mean and variance are updated. In evaluation mode the running ones are used,
    and a post's features do not depend on its batch. One node has no variance: a batch of a single node, or of none,
    uses the running mean and variance in training mode, too, and does not update them.

    Args:
        hidden_size: features of x and the message.
        dropout: dropout rate of the message.
    """

    def __init__(self, hidden_size: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm, self.dropout = node_batch_norm(hidden_size), nn.Dropout(dropout)

    def forward(self, x: Tensor, message: Tensor) -> Tensor:
        """``[nodes, hidden_size]`` twice -> ``[nodes, hidden_size]``."""
        normalized: Tensor = self.norm(x + self.dropout(message))
        return normalized


def node_batch_norm(hidden_size: int) -> BatchNorm:
    """Return PyG's batch norm of ``[nodes, hidden_size]``, for batches of any number of nodes; see `AddBatchNorm`."""
    return BatchNorm(hidden_size, allow_single_element=True)
