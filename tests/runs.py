"""A finished training run, shared by the tests that load its model."""

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
    """Folders of the posts, the run and the model, and the result of `train`."""

    root: Path
    out: Path
    model: Path
    result: dict[str, Any]


def tiny_run(folder: Path) -> Run:
    """Return the run of a tiny UMGF, trained for one epoch on thirty generated posts with region vectors."""
    result = train(
        partial(Lookalikes, sizes=(30, 10, 10)),
        folder / "posts",
        partial(UMGF, hidden_size=16, num_heads=2, num_layers=1),
        folder / "out",
        regions=RegionEncoder(size=32),
        trainer=TrainerConfig(epochs=1, batch_size=10, accelerator="cpu", progress=False),
    )
    return Run(folder / "posts", folder / "out", folder / "out" / "model", result)
