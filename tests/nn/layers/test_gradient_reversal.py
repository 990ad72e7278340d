"""Gradient reversal: the identity forward, -alpha backward, and alpha by the progress of training."""

from __future__ import annotations

import math

import pytest
import torch

from mnergraph.nn.layers.gradient_reversal import GradientReversal


@pytest.mark.parametrize("progress", [0.0, 0.1, 0.5, 1.0])
def test_alpha(progress: float) -> None:
    layer = GradientReversal()
    assert float(layer.alpha) == 0.0, "before training"
    layer.on_progress(progress)
    assert float(layer.alpha) == pytest.approx(2 / (1 + math.exp(-10 * progress)) - 1)
    slow = GradientReversal(steepness=2.0, max_alpha=0.5)
    slow.on_progress(progress)
    assert float(slow.alpha) == pytest.approx(1 / (1 + math.exp(-2 * progress)) - 0.5)
    again = GradientReversal()
    again.load_state_dict(layer.state_dict())
    assert torch.equal(again.alpha, layer.alpha)


def test_gradient() -> None:
    layer, x = GradientReversal(), torch.randn(4, 3, requires_grad=True)
    layer.on_progress(0.2)
    weights = torch.randn(4, 3)
    found = layer(x)
    assert torch.equal(found, x)
    # a later step of training does not change the gradient of an earlier forward pass
    layer.on_progress(1.0)
    (found * weights).sum().backward()
    torch.testing.assert_close(x.grad, -(2 / (1 + math.exp(-2)) - 1) * weights)
    assert layer(x[:0]).shape == (0, 3)


def test_gradient_is_zero_before_training() -> None:
    x = torch.randn(4, 3, requires_grad=True)
    GradientReversal()(x).sin().sum().backward()
    assert x.grad is not None
    assert not x.grad.any()
