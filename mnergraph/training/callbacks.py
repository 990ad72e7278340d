"""Callbacks of a run: checkpoints, random state, early stopping, signals."""

from __future__ import annotations

import random
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from torch import Tensor

from mnergraph.training.checkpoints import BEST, LAST, has_checkpoint
from mnergraph.training.interruption import INTERRUPTION, Stopped
from mnergraph.training.lightning_module import DEV_F1


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


class StopOnSignal(Callback):
    """Ends a run that a signal asks to stop after its step, with a checkpoint from which it continues.

    Args:
        last: the file of the last checkpoint.
    """

    def __init__(self, last: Path) -> None:
        self.last = last
        self._launcher: Any = None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        # Lightning's handler would end the process with status 0; it puts the former ones back in its teardown
        handler: object = signal.getsignal(signal.SIGINT)
        if handler is INTERRUPTION:
            INTERRUPTION.deferred = True
            signal.signal(signal.SIGTERM, self._handle)
            signal.signal(signal.SIGINT, self._handle)
        self._launcher = trainer.strategy.launcher

    def _handle(self, signum: int, frame: Any) -> None:
        if INTERRUPTION.requested is None and self._launcher is not None:
            self._launcher.kill(signal.Signals(signum))  # the processes of the other devices
        INTERRUPTION(signum, frame)

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        # before an epoch's first step the last checkpoint is that of the end of the epoch before
        if batch_idx == 0 and self._is_requested(trainer):
            self._raise()

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Tensor | Mapping[str, Any] | None,
        batch: Any,
        batch_idx: int,
    ) -> None:
        # at an epoch's last step a checkpoint would stand for the whole epoch, see `MidEpochCheckpoint`
        if not trainer.is_last_batch and self._is_requested(trainer):
            trainer.save_checkpoint(self.last)
            self._raise()

    def teardown(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        INTERRUPTION.deferred = False

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        INTERRUPTION.deferred = False

    def _is_requested(self, trainer: lightning.Trainer) -> bool:
        """Return whether any device's process has been asked to stop."""
        own = INTERRUPTION.requested is not None
        return bool(trainer.strategy.reduce_boolean_decision(own, all=False)) if trainer.world_size > 1 else own

    def _raise(self) -> None:
        signum, INTERRUPTION.requested = INTERRUPTION.requested or signal.SIGTERM, None
        raise Stopped(signum, continue_from(self.last))


def continue_from(last: Path) -> str:
    """Return what a run that has ended keeps, for the user."""
    if has_checkpoint(last.parent):
        return f"{last} is kept; the same command with --resume true continues from there"
    return "there was no checkpoint yet"


def callbacks(folder: Path, *, patience: int | None, save_every: int, monitor: str = DEV_F1) -> list[Callback]:
    """Return the callbacks: best checkpoint by a dev score, last one every ``save_every`` steps and epoch, patience."""
    best, last = (
        {"dirpath": folder, "filename": Path(name).stem, "enable_version_counter": False} for name in (BEST, LAST)
    )
    chosen: list[Callback] = [
        RNGStateCallback(),
        ModelCheckpoint(**best, monitor=monitor, mode="max", save_weights_only=True),
        ModelCheckpoint(**last, every_n_epochs=1, save_on_train_epoch_end=True),
        StopOnSignal(folder / LAST),
    ]
    if save_every:
        chosen.append(MidEpochCheckpoint(**last, every_n_train_steps=save_every))
    if patience is not None:
        chosen.append(ResumableEarlyStopping(monitor, patience=patience, mode="max"))
    return chosen
