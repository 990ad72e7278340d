"""Feature stores: the output of one extractor with one group of settings for many images, with random access.

A folder::

    manifest.json                 extractor, version, settings, checksum of the weights, dtype
    shards-0.jsonl                one line for every finished shard of part 0: name, bytes, SHA-256, records
    shard-0-000000.safetensors    records, concatenated

A shard has ``key`` ``[records, 32]``, the keys' digests, and for every feature ``name`` the concatenated rows of all
its records, ``[rows, ...]``, with ``name.ptr`` ``[records + 1]``; ``info`` is JSON in bytes. It is written under a
temporary name, renamed, then listed: only listed shards are read. Parts are written by different processes, each by
one at a time; readers may read meanwhile.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open
from torch import Tensor

from mnergraph.features.store.manifest import Manifest, StoreError, check_manifest
from mnergraph.features.vision.image_io import file_sha256

log = logging.getLogger(__name__)


SHARD_LISTS = "shards-*.jsonl"


KEY, INFO, PTR = "key", "info", ".ptr"


class Shard(NamedTuple):
    """A complete shard, as listed."""

    name: str
    bytes: int
    sha256: str
    records: int


def read_shard_list(path: Path) -> list[Shard]:
    """Return the shards of one list; an incomplete last line is ignored."""
    *lines, _incomplete = path.read_bytes().split(b"\n")
    shards = []
    for number, line in enumerate(lines, 1):
        try:
            shards.append(Shard(**json.loads(line)))
        except (ValueError, TypeError) as error:
            raise StoreError(f"{path}:{number}: no line of a feature store ({error}); delete it") from None
    return shards


def find_corruption(folder: Path, shard: Shard) -> str | None:
    """Return the fault of a shard's file, or None; checks its size and its header, not every byte."""
    path = folder / shard.name
    if not path.is_file():
        return f"{path} does not exist"
    size = path.stat().st_size
    if size != shard.bytes:
        return f"{path} has {size:,} bytes of {shard.bytes:,}"
    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys()
            shapes = {name: file.get_slice(name).get_shape() for name in names}
    except SafetensorError as error:
        return f"{path} cannot be read ({error})"
    features = [name for name in shapes if name != KEY and not name.endswith(PTR)]
    expected = {KEY: [shard.records, 32]} | {name + PTR: [shard.records + 1] for name in {*features, INFO}}
    wrong = [name for name, shape in expected.items() if shapes.get(name) != shape]
    wrong += sorted(shapes.keys() - expected.keys() - set(features))
    return f"{path} has a wrong {wrong[0]!r}" if wrong else None


class FeatureStore:
    """Read access to a store, for any number of processes, also while it is written.

    Shards are mapped into memory: opening reads their keys, and only the rows of a record that are used are read.

    Args:
        folder: of the store.
        manifest: the expected manifest; None accepts any.
        skip_corrupt: whether to leave out the images of a corrupt shard, with a warning that names it.

    Raises:
        FileNotFoundError: when there is no store.
        StoreError: when it was made with other settings, naming each difference, or a shard is corrupt, naming it.
    """

    def __init__(self, folder: str | Path, manifest: Manifest | None = None, *, skip_corrupt: bool = False) -> None:
        self.folder, self.skip_corrupt = Path(folder), skip_corrupt
        self.manifest = Manifest.read(self.folder)
        check_manifest(self.folder, self.manifest, manifest)
        self._open: dict[str, dict[str, Tensor]] = {}
        self._index: dict[bytes, tuple[str, int]] = {}
        self.refresh()

    def refresh(self) -> FeatureStore:
        """Read the lists of shards again, and return the store."""
        for path in sorted(self.folder.glob(SHARD_LISTS)):
            for shard in read_shard_list(path):
                if shard.name not in self._open:
                    self._add(shard)
        return self

    def _add(self, shard: Shard) -> None:
        fault = find_corruption(self.folder, shard)
        if fault and self.skip_corrupt:
            log.warning("a corrupt shard, left out: %s", fault)
            return
        if fault:
            raise StoreError(f"a corrupt shard: {fault}; extracting again replaces it")
        with safe_open(self.folder / shard.name, framework="pt") as file:
            names = file.keys()
            tensors = {name: file.get_tensor(name) for name in names}
        self._open[shard.name] = tensors
        digests = tensors[KEY].numpy().tobytes()
        for record in range(shard.records):
            self._index[digests[32 * record : 32 * record + 32]] = (shard.name, record)

    def __len__(self) -> int:
        return len(self._index)

    def __contains__(self, key: str) -> bool:
        return bytes.fromhex(key) in self._index

    def __iter__(self) -> Iterator[str]:
        return (digest.hex() for digest in self._index)

    def __getitem__(self, key: str) -> dict[str, Tensor]:
        """Return the features of an image by name, views of the mapped file; see `info` for other data."""
        tensors, record = self._find(key)
        features = {}
        for name, rows in tensors.items():
            if name not in (KEY, INFO) and not name.endswith(PTR):
                start, end = tensors[name + PTR][record : record + 2].tolist()
                features[name] = rows[start:end]
        return features

    def info(self, key: str) -> Any:
        """Return the JSON data of an image: its size, labels, scores."""
        tensors, record = self._find(key)
        start, end = tensors[INFO + PTR][record : record + 2].tolist()
        return json.loads(tensors[INFO][start:end].numpy().tobytes())

    def path_of(self, key: str) -> Path:
        """Return the shard's file in which an image's features are."""
        return self.folder / self._index[bytes.fromhex(key)][0]

    def _find(self, key: str) -> tuple[dict[str, Tensor], int]:
        try:
            name, record = self._index[bytes.fromhex(key)]
        except KeyError:
            raise KeyError(f"{self.folder} has no entry of {key}; it has {len(self)} images") from None
        return self._open[name], record

    def verify(self) -> list[str]:
        """Return the names of the shards whose content changed since they were written, by their checksums."""
        shards = [shard for path in sorted(self.folder.glob(SHARD_LISTS)) for shard in read_shard_list(path)]
        return [
            shard.name
            for shard in shards
            if find_corruption(self.folder, shard) or file_sha256(self.folder / shard.name) != shard.sha256
        ]

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how a worker process opens the store: it maps the files itself."""
        return partial(FeatureStore, skip_corrupt=self.skip_corrupt), (self.folder, self.manifest)
