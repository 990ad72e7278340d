"""Checkpoints on disk: written beside the last one and renamed, so that there is always one to continue from."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from mnergraph.files import replacing, tensor_file_errors

LAST = "last.ckpt"
BEST = "best.ckpt"
#: The last checkpoint but one.
PREVIOUS = "previous.ckpt"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints on the file system of their folder, and keeps the last one but one.

    Lightning's own are written to the folder of temporary files, which may be on another, and smaller, file system.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write a checkpoint.

        Raises:
            OSError: when it can't be written; the ones before are kept.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as unfinished:
            with tensor_file_errors(path):
                torch.save(checkpoint, unfinished)
            if path.name == LAST and path.is_file():
                path.replace(path.with_name(PREVIOUS))


def has_checkpoint(folder: Path) -> bool:
    """Return whether a run has begun in a folder of checkpoints, so that it can be continued."""
    return any((folder / name).is_file() for name in (LAST, PREVIOUS))


def readable_checkpoint(folder: Path) -> Path:
    """Return the newest checkpoint from which a run can continue, with a warning if it is the last but one.

    Args:
        folder: of the checkpoints.

    Raises:
        FileNotFoundError: when there is none.
        ValueError: when none can be read, or the best weights so far can't be.
    """
    if not has_checkpoint(folder):
        raise FileNotFoundError(f"nothing to resume: there is no {folder / LAST}")
    faults: list[str] = []
    for path in (folder / LAST, folder / PREVIOUS):
        fault = damage(path) if path.is_file() else "it is missing"
        if fault is None:
            if (folder / BEST).is_file():  # not before the first epoch's end
                _require_readable(folder / BEST)
            if faults:
                warnings.warn(f"{'; '.join(faults)}: the run continues from {path.name}", stacklevel=2)
            return path
        faults.append(f"{path} can't be read: {fault}")
    raise ValueError(f"{'; '.join(faults)}. Train anew, with another folder")


def best_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Return the weights of the best epoch by name.

    Args:
        folder: of the checkpoints.

    Raises:
        ValueError: when they can't be read.
    """
    _require_readable(folder / BEST)
    weights: dict[str, torch.Tensor] = torch.load(folder / BEST, map_location="cpu", weights_only=True)["state_dict"]
    return weights


def require_same_weights(path: Path, weights: Mapping[str, torch.Tensor]) -> None:
    """Hold a checkpoint against the model that is to continue from it.

    Args:
        path: the checkpoint.
        weights: of the model, by name.

    Raises:
        ValueError: when names or shapes differ.
    """
    saved = torch.load(path, map_location="cpu", weights_only=True, mmap=True)["state_dict"]
    for name in sorted({*saved, *weights}):
        there, here = (tuple(one[name].shape) if name in one else "missing" for one in (saved, weights))
        if there != here:
            raise ValueError(f"{path} is of another model: {name} is {there} there and {here} here")


def _require_readable(path: Path) -> None:
    """Raise a ValueError where the weights of the best epoch can't be read."""
    fault = damage(path)
    if fault is not None:
        raise ValueError(f"{path} can't be read: {fault}. Train anew, with another folder")


def damage(path: Path) -> str | None:
    """Return why a checkpoint can't be read, or None; all of it is read and held against its checksums."""
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
        if broken is not None:
            return f"its part {broken} is damaged"
        torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # unpickling damaged bytes raises errors of many types
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return None
