"""Mixed precision in bfloat16: weights used several times in a step are cast once, and a fused optimizer may clip."""

from __future__ import annotations

from typing import Literal

import lightning
import torch
from lightning.pytorch.plugins.precision import MixedPrecision, Precision
from lightning.pytorch.utilities import GradClipAlgorithmType
from torch.nn import functional
from torch.optim import Optimizer


class BFloat16Mixed(MixedPrecision):
    """Lightning's mixed precision in bfloat16, with autocast's cache and with clipping for a fused optimizer.

    Every forward is an autocast region of its own, at whose end the casts are dropped, so none is older than the
    optimizer's step. Within one, Lightning 2.6 casts a weight at every use, as PyTorch once kept casts made under
    ``no_grad``, through which no gradient passes (Lightning-AI/pytorch-lightning#20644). The cache is used where it
    keeps no such casts.

    Lightning refuses to clip where a fused optimizer unscales gradients itself. In bfloat16 they are not scaled.

    Args:
        device: type of the device, such as ``cpu``.
    """

    def __init__(self, device: str) -> None:
        precision: Literal["bf16-mixed"] = "bf16-mixed"
        super().__init__(precision, device)
        self.has_cache = keeps_gradients(device)

    def autocast_context_manager(self) -> torch.autocast:
        """Return the context of a forward."""
        return torch.autocast(self.device, dtype=torch.bfloat16, cache_enabled=self.has_cache)

    def clip_gradients(
        self,
        optimizer: Optimizer,
        clip_val: int | float = 0.0,
        gradient_clip_algorithm: GradClipAlgorithmType = GradClipAlgorithmType.NORM,
    ) -> None:
        """Clip the gradients, as in full precision."""
        Precision.clip_gradients(self, optimizer, clip_val, gradient_clip_algorithm)


def keeps_gradients(device: str) -> bool:
    """Return whether autocast with its cache passes gradients to a weight that was used under ``no_grad`` before."""
    weight, x = torch.ones(1, 1, device=device, requires_grad=True), torch.ones(1, 1, device=device)
    with torch.autocast(device, dtype=torch.bfloat16, cache_enabled=True):
        with torch.no_grad():
            functional.linear(x, weight)
        return bool(functional.linear(x, weight).requires_grad)


def use_cached_bfloat16(trainer: lightning.Trainer) -> None:
    """Replace Lightning's own mixed precision of a trainer by `BFloat16Mixed` where it is one in bfloat16."""
    plugin = trainer.precision_plugin
    if type(plugin) is MixedPrecision and plugin.precision == "bf16-mixed":
        trainer.strategy.precision_plugin = BFloat16Mixed(plugin.device)


def refuses_to_clip_fused(plugin: Precision) -> bool:
    """Return whether a precision refuses to clip gradients for a fused optimizer, as Lightning's mixed ones do."""
    return isinstance(plugin, MixedPrecision) and not isinstance(plugin, BFloat16Mixed)
