"""Many posts through one predictor: memory and open files stay as they were."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

from benchmarks.stress.report import Report
from benchmarks.stress.samples import FILLERS, NAMES, make_model
from mnergraph import DetectedObject, Pair
from mnergraph.inference.predictor import Predictor

#: Posts at size 1.
POSTS = 100_000
#: MiB and open files that may be added after the first tenth of the posts.
MAX_GROWTH, MAX_HANDLES = 64, 4


def many_posts(rng: random.Random, size: float, folder: Path) -> Report:
    """Predict a stream of posts, whose words are mostly new ones.

    Args:
        rng: the source of chance.
        size: 1 for 100,000 posts.
        folder: unused.
    """
    report, number = Report(), max(600, round(POSTS * size))

    def posts() -> Iterator[Pair]:
        for index in range(number):
            words = tuple(rng.choice((*NAMES, *FILLERS, f"w{rng.randrange(10**9)}")) for _ in range(rng.randint(2, 20)))
            yield Pair(words, id=str(index), objects=(DetectedObject(f"thing {rng.randrange(1000)}"),))

    answered, usage = 0, []
    for line in Predictor(make_model())(posts()):
        answered += line["id"] == str(answered) and "error" not in line
        if answered in (number // 10, number):
            usage.append((_resident(), len(list(Path("/proc/self/fd").iterdir()))))
    report.tried["posts"] = number
    (memory, files), (memory_after, files_after) = usage
    report.facts = {
        "MiB after a tenth": memory,
        "MiB at the end": memory_after,
        "open files after a tenth": files,
        "open files at the end": files_after,
    }
    if answered != number:
        report.fault(f"{answered} of {number} posts were answered in their order")
    if memory_after - memory > MAX_GROWTH or files_after - files > MAX_HANDLES:
        report.fault(f"memory and open files grow: {report.facts}")
    return report


def _resident() -> int:
    """Return the resident memory of this process in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 2**20
