"""Helpers of the benchmarks: the machine, timing, memory, errors in one line, and posts to measure with."""

from __future__ import annotations

import json
import os
import platform
import random
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertModel

from mnergraph.features.text.encoder import TextEncoderModel, tiny_encoder
from mnergraph.files import write_atomically
from mnergraph.labels import LabelSet
from mnergraph.pair import DetectedObject, Pair

LABELS = LabelSet.from_types(["LOC", "MISC", "ORG", "PER"])
WORDS = ["paris", "the", "march", "in", "concert", "tonight", "new", "people", "love", "photo"]
PACKAGES = ("mnergraph", "torch", "torch-geometric", "transformers", "lightning")


def run_command(main: Callable[[], None]) -> None:
    """Run a benchmark's command; a user error prints one line and exits with status 2."""
    try:
        main()
    except (OSError, ValueError, LookupError, ImportError, FloatingPointError) as error:
        message = str(error.args[0] if isinstance(error, KeyError) else error)
        print(f"benchmarks.{Path(sys.argv[0]).stem}: {' '.join(message.split())}", file=sys.stderr)
        raise SystemExit(2) from error


def machine() -> dict[str, Any]:
    """Return the machine and the versions of packages."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "cpu capability": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
    }


@dataclass(frozen=True)
class Usage:
    """What a call took.

    Attributes:
        seconds: wall-clock time.
        peak_mib: highest resident memory of this process during the call, in MiB, without its worker processes; where
            the system can't reset the count (other than Linux), the highest since the process began.
    """

    seconds: float
    peak_mib: float


def measure(call: Callable[[], object]) -> Usage:
    """Run a call; return its time and the process's peak memory during it."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    start = time.perf_counter()
    call()
    return Usage(time.perf_counter() - start, _peak_mib())


def _peak_mib() -> float:
    status = Path("/proc/self/status")
    if status.is_file():
        match = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        if match:
            return int(match[1]) / 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def disk_bytes(folder: Path) -> int:
    """Return the bytes of all files below a folder; 0 where there is none."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def commit() -> str:
    """Return the current commit, followed by a plus where tracked files differ from it."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, check=False).stdout.strip()

    return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")


def write_result(result: Any, out: Path) -> None:
    """Write a result as JSON, whole or not at all, in a folder that is made if need be."""
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, (json.dumps(result, indent=1) + "\n").encode())


def encoder_name(encoder: str | Path) -> str:
    """Return the name of a text encoder without the folder it lies in, of which a result says nothing."""
    return Path(encoder).name if Path(encoder).is_dir() else str(encoder)


def _processor() -> str:
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text(encoding="utf-8").splitlines() if facts.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def timed(things: dict[str, Callable[[], Any]], repeats: int, device: str = "cpu") -> dict[str, float]:
    """Return the median seconds of each call, measured in turns after two calls to warm up."""
    for call in things.values():
        call(), call()
    seconds: dict[str, list[float]] = {name: [] for name in things}
    for _ in range(repeats):
        for name, call in things.items():
            _wait(device)
            began = time.perf_counter()
            call()
            _wait(device)
            seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(found) for name, found in seconds.items()}


def _wait(device: str) -> None:
    """Wait until the device has finished."""
    if device == "cuda":
        torch.cuda.synchronize()


def allocated(call: Callable[[], Any], device: str = "cpu") -> float:
    """Return the peak memory of a call in MiB, beyond that before it, by the allocator's or profiler's count."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    with torch.profiler.profile(profile_memory=True) as profile:
        call()
    held = most = 0
    for event in sorted(profile.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most / 2**20


def flops(call: Callable[[], Any]) -> int:
    """Return the floating-point operations of a call's matrix products, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def some_posts(
    count: int,
    seed: int = 0,
    *,
    lengths: Sequence[int] = range(4, 29),
    image: tuple[int, int] | None = None,
    region: int | None = None,
) -> list[Pair]:
    """Return posts of Twitter-2015's shape: words of 3 pieces, 1.5 entities and 2.5 objects on average.

    Args:
        count: how many.
        seed: of all that is random.
        lengths: in words, drawn from with equal chances.
        image: shape of the pictures' vectors; None for posts without.
        region: width of the objects' region vectors; None for objects without.
    """
    chance, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    posts = []
    for place in range(count):
        # the tiny tokenizer spells what it does not know, so a word has as many pieces as letters
        letters = chance.choices(range(1, 6), k=chance.choice(lengths))
        words = tuple("".join(chance.choices("bcdfgh", k=length)) for length in letters)
        starts = chance.sample(range(len(words)), min(chance.randint(0, 3), len(words)))
        tags = [f"B-{chance.choice(LABELS.types)}" if word in starts else "O" for word in range(len(words))]
        objects = tuple(
            DetectedObject(
                chance.choice(["person", "dog", "traffic light"]),
                (0.0, 0.0, 9.0, 9.0),
                region=None if region is None else torch.randn(region, generator=generator),
            )
            for _ in range(chance.randint(0, 5))
        )
        rows = None if image is None else torch.randn(image, generator=generator)
        posts.append(Pair(words, tuple(tags), str(place), objects=objects, size=(10, 10), image_features=rows))
    return posts


def random_encoder(width: int, layers: int, heads: int) -> TextEncoderModel:
    """Return a text encoder of this shape with random weights, over the tiny tokenizer's pieces."""
    config = BertConfig(
        vocab_size=30522,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * width,
    )
    return TextEncoderModel(BertModel(config, add_pooling_layer=False), tiny_encoder(WORDS).tokenizer, "random")
