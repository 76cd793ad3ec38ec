"""Small pieces of work side by side, each on one core.

A few patterns at a time keep a network's activations in the cache, but are too little work to share between cores:
where other programs use the machine too, the cores wait for each other ten times longer than they compute.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

Part = TypeVar("Part")
Result = TypeVar("Result")


def each_on_one_core(function: Callable[[Part], Result], parts: Iterable[Part], workers: int) -> Iterator[Result]:
    """Apply a function of torch to the parts, ``workers`` of them at a time, each computed by one thread.

    What comes out does not depend on ``workers``. Until the last result is taken, or the iterator is closed, threads
    that are started elsewhere compute with one thread each, too.

    Args:
        function: may be called by several threads at once.
        parts: taken by the caller's thread as they are needed, ``workers + 1`` ahead of the results at most.
        workers: threads; :func:`torch.get_num_threads` is what torch itself would use.

    Yields:
        The results in the order of the parts.
    """
    before = torch.get_num_threads()
    waiting: deque[Future[Result]] = deque()
    try:
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for part in parts:
                waiting.append(pool.submit(function, part))
                del part
                if len(waiting) > workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
    finally:
        torch.set_num_threads(before)  # what the workers set holds for every thread that is yet to start
