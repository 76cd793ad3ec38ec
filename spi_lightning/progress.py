"""Progress bars on a terminal; in a log file, one line at the end; in a process of several, told to the first one."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import NamedTuple

SHOWN_EVERY = 0.1  # seconds; each time costs some 0.1 ms, and iterations on a GPU take few


class Standing(NamedTuple):
    """How far something has come.

    Attributes:
        description: what it is.
        total: when it is done.
        done: so far, in the same unit.
        unit: plural.
    """

    description: str
    total: int
    done: int
    unit: str


_told: Callable[[Standing], None] | None = None  # instead of a bar


@contextmanager
def progress(description: str, total: int, unit: str = "patterns") -> Iterator[Callable[[int], None]]:
    """Show how far something has come, how fast it goes, and how long it will take.

    Yields:
        A function to be told how many more are done.
    """
    with _one_bar() if _told is None else nullcontext(_told) as show:
        done, shown = 0, time.monotonic()
        show(Standing(description, total, done, unit))

        def advance(n: int) -> None:
            nonlocal done, shown
            done += n
            now = time.monotonic()
            if now - shown >= SHOWN_EVERY:
                shown = now
                show(Standing(description, total, done, unit))

        try:
            yield advance
        finally:
            show(Standing(description, total, done, unit))


@contextmanager
def progress_told_to(tell: Callable[[Standing], None]) -> Iterator[None]:
    """Have all :func:`progress` of this process told to a function, at most every :data:`SHOWN_EVERY` seconds."""
    global _told
    before, _told = _told, tell
    try:
        yield
    finally:
        _told = before


@contextmanager
def bars() -> Iterator[Callable[[Hashable, Standing], None]]:
    """Several progress bars, one below the other.

    Yields:
        A function of a bar's key, of which the first use makes the bar, and of what it shall show.
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TaskID,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    tasks: dict[Hashable, TaskID] = {}
    with Progress(*columns) as shown:

        def show(key: Hashable, now: Standing) -> None:
            if key not in tasks:
                tasks[key] = shown.add_task(now.description, total=now.total, rate="")
            task = tasks[key]
            if shown.tasks[task].description != now.description:  # the next part of the work, at a speed of its own
                shown.reset(task, total=now.total, description=now.description, rate="")
            shown.update(task, completed=now.done)
            speed = shown.tasks[task].finished_speed or shown.tasks[task].speed
            shown.update(task, rate=f"{speed:,.0f} {now.unit}/s" if speed else "")

        yield show


@contextmanager
def _one_bar() -> Iterator[Callable[[Standing], None]]:
    with bars() as show:
        yield partial(show, 0)
