"""Mixed precision in bfloat16: casts kept within a forward and not beyond, gradients clipped for a fused optimizer."""

from __future__ import annotations

from pathlib import Path

import lightning
import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from mnergraph.training.precision import BFloat16Mixed, use_cached_bfloat16


class Casts(TorchDispatchMode):
    """Counts the casts to bfloat16 of tensors of a weight's shape."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape, self.count = shape, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        found = func(*args, **(kwargs or {}))
        if func is torch.ops.aten._to_copy.default and found.dtype == torch.bfloat16:
            self.count += tuple(found.shape) == self.shape
        return found


@pytest.fixture
def layer() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(6, 6)


@pytest.fixture
def x() -> Tensor:
    return torch.randn(5, 6, generator=torch.Generator().manual_seed(1))


def trainer(here: Path, precision: str) -> lightning.Trainer:
    return lightning.Trainer(
        precision=precision,  # type: ignore[arg-type]
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=here,
    )


def test_a_weight_used_twice_is_cast_once(layer: nn.Linear, x: Tensor) -> None:
    for plugin, casts in ((BFloat16Mixed("cpu"), 1), (MixedPrecision("bf16-mixed", "cpu"), 2)):
        with Casts((6, 6)) as counted, plugin.forward_context():
            layer(layer(x))
        assert counted.count == casts


def test_steps_of_a_weight_used_twice(layer: nn.Linear, x: Tensor) -> None:
    """Casts do not outlive the optimizer's step: losses are those of a run that casts at every use."""
    losses = []
    for plugin in (BFloat16Mixed("cpu"), MixedPrecision("bf16-mixed", "cpu")):
        torch.manual_seed(0)
        layer.reset_parameters()
        optimizer, run = torch.optim.AdamW(layer.parameters(), 0.05, fused=True), []
        for _ in range(6):
            with plugin.forward_context():
                loss = layer(layer(x).relu()).float().square().sum()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            run.append(loss.item())
        losses.append(run)
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)
    assert losses[0][-1] < 0.7 * losses[0][0]


def test_gradients_after_use_without_gradients(layer: nn.Linear, x: Tensor) -> None:
    with BFloat16Mixed("cpu").forward_context():
        with torch.no_grad():
            target = layer(x)
        loss = (layer(x) - target + 1).float().square().sum()
    loss.backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.abs().sum() > 0


def test_gradients_with_checkpoints(layer: nn.Linear, x: Tensor) -> None:
    gradients = []
    for is_checkpointed in (False, True):
        layer.zero_grad()
        with BFloat16Mixed("cpu").forward_context():
            hidden = checkpoint(layer, x, use_reentrant=False) if is_checkpointed else layer(x)
            loss = layer(hidden).float().square().sum()
        loss.backward()
        assert layer.weight.grad is not None
        gradients.append(layer.weight.grad.clone())
    assert torch.allclose(*gradients, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("algorithm", ["norm", "value"])
def test_gradients_are_clipped_for_a_fused_optimizer(layer: nn.Linear, algorithm: str, here: Path) -> None:
    found = trainer(here, "bf16-mixed")
    use_cached_bfloat16(found)
    found.strategy.connect(lightning.LightningModule())
    optimizer = torch.optim.AdamW(layer.parameters(), 0.1, fused=True)
    for weight in layer.parameters():
        weight.grad = torch.full_like(weight, 3.0)
    kind = lightning.pytorch.utilities.GradClipAlgorithmType(algorithm)
    found.precision_plugin.clip_gradients(optimizer, 0.5, kind)
    gradients = torch.cat([weight.grad.flatten() for weight in layer.parameters() if weight.grad is not None])
    largest = gradients.norm() if algorithm == "norm" else gradients.max()
    assert largest.item() == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize(("precision", "is_replaced"), [("32-true", False), ("bf16-true", False), ("bf16-mixed", True)])
def test_which_precision_is_replaced(precision: str, is_replaced: bool, here: Path) -> None:
    found = trainer(here, precision)
    before = found.precision_plugin
    use_cached_bfloat16(found)
    assert isinstance(found.precision_plugin, BFloat16Mixed) is is_replaced
    assert is_replaced or found.precision_plugin is before


def test_a_precision_of_ones_own_is_kept(here: Path) -> None:
    class Own(MixedPrecision):
        pass

    own = Own("bf16-mixed", "cpu")
    found = lightning.Trainer(plugins=[own], accelerator="cpu", logger=False, enable_checkpointing=False)
    use_cached_bfloat16(found)
    assert found.precision_plugin is own
