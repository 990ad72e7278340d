"""Training by Lightning: from pairs to the weights of the best checkpoint."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch import Tensor
from torch_geometric.data import HeteroData

from mnergraph.data.missing_evidence import count_missing
from mnergraph.data.processor import ProcessorConfig
from mnergraph.graph.collate import store_values
from mnergraph.models.base import Tagger
from mnergraph.nn.encoders.visual import ObjectEncoder, Standardize
from mnergraph.nn.heads.grounding import GROUNDING
from mnergraph.pair import Pair
from mnergraph.quoting import listed
from mnergraph.training.callbacks import callbacks
from mnergraph.training.checkpoints import (
    LAST,
    AtomicCheckpointIO,
    best_weights,
    has_checkpoint,
    readable_checkpoint,
    require_same_weights,
)
from mnergraph.training.config import OptimizerConfig, TrainerConfig
from mnergraph.training.evaluate import _require_labels
from mnergraph.training.label_sets import build_for_scoring
from mnergraph.training.lightning_module import DEV_F1, LitTagger
from mnergraph.training.loader import GraphLoader
from mnergraph.training.precision import use_cached_bfloat16


def fit(
    model: Tagger,
    train: Sequence[Pair],
    dev: Sequence[Pair],
    folder: str | Path,
    *,
    optimizer: OptimizerConfig | None = None,
    trainer: TrainerConfig | None = None,
    resume: bool = False,
) -> Tagger:
    """Return the model trained, with the weights of the epoch with the best dev F1.

    Kinds of evidence that the model reads and no training post has, such as region features, are added to
    ``model.processor_config.allow_missing``: prediction does not ask for them.

    Args:
        model: the model, as built; seed torch before building it for the same initial weights.
        train: the training posts, labelled.
        dev: the posts by which the checkpoint is selected, labelled; entities of types that the model does not have
            count as missed.
        folder: the folder of checkpoints and logs.
        optimizer: learning rates and their schedule.
        trainer: epochs, batches, devices and logs.
        resume: continue from ``folder/checkpoints/last.ckpt``, mid-epoch if need be, with the results of an
            uninterrupted run; where it is damaged, from the one before, with a warning.

    Raises:
        FloatingPointError: when the loss is not finite.
        FileNotFoundError: when there is no checkpoint to resume from.
        FileExistsError: when there is one, and ``resume`` is off.
        ValueError: when there are no posts, or some without labels or, where the model grounds entities, without gold
            boxes; when no checkpoint can be read, or it is of
            another model.
        ModuleNotFoundError: when ``logger`` is tensorboard and TensorBoard is not installed.
    """
    settings, optimizer = trainer or TrainerConfig(), optimizer or OptimizerConfig()
    folder = Path(folder)
    checkpoints = folder / "checkpoints"
    checkpoint = readable_checkpoint(checkpoints) if resume else None
    if not resume and has_checkpoint(checkpoints):
        raise FileExistsError(f"{checkpoints / LAST} is there from another run: resume it, or choose another folder")
    for name, posts in (("train", train), ("dev", dev)):
        if not posts:
            raise ValueError(f"there are no {name} posts")
        _require_labels(posts)
        _require_gold_boxes(model, name, posts)
    # encoders are loaded in evaluation mode, and Lightning keeps the mode
    model.train()
    with _silence_lightning():
        lightning.seed_everything(settings.seed, workers=True, verbose=False)
        lit_trainer = _trainer(
            max_epochs=settings.epochs,
            precision=settings.precision,
            accelerator=settings.accelerator,
            devices=settings.devices,
            logger=_logger(settings.logger, folder),
            callbacks=[
                *callbacks(
                    checkpoints,
                    patience=settings.patience,
                    save_every=settings.save_every,
                    monitor=settings.monitor or monitor_of(model),
                ),
                *settings.lightning.get("callbacks", ()),
            ],
            plugins=[AtomicCheckpointIO(), *settings.lightning.get("plugins", ())],
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
            enable_model_summary=False,
            enable_progress_bar=settings.progress,
            **{name: value for name, value in settings.lightning.items() if name not in ("callbacks", "plugins")},
        )
        use_cached_bfloat16(lit_trainer)
        build, finish = model.builder.build, model.builder.load_image_tensors
        graphs = [build(pair) for pair in train]
        _fit_normalizers(model, graphs)
        batches = GraphLoader(
            graphs, settings.batch_size, shuffle=True, seed=settings.seed, workers=settings.workers, finish=finish
        )
        # every device needs a batch of dev
        devices = lit_trainer.world_size
        if len(dev) < devices:
            raise ValueError(f"{len(dev)} dev posts can't be shared by {devices} devices")
        dev_batch = min(2 * settings.batch_size, -(-len(dev) // devices))
        training = LitTagger(model, optimizer, batches)
        if checkpoint is not None:
            require_same_weights(checkpoint, training.state_dict())
        lit_trainer.fit(
            training,
            batches,
            GraphLoader([build_for_scoring(model, pair) for pair in dev], dev_batch, shuffle=False, finish=finish),
            ckpt_path=checkpoint,
        )
    training.load_state_dict(best_weights(checkpoints))
    _allow_missing(model, train)
    return model.eval()


def monitor_of(model: Tagger) -> str:
    """Return the name of the dev score that selects a model's checkpoint: GMNER F1 where it grounds entities, or F1."""
    return DEV_F1 if model.grounding_head is None else f"dev_{GROUNDING}_gmner"


def _allow_missing(model: Tagger, posts: Sequence[Pair]) -> None:
    """Add the kinds of evidence that no training post had to those that prediction does not ask for."""
    missing = count_missing(model.builder, posts)
    absent = sorted(kind for kind, ids in missing.items() if len(ids) == len(posts))
    if absent:
        config = model.processor_config or ProcessorConfig()
        allowed = tuple(dict.fromkeys((*config.allow_missing, *absent)))
        model.processor_config = replace(config, allow_missing=allowed)


def _require_gold_boxes(model: Tagger, name: str, posts: Sequence[Pair]) -> None:
    """Raise an error for posts without gold boxes where the model grounds entities."""
    lacking = [pair.id for pair in posts if pair.grounding is None]
    if model.grounding_head is not None and lacking:
        raise ValueError(
            f"{len(lacking)} of {len(posts)} {name} posts have no gold boxes, which a model with grounding learns "
            f"from: {listed(lacking)}; put boxes.jsonl beside the text, or leave out grounding"
        )


def is_first_process() -> bool:
    """Return whether this process is that of the first device, which writes files and prints."""
    return int(rank_zero_only.rank) == 0


def _fit_normalizers(model: Tagger, graphs: Sequence[HeteroData]) -> None:
    """Fit the normalization of region vectors, and of other features that are standardized, to the training posts."""
    encoders = [module for module in model.modules() if isinstance(module, ObjectEncoder)]
    if encoders and "x" in graphs[0]["object"]:
        regions = torch.cat([graph["object"].x[graph["object"].has_x] for graph in graphs])
        for encoder in encoders:
            encoder.fit_normalization(regions)
    for module in model.modules():
        if isinstance(module, Standardize):
            module.fit(rows for node_type in module.node_types for rows in _features(graphs, node_type))


def _features(graphs: Sequence[HeteroData], node_type: str) -> Iterator[Tensor]:
    """Yield the features of a node type's nodes that have any, of every post."""
    for graph in graphs:
        store = store_values(graph, node_type)
        yield store["x"][store["has_x"]] if "has_x" in store else store["x"]


def _trainer(**arguments: Any) -> lightning.Trainer:
    """Return Lightning's trainer; a setting that it does not accept is a ValueError."""
    try:
        return lightning.Trainer(**arguments)
    except MisconfigurationException as error:
        raise ValueError(str(error)) from error


def _logger(name: str, folder: Path) -> Logger | bool:
    if name == "none":
        return False
    if name == "csv":
        return CSVLogger(folder, name="logs")
    try:
        return TensorBoardLogger(folder, name="logs")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "logger='tensorboard' needs TensorBoard: pip install mnergraph[logging], or take logger='csv'"
        ) from error


@contextmanager
def _silence_lightning() -> Any:
    """Suppress Lightning's advice that does not apply here.

    The loader needs no workers, small data logs seldom, a resumed run's folder is not empty, an image backbone's
    batch norms stay in evaluation mode, and torch's deprecation in Lightning's code is not the user's.
    """
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    with warnings.catch_warnings():
        for message in (
            ".*does not have many workers",
            ".*smaller than the logging interval",
            ".*exists and is not empty",
            r".*isinstance\(treespec, LeafSpec\)",
            r"Found \d+ module\(s\) in eval mode",
        ):
            warnings.filterwarnings("ignore", message=message)
        logger.setLevel(logging.WARNING)
        try:
            yield
        finally:
            logger.setLevel(level)
