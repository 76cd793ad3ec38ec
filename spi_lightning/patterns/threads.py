"""A few threads that share small pieces of work on patterns: decoding and preparing, which wait for no lock."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from typing import TypeVar

from spi_lightning.cores import available_cores

Part = TypeVar("Part")
Result = TypeVar("Result")

_AHEAD = 2  # parts a thread that wait for it, so that it never waits for the caller

_pool: ThreadPoolExecutor | None = None
_inherited: list[ThreadPoolExecutor] = []  # a parent's, whose threads are not here: kept, for letting go of it locks
_lock = threading.Lock()
_here = threading.local()


def side_by_side(function: Callable[[Part], Result], parts: Iterable[Part]) -> Iterator[Result]:
    """Apply a function to the parts, in as many threads as there are cores; what it calls has to release the GIL.

    The threads are started when they are first needed and are shared by all callers; a forked child starts its own.
    A single part, a single core, or a call from one of these threads needs none.

    Args:
        function: may be called by several threads at once.
        parts: taken by the caller's thread as they are needed, two for each thread ahead of the results at most.

    Yields:
        The results in the order of the parts. Once this ends, or is closed, the function is not running any more.

    Raises:
        Exception: what the function raised for the first part, in order, that it raised for.
    """
    parts = iter(parts)
    first = list(islice(parts, 2))
    cores = available_cores()
    if len(first) < 2 or cores < 2 or getattr(_here, "works", False):
        yield from map(function, chain(first, parts))
        return
    pool = _threads(cores)
    waiting: deque[Future[Result]] = deque()
    try:
        for part in chain(first, parts):
            waiting.append(pool.submit(function, part))
            if len(waiting) > _AHEAD * cores:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in [future for future in waiting if not future.cancel()]:
            future.exception()  # waits


def _threads(cores: int) -> ThreadPoolExecutor:
    global _pool
    with _lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(cores, "patterns", initializer=lambda: setattr(_here, "works", True))
        return _pool


def _after_fork() -> None:
    global _pool, _lock
    _lock = threading.Lock()  # another thread of the parent may have held the old one
    _here.works = False
    if _pool is not None:
        _inherited.append(_pool)
        _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
