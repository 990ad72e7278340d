"""A process keeps what it frees: blocks that come again are not faulted in again."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, torch
from mnergraph.cli.malloc import disable_malloc_trim
if sys.argv[1] == "keep":
    assert disable_malloc_trim()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(2):
    torch.ones(16_000_000)
before = faults()
for _ in range(10):
    torch.ones(16_000_000)
print(faults() - before)
"""


def faults(how: str) -> int:
    """Pages that come in while 64 MB are taken and freed ten times."""
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, how]
    found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return int(found.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="speaks of glibc's allocator")
def test_memory_is_kept() -> None:
    # kept blocks come in once more at the most, when something small has moved in between
    assert 3 * faults("keep") < faults("leave")
