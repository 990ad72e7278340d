"""A finished training run that tests of its use share."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from mnergraph.cli.train import train
from mnergraph.data import Lookalikes
from mnergraph.features.vision.crops import RegionEncoder
from mnergraph.models import UMGF
from mnergraph.training import TrainerConfig


class Run(NamedTuple):
    """Posts, the run's folder, its model's folder and what `train` returned."""

    root: Path
    out: Path
    model: Path
    result: dict[str, Any]


def tiny_run(folder: Path) -> Run:
    """A tiny UMGF trained for one epoch on thirty drawn posts and their regions."""
    result = train(
        partial(Lookalikes, sizes=(30, 10, 10)),
        folder / "posts",
        partial(UMGF, hidden_size=16, num_heads=2, num_layers=1),
        folder / "out",
        regions=RegionEncoder(size=32),
        trainer=TrainerConfig(epochs=1, batch_size=10, accelerator="cpu", progress=False),
    )
    return Run(folder / "posts", folder / "out", folder / "out" / "model", result)
