"""How this process handles the memory of large short-lived arrays."""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
SIZES = (1 << 25, 1 << 30)  # older versions of glibc refuse a threshold above the first


def keep_heap() -> None:
    """Tell glibc to keep freed memory instead of handing it back to the system.

    A network's activations are tens of megabytes that come and go with every batch. By default glibc maps and unmaps
    each, and the kernel clears the pages anew: twice the time of the computation itself on a CPU. Elsewhere than on
    Linux with glibc this does nothing.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is not None:
        for size in SIZES:
            mallopt(M_MMAP_THRESHOLD, size)
        mallopt(M_TRIM_THRESHOLD, SIZES[-1])
