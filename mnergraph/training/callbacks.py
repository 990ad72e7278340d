"""Callbacks of a run: checkpoints, random state, early stopping."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from torch import Tensor

from mnergraph.training.lightning_module import DEV_F1

LAST = "last.ckpt"
BEST = "best.ckpt"


class RNGStateCallback(Callback):
    """Saves the random state in every checkpoint and restores it before the first resumed step.

    Lightning does not, so dropout would differ after a resume.
    """

    def __init__(self) -> None:
        self._loaded: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        kind, keys, *rest = np.random.get_state(legacy=True)
        return {
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "numpy": [kind, torch.from_numpy(np.asarray(keys, dtype=np.int64)), *rest],
            "python": random.getstate(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._loaded = state

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        if self._loaded is None:
            return
        state, self._loaded = self._loaded, None
        torch.set_rng_state(state["torch"].cpu())
        if state["cuda"] and torch.cuda.device_count() == len(state["cuda"]):
            torch.cuda.set_rng_state_all([one.cpu() for one in state["cuda"]])
        kind, keys, *rest = state["numpy"]
        np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
        version, numbers, gauss = state["python"]
        random.setstate((version, tuple(numbers), gauss))


class MidEpochCheckpoint(ModelCheckpoint):
    """Saves the last checkpoint every n steps, but not at an epoch's last step.

    Lightning treats an epoch that was saved there as finished, and never scores it on dev after a resume.
    """

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Tensor | Mapping[str, Any] | None,
        batch: Any,
        batch_idx: int,
    ) -> None:
        if not trainer.is_last_batch:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)


class ResumableEarlyStopping(EarlyStopping):
    """Early stopping that also applies to a run that was killed between the decision to stop and its end."""

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        trainer.should_stop = trainer.should_stop or self.wait_count >= self.patience


def callbacks(folder: Path, *, patience: int | None, save_every: int) -> list[Callback]:
    """Return the callbacks: best checkpoint by dev F1, last one every ``save_every`` steps and epoch, patience."""
    best, last = (
        {"dirpath": folder, "filename": Path(name).stem, "enable_version_counter": False} for name in (BEST, LAST)
    )
    chosen: list[Callback] = [
        RNGStateCallback(),
        ModelCheckpoint(**best, monitor=DEV_F1, mode="max", save_weights_only=True),
        ModelCheckpoint(**last, every_n_epochs=1, save_on_train_epoch_end=True),
    ]
    if save_every:
        chosen.append(MidEpochCheckpoint(**last, every_n_train_steps=save_every))
    if patience is not None:
        chosen.append(ResumableEarlyStopping(DEV_F1, patience=patience, mode="max"))
    return chosen
