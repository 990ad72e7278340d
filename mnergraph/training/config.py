"""Settings of the optimizer and of the trainer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

#: Lightning's precisions.
PRECISIONS = (
    "32-true",
    "bf16-mixed",
    "16-mixed",
    "bf16-true",
    "16-true",
    "64-true",
    "transformer-engine",
    "transformer-engine-float16",
    "64",
    "32",
    "16",
    "bf16",
)


@dataclass(frozen=True)
class OptimizerConfig:
    """Settings of AdamW: learning rates for the encoder, the heads and the rest, warm-up, linear decay.

    Args:
        encoder_lr: learning rate of the text encoder.
        lr: learning rate of everything else.
        head_lr: learning rate of the heads and of the maps to their scores (`Tagger.head_parameters`), such as a CRF's
            transitions, which some papers train at a much higher rate; None for ``lr``.
        weight_decay: of matrices; biases and norms have none.
        warmup: share of all steps in which the rates rise linearly from 0; then they fall linearly to 0.
    """

    encoder_lr: float = 1e-4
    lr: float = 1e-3
    head_lr: float | None = None
    weight_decay: float = 0.01
    warmup: float = 0.1

    def __post_init__(self) -> None:
        for name in ("encoder_lr", "lr", "head_lr"):
            rate = getattr(self, name)
            if not (rate is None and name == "head_lr") and not rate > 0:
                raise ValueError(f"{name} is a learning rate above 0, not {rate}")
        if not self.weight_decay >= 0:
            raise ValueError(f"weight_decay is 0 or more, not {self.weight_decay}")
        if not 0 <= self.warmup <= 1:
            raise ValueError(f"warmup is a share of the steps, 0 to 1, not {self.warmup}")

    def rate(self, step: int, steps: int) -> float:
        """Return the factor of the learning rate at a step of ``steps``, 0 to 1."""
        rising = self.warmup * steps
        if step < rising:
            return step / rising
        return max(0.0, (steps - step) / max(1.0, steps - rising))


@dataclass(frozen=True)
class TrainerConfig:
    """Settings of a training run: epochs, batches, devices, checkpoints and logs.

    Args:
        epochs: passes over the training posts.
        batch_size: posts per step and device.
        seed: of weights, dropout and the order of posts.
        monitor: the dev score that selects the checkpoint and that patience counts, as the logs name it; None for
            ``dev_f1``, or ``dev_grounding_gmner`` where the model grounds entities.
        patience: epochs without a better dev score before training stops; None trains all epochs.
        precision: Lightning's: ``32-true``, ``bf16-mixed``, ``16-mixed``, ...
        accelerator: Lightning's: ``auto``, ``cpu``, ``gpu``, ...
        devices: how many, or ``auto`` for all.
        save_every: steps between checkpoints to resume from, besides one after each epoch; 0 for none.
        logger: the format of the training curves, under ``logs/``.
        workers: processes that crop pixels and collate batches; see `GraphLoader`.
        progress: whether to show a progress bar.
        lightning: further arguments of ``lightning.Trainer``, such as ``gradient_clip_val``; its ``callbacks`` are
            added to the default ones.
    """

    epochs: int = 8
    batch_size: int = 16
    seed: int = 0
    monitor: str | None = None
    patience: int | None = None
    precision: str = "32-true"
    accelerator: str = "auto"
    devices: int | str = 1
    save_every: int = 500
    logger: Literal["csv", "tensorboard", "none"] = "csv"
    workers: int = 0
    progress: bool = True
    lightning: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is 1 or more, not {getattr(self, name)}")
        if self.patience is not None and self.patience < 1:
            raise ValueError(f"patience is 1 or more epochs, or None, not {self.patience}")
        if str(self.precision) not in PRECISIONS:
            raise ValueError(f"precision {self.precision!r} is not among {', '.join(PRECISIONS)}")
