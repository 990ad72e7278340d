"""Writing feature stores: append-only, one writer for each part; incomplete shards are never listed."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from mnergraph.features.store.manifest import MANIFEST_FILE, Manifest, StoreError, check_manifest, store_dtype
from mnergraph.features.store.reader import INFO, KEY, PTR, FeatureStore, Shard, find_corruption, read_shard_list
from mnergraph.features.vision.image_io import file_sha256
from mnergraph.files import fsync, write_atomically, write_tensors

log = logging.getLogger(__name__)


class StoreWriter:
    """Context manager that appends to a part of a store, which is created if it does not exist.

    On opening, the files of a killed writer are removed: files that no list names, and corrupt shards, each named in a
    warning, whose images are missing again.

    Args:
        folder: of the store.
        manifest: of the extractor of its features.
        part: index of the part that this process writes, where several write at once.
        shard_bytes: size in bytes at which a shard is written.
        shard_seconds: seconds after which a smaller shard is written, at the next image: what a killed writer loses.
        shard_images: images after which a smaller shard is written.

    Raises:
        StoreError: when the store was made with other settings, or another process writes this part.
    """

    def __init__(
        self,
        folder: str | Path,
        manifest: Manifest,
        *,
        part: int = 0,
        shard_bytes: int = 256 * 2**20,
        shard_seconds: float = 60.0,
        shard_images: int = 10_000,
    ) -> None:
        if shard_bytes < 1 or shard_images < 1 or shard_seconds < 0:
            raise ValueError("a shard has at least one byte and one image, and takes no negative time")
        self.folder, self.manifest, self.part = Path(folder), manifest, part
        self.shard_bytes, self.shard_seconds, self.shard_images = shard_bytes, shard_seconds, shard_images
        self._start = time.monotonic()
        self.list = self.folder / f"shards-{part}.jsonl"
        self._records: list[tuple[bytes, dict[str, Tensor], bytes]] = []
        self._added: set[str] = set()
        self._row_shapes: dict[str, torch.Size] = {}
        self._bytes = 0
        self._lock = FileLock(self.folder / f".lock-{part}", timeout=0)

    def __enter__(self) -> StoreWriter:
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire()
        except Timeout:
            raise StoreError(f"another process writes part {self.part} of {self.folder}") from None
        try:
            self._prepare()
        except BaseException:
            self._lock.release()
            raise
        return self

    def _prepare(self) -> None:
        try:
            check_manifest(self.folder, Manifest.read(self.folder), self.manifest)
        except FileNotFoundError:
            write_atomically(self.folder / MANIFEST_FILE, json.dumps(vars(self.manifest), indent=2).encode() + b"\n")
        shards = read_shard_list(self.list) if self.list.is_file() else []
        faults = [find_corruption(self.folder, shard) for shard in shards]
        for fault in filter(None, faults):
            log.warning("a corrupt shard, to be extracted again: %s", fault)
        whole = [shard for shard, fault in zip(shards, faults, strict=True) if not fault]
        write_atomically(self.list, b"".join(_shard_line(shard) for shard in whole))
        names = {shard.name for shard in whole}
        for path in self.folder.glob(f"shard-{self.part}-*"):
            if path.name not in names:
                path.unlink()
        self._next = 1 + max((int(name.split("-")[2][:6]) for name in names), default=-1)
        self._written = FeatureStore(self.folder, skip_corrupt=True)

    def __contains__(self, key: str) -> bool:
        return key in self._written or key in self._added

    def add(self, key: str, features: Mapping[str, Tensor], info: Any = None) -> None:
        """Add one image's features and further data.

        Args:
            key: SHA-256 of the image's content, 64 hexadecimal digits.
            features: by name, each ``[rows, ...]``; floats are stored in the manifest's dtype. One that an image
                lacks while others of its shard have it is read back without rows.
            info: plain JSON data.
        """
        digest = bytes.fromhex(key)
        if len(digest) != 32:
            raise ValueError(f"a key is a SHA-256 of 64 hexadecimal digits, not {key!r}")
        stored = {}
        for name, rows in features.items():
            if name in (KEY, INFO) or name.endswith(PTR) or not rows.dim():
                raise ValueError(f"a feature needs rows and a name other than key, info or *.ptr, not {name!r}")
            stored[name] = rows.to("cpu", store_dtype(self.manifest) if rows.is_floating_point() else rows.dtype)
            row_shape = self._row_shapes.setdefault(name, rows.shape[1:])
            if rows.shape[1:] != row_shape:
                raise ValueError(f"{key}: rows of {name} are {list(rows.shape[1:])}, those before {list(row_shape)}")
        self._added.add(key)
        self._records.append((digest, stored, json.dumps(info).encode()))
        self._bytes += sum(rows.nbytes for rows in stored.values())
        full = self._bytes >= self.shard_bytes or len(self._records) >= self.shard_images
        if full or time.monotonic() - self._start >= self.shard_seconds:
            self.flush()

    def flush(self) -> None:
        """Write what was added since the last shard as a shard; it is on disk and listed on return."""
        if not self._records:
            return
        digests, features, infos = zip(*self._records, strict=True)
        tensors = {KEY: torch.frombuffer(bytearray(b"".join(digests)), dtype=torch.uint8).view(-1, 32)}
        for name in dict.fromkeys(chain.from_iterable(features)):
            like = next(record[name] for record in features if name in record)
            tensors |= _concatenate(name, [record.get(name, like[:0]) for record in features])
        tensors |= _concatenate(INFO, [torch.frombuffer(bytearray(info), dtype=torch.uint8) for info in infos])
        name = f"shard-{self.part}-{self._next:06d}.safetensors"
        path = self.folder / name
        write_tensors(path, tensors)
        shard = Shard(name, path.stat().st_size, file_sha256(path), len(digests))
        fsync(self.folder)
        self._append(_shard_line(shard))
        self._next += 1
        self._records, self._bytes, self._start = [], 0, time.monotonic()
        self._written.refresh()

    def _append(self, line: bytes) -> None:
        """Append a line to the list of shards, whole or not at all."""
        before = self.list.stat().st_size
        with self.list.open("ab") as file:
            try:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                os.truncate(self.list, before)
                raise

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.flush()
        finally:
            self._lock.release()


def _concatenate(name: str, rows: list[Tensor]) -> dict[str, Tensor]:
    counts = torch.tensor([0, *map(len, rows)])
    return {name: torch.cat(rows), name + PTR: counts.cumsum(0)}


def _shard_line(shard: Shard) -> bytes:
    return json.dumps(shard._asdict()).encode() + b"\n"
