"""Features computed beforehand, per post id, in one safetensors file.

``features.safetensors`` holds ``objects/<id>`` or plain ``<id>``, ``[objects, features]``, one row per object
in the order of the line in ``objects.jsonl``, and ``image/<id>``, ``[grid, features]``: float32, float16 or
bfloat16, read as float32. Float32 stays mapped from the file; only what a batch touches takes memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mnergraph.data.formats.evidence_jsonl import EvidenceError
from mnergraph.files import write_tensors

FLOATS = (torch.float32, torch.float16, torch.bfloat16)


def write_features(regions: Mapping[str, Tensor], images: Mapping[str, Tensor], path: str | Path) -> None:
    """Write region vectors and image features by post id, for ``Features`` to read."""
    named = {f"objects/{key}": rows for key, rows in regions.items()}
    named |= {f"image/{key}": rows for key, rows in images.items()}
    write_tensors(Path(path), {name: rows.contiguous() for name, rows in named.items()})


#: The largest number in features.
MAX_FEATURE = 1e6


class Features:
    """An open ``features.safetensors``; see ``open_features``."""

    def __init__(self, path: Path, file: Any) -> None:
        self.path = path
        self._file = file
        self._keys = frozenset(file.keys())

    def ids(self, kind: str) -> set[str]:
        """The post ids with features of a kind, "objects" or "image"."""
        found = {key.removeprefix(f"{kind}/") for key in self._keys if key.startswith(f"{kind}/")}
        return found | {key for key in self._keys if "/" not in key} if kind == "objects" else found

    def regions(self, key: str, objects: int) -> Tensor | None:
        """Region vectors of a post with this many objects, ``[objects, features]``, or None."""
        names = [name for name in (f"objects/{key}", key) if name in self._keys]
        if len(names) > 1:
            raise EvidenceError(f"{self.path}: both {names[0]!r} and {names[1]!r}; right is one of them")
        rows = self._read(names[0]) if names else None
        if rows is not None and len(rows) != objects:
            raise EvidenceError(
                f"{self.path}: {names[0]!r} has {len(rows)} rows but the objects file has {objects} objects "
                f"for {key!r}; right is one row per object, in the same order"
            )
        return rows

    def image(self, key: str) -> Tensor | None:
        """Features of a post's whole image or its grid, ``[grid, features]``, or None."""
        return self._read(f"image/{key}") if f"image/{key}" in self._keys else None

    def _read(self, name: str) -> Tensor:
        rows = self._file.get_tensor(name)
        if rows.dim() != 2 or rows.dtype not in FLOATS:
            raise EvidenceError(
                f"{self.path}: {name!r} is {rows.dtype} of shape {list(rows.shape)}; right is float32, "
                "float16 or bfloat16 of shape [rows, features]"
            )
        if not rows.isfinite().all():
            raise EvidenceError(f"{self.path}: {name!r} holds NaN or infinity; right are finite numbers")
        if rows.numel() and float(rows.abs().max()) > MAX_FEATURE:
            raise EvidenceError(
                f"{self.path}: {name!r} holds {float(rows.abs().max()):.3g}; right are numbers of at most "
                f"{MAX_FEATURE:.0e}, beyond which training overflows"
            )
        return rows.float()


@contextmanager
def open_features(path: str | Path) -> Iterator[Features]:
    """The features of a safetensors file, read when asked for."""
    try:
        file = safe_open(Path(path), framework="pt")
    except SafetensorError as error:
        raise EvidenceError(f"{path}: not a safetensors file ({error}); write it with write_features") from None
    with file as opened:
        yield Features(Path(path), opened)
