"""Training from pairs to the best checkpoint's weights, and scoring."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import lightning
import torch
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from tqdm.auto import tqdm

from mnergraph.evaluation import Scores, score
from mnergraph.graph import Pair
from mnergraph.models.base import Tagger
from mnergraph.training.callbacks import BEST, LAST, callbacks
from mnergraph.training.loader import Batches
from mnergraph.training.module import Optimisation, Training, gold_and_predicted


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
        save_every: steps between checkpoints to resume from, besides one after each epoch; 0 for none between.
        logger: where the curves go, under ``logs/``.
        workers: processes that collate batches; see `Batches`.
        progress: whether to show a progress bar.
        trainer: further arguments of ``lightning.Trainer``, such as ``gradient_clip_val``.
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


def fit(
    model: Tagger,
    train: Sequence[Pair],
    dev: Sequence[Pair],
    folder: Path,
    *,
    optimisation: Optimisation | None = None,
    loop: Loop | None = None,
    resume: bool = False,
) -> Tagger:
    """Trains a model and gives it the weights of the epoch with the best dev F1.

    Args:
        model: the model, as built; seed torch before building it for the same weights each time.
        train: the posts to learn from, labelled.
        dev: the posts that choose the checkpoint, labelled; nothing else does.
        folder: where checkpoints and logs go.
        optimisation: how weights learn.
        loop: how long and on what.
        resume: go on from ``folder/checkpoints/last.ckpt``, mid-epoch if need be, as if never stopped.

    Raises:
        FloatingPointError: when the loss is not finite.
        FileNotFoundError: when there is nothing to resume.
        FileExistsError: when there is, and ``resume`` is off.
    """
    loop, optimisation = loop or Loop(), optimisation or Optimisation()
    checkpoints = folder / "checkpoints"
    last = checkpoints / LAST
    if resume and not last.is_file():
        raise FileNotFoundError(f"nothing to resume: there is no {last}")
    if not resume and last.exists():
        raise FileExistsError(f"{last} is there from another run: resume it, or choose another folder")
    for name, posts in (("train", train), ("dev", dev)):
        if not posts:
            raise ValueError(f"there are no {name} posts")
    with _quiet():
        lightning.seed_everything(loop.seed, workers=True, verbose=False)
        trainer = lightning.Trainer(
            max_epochs=loop.epochs,
            precision=loop.precision,  # type: ignore[arg-type]
            accelerator=loop.accelerator,
            devices=loop.devices,
            logger=_logger(loop.logger, folder),
            callbacks=callbacks(checkpoints, patience=loop.patience, save_every=loop.save_every),
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
            enable_model_summary=False,
            enable_progress_bar=loop.progress,
            **loop.trainer,
        )
        training = Training(model, optimisation)
        trainer.fit(
            training,
            Batches(model.builder.build(train), loop.batch_size, shuffle=True, seed=loop.seed, workers=loop.workers),
            Batches(model.builder.build(dev), 2 * loop.batch_size, shuffle=False),
            ckpt_path=last if resume else None,
        )
    best = torch.load(checkpoints / BEST, map_location="cpu", weights_only=True)
    training.load_state_dict(best["state_dict"])
    return model.eval()


@torch.inference_mode()
def evaluate(
    model: Tagger, pairs: Sequence[Pair], *, batch_size: int = 32, progress: bool = True
) -> tuple[Scores, list[list[str]]]:
    """Scores of a model on labelled posts, and the tags it gives them, in the posts' order."""
    unlabelled = [pair.id for pair in pairs if pair.labels is None]
    if unlabelled:
        raise ValueError(f"posts without labels can't be scored: {', '.join(map(repr, unlabelled[:5]))}")
    loader = Batches(model.builder.build(pairs), batch_size, shuffle=False)
    device = next(model.parameters()).device
    predicted: dict[int, list[str]] = {}
    model.eval()
    bar = tqdm(total=len(pairs), desc="evaluating", unit="post", disable=not progress)
    with bar:
        for places, batch in zip(loader.order, loader, strict=True):
            _, tags = gold_and_predicted(model, batch.to(device))
            predicted |= dict(zip(places, tags, strict=True))
            bar.update(len(places))
    in_order = [predicted[place] for place in range(len(pairs))]
    return score([pair.labels or () for pair in pairs], in_order), in_order


def _logger(name: str, folder: Path) -> Logger | bool:
    if name == "none":
        return False
    kind = {"csv": CSVLogger, "tensorboard": TensorBoardLogger}[name]
    return kind(folder, name="logs")


@contextmanager
def _quiet() -> Any:
    """Without Lightning's advice that does not fit: our loader needs no workers, small data logs seldom."""
    with warnings.catch_warnings():
        for advice in (".*does not have many workers", ".*smaller than the logging interval", ".*exists and is not empty"):
            warnings.filterwarnings("ignore", message=advice)
        yield
