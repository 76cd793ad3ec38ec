"""Where the time goes: regions of a run, watched from outside, so that the package itself is not littered.

Functions and hooks of torch, Lightning and this package are wrapped while a run is watched. The clock notes when a
region begins and ends; what a region within it takes is not counted twice. Each region is also a
:class:`torch.profiler.record_function`, so that a profile tells where an operation belongs.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial, wraps
from typing import Any, NamedTuple
from unittest.mock import patch

import pytorch_lightning as pl
import torch
from pytorch_lightning.profilers import PassThroughProfiler
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.profiler import record_function

from spi_lightning.augmentation.batched import BatchedPipeline
from spi_lightning.data.normalisation import Normalisation

FORWARD, BACKWARD, OPTIMISER = "network and loss, forward", "network and loss, backward", "optimiser"
NORMALISING, AUGMENTING = "normalising", "augmenting"
GATHERING, MOVING, READING = "drawing and gathering", "moving to the device", "reading"
REST = "the rest: Lightning, Python, waiting"
NETWORK = (FORWARD, BACKWARD)
PREFIX = "region: "  # of the names in a profile


class Event(NamedTuple):
    """A region begins, or (``name`` None) the innermost one ends."""

    thread: int
    when: float
    name: str | None


class Clock:
    """Notes regions.

    Attributes:
        events: of all threads, each thread's in their order.
        steps: when each step of the optimiser ended.
        on_step: called with the number of steps so far.
    """

    def __init__(self, on_step: Callable[[int], object] = lambda steps: None) -> None:
        self.events: list[Event] = []
        self.steps: list[float] = []
        self.on_step = on_step
        self._open = threading.local()

    def begin(self, name: str) -> None:
        """A region begins in this thread."""
        record = record_function(PREFIX + name)
        record.__enter__()
        self._records.append(record)
        self._note(name)

    def end(self) -> None:
        """The innermost region of this thread ends; on a GPU, its work is waited for."""
        self._note(None)
        self._records.pop().__exit__(None, None, None)

    def step(self) -> None:
        """A step of the optimiser has ended."""
        self.steps.append(time.perf_counter())
        self.on_step(len(self.steps))

    @contextmanager
    def region(self, name: str) -> Iterator[None]:
        """All that is done in the block."""
        self.begin(name)
        try:
            yield
        finally:
            self.end()

    def wrapped(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        """The same function as a region."""

        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            with self.region(name):
                return function(*args, **kwargs)

        return call

    def seconds(self, start: float, end: float) -> dict[str, float]:
        """Time of each region between two moments, all threads together, without the regions within it."""
        return exclusive(self.events, start, end)

    @property
    def _records(self) -> list[record_function]:
        if not hasattr(self._open, "records"):
            self._open.records = []
        return self._open.records

    def _note(self, name: str | None) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.events.append(Event(threading.get_ident(), time.perf_counter(), name))


def exclusive(events: Sequence[Event], start: float, end: float) -> dict[str, float]:
    """Seconds of each region between two moments, all threads together, without the regions within it."""
    total: dict[str, float] = defaultdict(float)
    open_regions: dict[int, list[str]] = defaultdict(list)
    since: dict[int, float] = {}
    for thread, when, name in events:
        now = min(max(when, start), end)
        inside = open_regions[thread]
        if inside:
            total[inside[-1]] += now - since[thread]
        since[thread] = now
        if name is None:
            inside.pop()
        else:
            inside.append(name)
    return dict(total)


@contextmanager
def watched(clock: Clock) -> Iterator[None]:
    """Let a clock note what training and prediction do in the block."""
    with ExitStack() as stack:
        for owner, attribute, name in (
            (Normalisation, "__call__", NORMALISING),
            (BatchedPipeline, "__call__", AUGMENTING),
            (torch.autograd, "backward", BACKWARD),
        ):
            wrapper = clock.wrapped(getattr(owner, attribute), name)
            stack.enter_context(patch.object(owner, attribute, wrapper))
        stack.enter_context(patch.object(PassThroughProfiler, "start", _action_starts(clock)))
        stack.enter_context(patch.object(PassThroughProfiler, "stop", _action_stops(clock)))
        outermost = threading.local()
        for handle in (
            register_module_forward_pre_hook(partial(_enters, clock, outermost)),
            register_module_forward_hook(partial(_leaves, clock, outermost)),
            register_optimizer_step_pre_hook(partial(_step_begins, clock)),
            register_optimizer_step_post_hook(partial(_step_ends, clock)),
        ):
            stack.callback(handle.remove)
        yield


def _action(name: str) -> str | None:
    """The region that one of the actions which Lightning tells its profilers of belongs to."""
    if name.endswith("_next"):
        return GATHERING
    return MOVING if name.endswith(("batch_to_device", "transfer_batch_to_device")) else None


def _action_starts(clock: Clock) -> Callable[[PassThroughProfiler, str], None]:
    def start(profiler: PassThroughProfiler, name: str) -> None:
        if (region := _action(name)) is not None:
            clock.begin(region)

    return start


def _action_stops(clock: Clock) -> Callable[[PassThroughProfiler, str], None]:
    def stop(profiler: PassThroughProfiler, name: str) -> None:
        if _action(name) is not None:
            clock.end()

    return stop


def _enters(clock: Clock, outermost: threading.local, module: nn.Module, inputs: Any) -> None:
    if getattr(outermost, "module", None) is None and not isinstance(module, pl.LightningModule):
        outermost.module = module
        clock.begin(FORWARD)


def _leaves(clock: Clock, outermost: threading.local, module: nn.Module, inputs: Any, outputs: Any) -> None:
    if getattr(outermost, "module", None) is module:
        outermost.module = None
        clock.end()


def _step_begins(clock: Clock, optimizer: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    clock.begin(OPTIMISER)
    closure = kwargs.get("closure")  # in which Lightning does all the rest of a step
    return args, kwargs if closure is None else {**kwargs, "closure": clock.wrapped(closure, REST)}


def _step_ends(clock: Clock, optimizer: Any, args: Any, kwargs: dict[str, Any]) -> None:
    clock.end()
    clock.step()
