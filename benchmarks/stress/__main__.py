"""Stress the package with a seed and a size, from seconds to hours, and write what was tried and what was found.

    uv run python -m benchmarks.stress --size 1 --out benchmarks/results/stress.json

Every check tries what `docs/reliability.md` promises. Faults are printed and written, and the status is then 1.
"""

from __future__ import annotations

import json
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jsonargparse import auto_cli

from benchmarks.common import commit, machine, run_command
from benchmarks.stress.files import damaged_files
from benchmarks.stress.images import hostile_images
from benchmarks.stress.memory import many_posts
from benchmarks.stress.posts import odd_posts
from benchmarks.stress.processes import full_disk, kills, two_at_once, two_devices
from benchmarks.stress.report import Report
from mnergraph.files import write_atomically

CHECKS: dict[str, Callable[[random.Random, float, Path], Report]] = {
    check.__name__: check
    for check in (damaged_files, odd_posts, hostile_images, kills, full_disk, two_at_once, two_devices, many_posts)
}


def stress(
    seed: int = 0,
    size: float = 0.02,
    only: list[str] | None = None,
    out: Path | None = None,
    folder: Path | None = None,
) -> dict[str, Any]:
    """Run the checks and return what was tried and found.

    Args:
        seed: of all random choices.
        size: 0.02 for half a minute, 1 for an hour; the number of trials grows with it.
        only: names of checks; by default all.
        out: the result file.
        folder: for the files that are made, which stay there; by default they are deleted.

    Raises:
        ValueError: for an unknown check.
    """
    unknown = sorted(set(only or ()) - CHECKS.keys())
    if unknown:
        raise ValueError(f"no check {unknown[0]!r}; there is {', '.join(CHECKS)}")
    result: dict[str, Any] = {"benchmark": "stress", "seed": seed, "size": size, "checks": {}}
    result |= {"machine": machine(), "commit": commit()}
    for name in only or CHECKS:
        begin = time.perf_counter()
        with tempfile.TemporaryDirectory() as temporary:
            own = Path(temporary) if folder is None else folder / name
            own.mkdir(parents=True, exist_ok=True)
            report = CHECKS[name](random.Random(f"{seed}/{name}"), size, own)
        seconds = round(time.perf_counter() - begin, 1)
        tried = ", ".join(f"{kind} {number}" for kind, number in report.tried.items())
        print(f"{name}: {len(report.faults)} faults in {seconds} s ({tried})", flush=True)
        for fault in report.faults:
            print(f"  {fault}", flush=True)
        result["checks"][name] = {**vars(report), "seconds": seconds}
        if out is not None:
            write_atomically(out, (json.dumps(result, indent=1) + "\n").encode())
    return result


def main() -> None:
    """Run the checks that the arguments name; the status is 1 where a fault was found."""
    result = auto_cli(stress)
    if any(check["faults"] for check in result["checks"].values()):
        raise SystemExit(1)


if __name__ == "__main__":
    run_command(main)
