"""Reading rows of a memory-mapped file in one request instead of page by page."""

from __future__ import annotations

import ctypes
import mmap

from torch import Tensor

#: Fewer bytes are read by one or two page faults anyway.
MIN_BYTES = 65_536

# None on systems without madvise (Windows)
_WILLNEED = getattr(mmap, "MADV_WILLNEED", None)
_madvise = None if _WILLNEED is None else ctypes.CDLL(None).madvise


def prefetch(rows: Tensor) -> Tensor:
    """Advise the operating system to load these memory-mapped rows in one request; return them unchanged.

    Without the advice every page is loaded by a page fault of its own. Rows that are in memory already, on another
    device, not contiguous, or fewer than `MIN_BYTES` are left alone.

    Args:
        rows: the rows, contiguous on the CPU to be prefetched.
    """
    if _madvise is not None and rows.nbytes >= MIN_BYTES and rows.device.type == "cpu" and rows.is_contiguous():
        begin = rows.data_ptr() - rows.data_ptr() % mmap.PAGESIZE
        length = rows.data_ptr() + rows.nbytes - begin
        _madvise(ctypes.c_void_p(begin), ctypes.c_size_t(length), _WILLNEED)
    return rows
