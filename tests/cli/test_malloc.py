"""With trimming disabled a process keeps the memory that it frees: later blocks cause no page faults."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

#: Blocks above 32 MiB, the most that glibc's own moving threshold would keep. Without torch: nothing else allocates.
PROGRAM = """
import resource, sys
from mnergraph.cli.malloc import disable_malloc_trim
if sys.argv[1] == "keep":
    assert disable_malloc_trim()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def step():
    block = bytearray(b"x") * 40_000_000
step()
before = faults()
for _ in range(10):
    step()
print(faults() - before)
assert "torch" not in sys.modules
"""


def page_faults(mode: str) -> int:
    """Page faults while 40 MB are allocated, written and freed ten times."""
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, mode]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="tests glibc's allocator")
def test_freed_memory_is_kept() -> None:
    # a kept block may be faulted in again when a small allocation has taken its beginning
    assert 3 * page_faults("keep") < page_faults("leave")
