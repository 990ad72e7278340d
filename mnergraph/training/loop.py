"""How long a model trains, on what, and what a run leaves behind."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Loop:
    """How long and on what a model trains.

    Args:
        epochs: passes over the training posts.
        batch_size: posts per step and device.
        seed: of weights, dropout and the order of posts.
        patience: epochs without a better dev F1 before training stops; None trains all epochs.
        precision: Lightning's: ``32-true``, ``bf16-mixed``, ``16-mixed``, ...
        accelerator: Lightning's: ``auto``, ``cpu``, ``gpu``, ...
        devices: how many, or ``auto`` for all.
        save_every: steps between checkpoints to resume from, besides one after each epoch; 0 for none.
        logger: where the curves go, under ``logs/``.
        workers: processes that cut pixels and collate batches; see `Batches`.
        progress: whether to show a progress bar.
        trainer: further arguments of ``lightning.Trainer``, such as ``gradient_clip_val``; ``callbacks`` join
            ours.
    """

    epochs: int = 8
    batch_size: int = 16
    seed: int = 0
    patience: int | None = None
    precision: str = "32-true"
    accelerator: str = "auto"
    devices: int | str = 1
    save_every: int = 500
    logger: Literal["csv", "tensorboard", "none"] = "csv"
    workers: int = 0
    progress: bool = True
    trainer: dict[str, Any] = field(default_factory=dict)
