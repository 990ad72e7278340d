"""Features of the same nodes, joined to one."""

from __future__ import annotations

import torch
from torch import nn

from mnergraph.models.mgcmt.layers import ConcatModule, ProjectAndAdd


def test_joined() -> None:
    a, b, c = torch.randn(5, 3), torch.randn(5, 2), torch.randn(5, 1)
    linear = nn.Linear(6, 4)
    expected = [linear.weight @ torch.tensor([*a[i], *b[i], *c[i]]) + linear.bias for i in range(5)]
    torch.testing.assert_close(ConcatModule(linear)(a, b, c), torch.stack(expected))
    assert ConcatModule(nn.Identity())(a[:0], b[:0]).shape == (0, 5)


def test_add_linear() -> None:
    part = ProjectAndAdd(4, 3)
    x, message = torch.randn(5, 4), torch.randn(5, 3)
    expected = [x[i] + part.linear.weight @ message[i] + part.linear.bias for i in range(5)]
    torch.testing.assert_close(part(x, message), torch.stack(expected))
    torch.testing.assert_close(part(x, torch.zeros(5, 3)), x + part.linear.bias)
