"""Layers that depend on the epoch: when it is set, and what is saved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from mnergraph.models import Tagger
from mnergraph.nn.heads.scheduled_sampling import EpochAware, ProgressAware
from mnergraph.nn.state import GraphState
from mnergraph.pair import Pair
from mnergraph.training import LitTagger, TrainerConfig, fit

Posts = Callable[[int, int], list[Pair]]
Build = Callable[..., Tagger]
MakeLoop = Callable[..., TrainerConfig]
#: 8 posts in batches of 4, and half as many of dev in batches of 8.
TRAIN, DEV = (8, 1), (4, 2)


class Epochs(EpochAware):
    """Stores ten times the epoch, and records it at every forward pass, in training and on dev."""

    epoch: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("epoch", torch.tensor(-1))
        self.trained: list[int] = []
        self.scored: list[int] = []

    def on_epoch_start(self, epoch: int) -> None:
        self.epoch.fill_(10 * epoch)

    def forward(self, graph: GraphState) -> GraphState:
        (self.trained if self.training else self.scored).append(int(self.epoch))
        return graph


class Progress(ProgressAware):
    """Stores the progress of training, and records it at every forward pass in training."""

    progress: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("progress", torch.tensor(-1.0))
        self.trained: list[float] = []

    def on_progress(self, progress: float) -> None:
        self.progress.fill_(progress)

    def forward(self, graph: GraphState) -> GraphState:
        if self.training:
            self.trained.append(float(self.progress))
        return graph


class Killed(BaseException):
    """Simulates the end of the process."""


class KillAt(Callback):
    """Ends the run before a step of this epoch."""

    def __init__(self, epoch: int, step: int) -> None:
        self.at = epoch, step

    def on_train_batch_start(self, trainer, module, batch, step: int) -> None:
        if (trainer.current_epoch, step) == self.at:
            raise Killed


def scheduled(build: Build) -> tuple[Tagger, Epochs]:
    model, layer = build(), Epochs()
    model.layers.append(layer)
    return model, layer


def best_at(monkeypatch: pytest.MonkeyPatch, epoch: int) -> None:
    """Makes this epoch score best on dev."""

    def end(self: LitTagger) -> None:
        self._seen = []
        self.log("dev_f1", float(self.current_epoch == epoch))

    monkeypatch.setattr(LitTagger, "on_validation_epoch_end", end)


def test_epoch_aware_layers_must_define_on_epoch_start() -> None:
    with pytest.raises(TypeError, match="on_epoch_start"):
        EpochAware()  # type: ignore[abstract]


def test_the_epoch_is_set_before_every_epoch_and_saved_with_the_best_weights(
    build: Build, posts: Posts, loop: MakeLoop, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    best_at(monkeypatch, 1)
    model, layer = scheduled(build)
    fit(model, posts(*TRAIN), posts(*DEV), here, trainer=loop(epochs=3))
    assert layer.trained == [0, 0, 10, 10, 20, 20]
    assert layer.scored == [0, 10, 20]
    # the best epoch's weights come with that epoch's state
    assert int(layer.epoch) == 10
    for name, epoch in (("best", 10), ("last", 20)):
        kept = torch.load(here / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]
        assert int(kept[f"model.layers.{len(model.layers) - 1}.epoch"]) == epoch


@pytest.mark.parametrize("step", [0, 1, 3])
def test_a_resumed_run_has_its_epoch(step: int, build: Build, posts: Posts, loop: MakeLoop, here: Path) -> None:
    """Resumed between two epochs, and within one, where on_epoch_start is not called again."""
    train, dev = posts(20, 1), posts(*DEV)
    model, _ = scheduled(build)
    how = {"epochs": 3, "save_every": 1}
    with pytest.raises(Killed):
        fit(model, train, dev, here, trainer=loop(**how, lightning={"callbacks": [KillAt(1, step)]}))
    again, layer = scheduled(build)
    fit(again, train, dev, here, trainer=loop(**how), resume=True)
    assert layer.trained == [10] * (5 - step) + [20] * 5


def test_progress_aware_modules_must_define_on_progress() -> None:
    with pytest.raises(TypeError, match="on_progress"):
        ProgressAware()  # type: ignore[abstract]


@pytest.mark.parametrize("accumulated", [1, 2])
def test_progress_is_set_before_every_step(
    accumulated: int, build: Build, posts: Posts, loop: MakeLoop, here: Path
) -> None:
    model, layer = build(), Progress()
    model.heads["tags"].layer = layer  # of a head, as of a layer
    model.layers.append(layer)
    how = {"epochs": 3, "lightning": {"accumulate_grad_batches": accumulated}}
    fit(model, posts(16, 1), posts(*DEV), here, trainer=loop(**how))
    steps = 12 // accumulated
    assert layer.trained == pytest.approx([step / steps for step in range(steps) for _ in range(accumulated)])


def test_a_resumed_run_has_its_progress(build: Build, posts: Posts, loop: MakeLoop, here: Path) -> None:
    train, dev = posts(20, 1), posts(*DEV)
    how = {"epochs": 2, "save_every": 1}
    model = build()
    model.layers.append(Progress())
    with pytest.raises(Killed):
        fit(model, train, dev, here, trainer=loop(**how, lightning={"callbacks": [KillAt(1, 1)]}))
    again, layer = build(), Progress()
    again.layers.append(layer)
    fit(again, train, dev, here, trainer=loop(**how), resume=True)
    assert layer.trained == pytest.approx([step / 10 for step in range(6, 10)])
