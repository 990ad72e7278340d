"""Scores of pairs of nodes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PairScores(nn.Module):
    """One score for each of a node's candidates, from both and their elementwise product.

    s(i, j) = w . gelu(W_1 x_i + W_2 y_j + W_3 (x_i * y_j) + b)

    Args:
        hidden_size: features of nodes and candidates.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.node, self.candidate = nn.Linear(hidden_size, hidden_size), nn.Linear(hidden_size, hidden_size, bias=False)
        self.product = nn.Linear(hidden_size, hidden_size, bias=False)
        self.score = nn.Linear(hidden_size, 1, bias=False)

    def forward(self, candidates: Tensor, x: Tensor) -> Tensor:
        """``[nodes, candidates, hidden_size]``, ``[nodes, hidden_size]`` -> ``[nodes, candidates]``."""
        node = x[:, None]
        hidden = self.node(node) + self.candidate(candidates) + self.product(node * candidates)
        return torch.squeeze(self.score(F.gelu(hidden)), -1)
