"""Tensors that were computed from posts' pictures, kept in a file until what they come from changes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from mnergraph.pair import Pair


def cached(path: Path | None, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors of a file, or those computed, which are then written there, whole or not at all.

    Args:
        path: of the file; without one they are computed.
        compute: makes them; nothing is written where there are none.
    """
    if path is not None and path.is_file():
        return load_file(path)
    found = compute()
    if path is not None and found:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        save_file(found, part)
        part.replace(path)
    return found


def cache_key(pairs: Iterable[Pair], *facts: object) -> str:
    """Changes with the facts, plain data, the posts' boxes, and the size and time of change of pictures."""
    told: list[object] = list(facts)
    for pair in pairs:
        boxes = [thing.box for thing in pair.objects]
        told.append(
            (pair.id, boxes, pair.size, pair.image_path and (str(pair.image_path), file_stamp(pair.image_path)))
        )
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def file_stamp(path: Path) -> tuple[int, int] | None:
    """A file's size and time of change."""
    if not path.is_file():
        return None
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns
