"""Callbacks of a run."""

from __future__ import annotations

import io
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from mnergraph.training.callbacks import (
    MidEpochCheckpoint,
    ResumableEarlyStopping,
    RNGStateCallback,
    StopOnSignal,
    callbacks,
)
from mnergraph.training.checkpoints import BEST, LAST


def draw() -> tuple[Any, ...]:
    """Numbers of every generator, also Gaussian ones, which cache a number."""
    return (
        torch.rand(3).tolist(),
        np.random.rand(3).tolist(),
        np.random.randn(),
        random.random(),
        random.gauss(0, 1),
    )


def test_random_state_survives_a_safe_checkpoint() -> None:
    np.random.randn()
    random.gauss(0, 1)
    file = io.BytesIO()
    torch.save(RNGStateCallback().state_dict(), file)
    expected = draw()
    draw()
    file.seek(0)
    back = RNGStateCallback()
    back.load_state_dict(torch.load(file, weights_only=True))
    assert draw() != expected
    back.on_train_start(SimpleNamespace(), SimpleNamespace())  # type: ignore[arg-type]
    assert draw() == expected
    # once only: nothing is put back when there was nothing to resume, or a second time
    back.on_train_start(SimpleNamespace(), SimpleNamespace())  # type: ignore[arg-type]
    assert draw() != expected


def test_callbacks_of_a_run(tmp_path: Path) -> None:
    kinds = [type(one) for one in callbacks(tmp_path, patience=None, save_every=0)]
    assert kinds == [RNGStateCallback, ModelCheckpoint, ModelCheckpoint, StopOnSignal]
    *_, mid, patience = callbacks(tmp_path, patience=3, save_every=7)
    assert isinstance(mid, MidEpochCheckpoint)
    assert isinstance(patience, ResumableEarlyStopping)
    assert (patience.patience, patience.monitor, patience.mode) == (3, "dev_f1", "max")
    names = [
        one.format_checkpoint_name({})
        for one in callbacks(tmp_path, patience=None, save_every=7)
        if isinstance(one, ModelCheckpoint)
    ]
    assert [Path(name).name for name in names] == [BEST, LAST, LAST]


@pytest.mark.parametrize("last", [True, False])
def test_no_checkpoint_at_an_epoch_s_last_step(tmp_path: Path, last: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = []
    monkeypatch.setattr(ModelCheckpoint, "on_train_batch_end", lambda *_: saved.append(True))
    trainer = SimpleNamespace(is_last_batch=last)
    MidEpochCheckpoint(tmp_path, every_n_train_steps=1).on_train_batch_end(trainer, SimpleNamespace(), None, None, 0)  # type: ignore[arg-type]
    assert saved == ([] if last else [True])


def test_exhausted_patience_is_restored() -> None:
    for waited, stops in ((0, False), (1, False), (2, True)):
        trainer, patience = (
            SimpleNamespace(should_stop=False),
            ResumableEarlyStopping("dev_f1", patience=2, mode="max"),
        )
        patience.load_state_dict({**EarlyStopping("dev_f1").state_dict(), "wait_count": waited, "patience": 2})
        patience.on_train_start(trainer, SimpleNamespace())  # type: ignore[arg-type]
        assert trainer.should_stop is stops
