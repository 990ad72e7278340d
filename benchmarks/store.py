r"""The feature store against one file per picture and against HDF5: random reads, start-up, memory.

    uv run --with h5py python -m benchmarks.store --out benchmarks/results/store.json

Synthetic maps of 49 x 2048 halves, 200 kB each; 50,000 of them take 10 GB on disk three times over, made in
``folder`` and deleted at the end. Reads are of random pictures, each map summed so that all of it is read;
each way reads in a process of its own, so that memory is its own, too. The system's cache is as it is: the
first pass over the pictures is reported apart from the later ones.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from jsonargparse import auto_cli
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm.auto import tqdm

from benchmarks.common import commit, machine
from mnergraph.features.store.manifest import Manifest
from mnergraph.features.store.reader import FeatureStore
from mnergraph.features.store.writer import StoreWriter
from mnergraph.graph.prefetch import prefetch

SHAPE = (49, 2048)


def key(number: int) -> str:
    """A picture's key."""
    return hashlib.sha256(str(number).encode()).hexdigest()


def write(folder: Path, pictures: int, progress: bool) -> dict[str, float]:
    """Writes all of them in the three ways; the seconds that each took."""
    import h5py

    seconds = dict.fromkeys(("store", "files", "hdf5"), 0.0)
    (folder / "files").mkdir()
    base = torch.randn(SHAPE).half()
    with (
        StoreWriter(folder / "store", Manifest("synthetic", dtype="float16")) as writer,
        h5py.File(folder / "maps.h5", "w") as file,
    ):
        rows = file.create_dataset("maps", (pictures, *SHAPE), dtype="f2")
        for number in tqdm(range(pictures), unit="picture", disable=not progress):
            found = base + number % 7

            def into_store(found: Tensor = found, number: int = number) -> None:
                writer.add(key(number), {"grid": found})

            def into_file(found: Tensor = found, number: int = number) -> None:
                save_file({"grid": found}, folder / "files" / f"{key(number)}.safetensors")

            def into_hdf5(found: Tensor = found, number: int = number) -> None:
                rows[number] = found.numpy()

            for name, step in (("store", into_store), ("files", into_file), ("hdf5", into_hdf5)):
                began = time.perf_counter()
                step()
                seconds[name] += time.perf_counter() - began
        began = time.perf_counter()
        writer.flush()
        seconds["store"] += time.perf_counter() - began
    return seconds


def opened(way: str, folder: Path) -> Callable[[int], Tensor]:
    """What reads a picture's map by its number."""
    if way == "store":
        store = FeatureStore(folder / "store")
        return lambda number: prefetch(store[key(number)]["grid"])  # as graphs read it
    if way == "files":
        return lambda number: load_file(folder / "files" / f"{key(number)}.safetensors")["grid"]
    import h5py

    rows = h5py.File(folder / "maps.h5")["maps"]
    return lambda number: torch.from_numpy(rows[number])


def reading(way: str, folder: Path, pictures: int, reads: int, passes: int, told: Connection) -> None:
    """Measures one way; in a process of its own."""
    torch.set_num_threads(1)
    before = _private()
    began = time.perf_counter()
    read = opened(way, folder)
    read(0)
    start = time.perf_counter() - began
    rates = []
    for place in range(passes):
        order = torch.randperm(pictures, generator=torch.Generator().manual_seed(place))[:reads].tolist()
        began = time.perf_counter()
        for number in order:
            read(number).view(torch.int16).sum()
        rates.append(reads / (time.perf_counter() - began))
    told.send(
        {
            "start-up seconds": start,
            "reads per second, first pass": rates[0],
            "reads per second, later passes": statistics.median(rates[1:]),
            "private MiB held": _private() - before,
            "resident MiB, what is mapped of the file included": _resident(),
        }
    )


def _private() -> float:
    """MiB of memory that is this process's own, which mapped files are not."""
    resident, shared = _pages()
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE") / 2**20


def _resident() -> float:
    """MiB of all memory that this process has touched and the system has not taken back."""
    return _pages()[0] * os.sysconf("SC_PAGE_SIZE") / 2**20


def _pages() -> tuple[int, int]:
    resident, shared = (int(part) for part in Path("/proc/self/statm").read_text().split()[1:3])
    return resident, shared


def main(
    out: Path | None = None,
    pictures: int = 50_000,
    reads: int = 5_000,
    passes: int = 4,
    folder: Path | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Measures all three, prints it, and writes it if asked.

    Args:
        out: the result file.
        pictures: how many are written.
        reads: random pictures read in a pass.
        passes: of reading.
        folder: where the files are made; by default the system's temporary folder.
        progress: whether to show a progress bar.
    """
    place = Path(tempfile.mkdtemp(dir=folder))
    try:
        found: dict[str, Any] = {
            "pictures": pictures,
            "reads": reads,
            "machine": machine(),
            "commit": commit(),
        }
        found["seconds to write"] = write(place, pictures, progress)
        for way in ("store", "files", "hdf5"):
            here, there = multiprocessing.Pipe(duplex=False)
            context = multiprocessing.get_context("spawn")
            process = context.Process(target=reading, args=(way, place, pictures, reads, passes, there))
            process.start()
            there.close()
            found[way] = here.recv()
            process.join()
    finally:
        shutil.rmtree(place)
    text = json.dumps(found, indent=1, default=str)
    print(text)
    if out is not None:
        out.write_text(text + "\n", encoding="utf-8")
    return found


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
