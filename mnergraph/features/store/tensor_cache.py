"""Cache tensors computed from posts' images in a file, keyed by what they depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from mnergraph.files import write_tensors
from mnergraph.pair import Pair


def cached(path: Path | None, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the tensors of a file if it exists, else compute them and write them there atomically.

    Args:
        path: of the file; None computes without a cache.
        compute: returns the tensors by name; an empty result is not written.
    """
    if path is not None and path.is_file():
        return load_file(path)
    tensors = compute()
    if path is not None and tensors:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_tensors(path, tensors, own=True)
    return tensors


def cache_key(pairs: Iterable[Pair], *facts: object) -> str:
    """Return a hash of the facts (plain data), the posts' boxes, and the sizes and modification times of images."""
    content: list[object] = list(facts)
    for pair in pairs:
        boxes = [obj.box for obj in pair.objects]
        content.append(
            (pair.id, boxes, pair.size, pair.image_path and (str(pair.image_path), file_stamp(pair.image_path)))
        )
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def file_stamp(path: Path) -> tuple[int, int] | None:
    """Return a file's size in bytes and modification time in nanoseconds; None if there is no file."""
    if not path.is_file():
        return None
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns
