"""Work for remote processes."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from itertools import count

import numpy as np
import torch
from torch.utils.data import DataLoader

from benchmarks.record import Row, fact_row
from benchmarks.remote import Remote

MALLINFO = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")


def counting(start: int) -> Callable[[], int]:
    numbers = count(start)
    return lambda: next(numbers)


def facts() -> Callable[[], dict[str, object]]:
    malloc = {name for name in os.environ if name.startswith("MALLOC_") or name in ("GLIBC_TUNABLES", "LD_PRELOAD")}
    return lambda: {"pid": os.getpid(), "threads": torch.get_num_threads(), "malloc": malloc}


def tensor_of(size: int) -> Callable[[], torch.Tensor]:
    return lambda: torch.arange(size)


def weights_sum(weights: dict[str, torch.Tensor]) -> Callable[[], float]:
    return lambda: sum(float(value.sum()) for value in weights.values())


def unsendable() -> Callable[[], object]:
    return lambda: (number for number in range(3))


def failing() -> Callable[[], None]:
    raise ArithmeticError("the factory is broken")


def failing_later() -> Callable[[], None]:
    def work() -> None:
        raise ArithmeticError("the work is broken")

    return work


def crashing() -> Callable[[], None]:
    return lambda: os._exit(3)


def two_rows() -> Callable[[], list[Row]]:
    return lambda: [fact_row("memory", "1 GB"), fact_row("memory", "2 GB")]


def with_workers() -> Callable[[], list[int]]:
    return lambda: [int(one) for one in DataLoader(range(4), batch_size=None, num_workers=1)]  # type: ignore[arg-type]


def filling(megabytes: int) -> Callable[[], None]:
    def work() -> None:
        np.ones(megabytes << 20, np.uint8)

    return work


def parent_of_one() -> Callable[[], int]:
    """A process that has a remote one of its own, and forgets to close it; the latter's id."""
    child = Remote("tests.unit.benchmarks.work:facts")
    return lambda: int(child()["pid"])


def allocated_by_mmap() -> Callable[[], int]:
    """Bytes of a 1 MB block that glibc maps on its own, as it does unless it is told otherwise."""

    class Mallinfo2(ctypes.Structure):
        """Of glibc's malloc.h."""

        _fields_ = tuple((name, ctypes.c_size_t) for name in MALLINFO)

    library = ctypes.CDLL(None)
    library.malloc.restype = ctypes.c_void_p
    library.mallinfo2.restype = Mallinfo2

    def work() -> int:
        before = library.mallinfo2().hblkhd
        block = library.malloc(ctypes.c_size_t(64 << 20))
        after = library.mallinfo2().hblkhd
        library.free(ctypes.c_void_p(block))
        return after - before

    return work
