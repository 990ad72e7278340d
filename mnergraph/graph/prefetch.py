"""Rows that lie in a mapped file: read from the disk at once, not page by page."""

from __future__ import annotations

import ctypes
import mmap

from torch import Tensor

#: Rows of fewer bytes are there after one fault or two.
WORTH_IT = 65_536


# Absent where the system takes no such advice (Windows).
_WILLNEED = getattr(mmap, "MADV_WILLNEED", None)


_madvise = None if _WILLNEED is None else ctypes.CDLL(None).madvise


def prefetch(rows: Tensor) -> Tensor:
    """The same rows, which the system was told will be read now, all of them.

    Where they are mapped and not yet in memory they then come in one request. A thread that touches them
    unannounced waits for fault after fault, and each reads what lies around it, too. It is advice: nothing
    happens to rows that lie in memory, or elsewhere than on the CPU.
    """
    if _madvise is not None and rows.nbytes >= WORTH_IT and rows.device.type == "cpu" and rows.is_contiguous():
        begin = rows.data_ptr() - rows.data_ptr() % mmap.PAGESIZE
        length = rows.data_ptr() + rows.nbytes - begin
        _madvise(ctypes.c_void_p(begin), ctypes.c_size_t(length), _WILLNEED)
    return rows
