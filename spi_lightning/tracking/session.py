"""All loggers of a run at once, none of which can disturb what it is told of."""

from __future__ import annotations

import importlib.util
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from spi_lightning.errors import SpiError
from spi_lightning.tracking.results import about, results
from spi_lightning.tracking.run import About, Logger, Place, State, TrackedRun

log = logging.getLogger("spi_lightning")
LONGEST = 300  # characters of what a logger complains of


def check_installed(loggers: Mapping[str, Logger]) -> None:
    """Raise :class:`SpiError` where a logger's library is missing."""
    for name, logger in loggers.items():
        package = logger.package
        if package is not None and importlib.util.find_spec(package) is None:
            raise SpiError(
                f"logger.{name}: the package {package} is not installed. Install it with pip install "
                f"'spi-lightning[{package}]', or leave the logger out (logger=[csv,tensorboard])."
            )


class Runs:
    """The open runs of one thing, by the names of their loggers."""

    def __init__(self, loggers: Mapping[str, Logger], place: Place):
        self._place = place
        self._open: dict[str, TrackedRun] = {}
        if loggers:
            known = about(place)
            for name, logger in loggers.items():
                self._guarded(name, partial(self._begin, name, logger, known))

    def __len__(self) -> int:
        return len(self._open)

    def go_on_from(self, step: int) -> None:
        """Begin after so many iterations."""
        self._each(lambda run: run.go_on_from(step))

    def log(self, values: Mapping[str, float], step: int, epoch: int) -> None:
        """Add numbers by name, after ``step`` iterations; those that are not finite are left out."""
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        self._each(lambda run: run.log(finite, step, epoch))

    def flush(self) -> None:
        """Make sure of what was told."""
        self._each(lambda run: run.flush())

    def publish(self) -> None:
        """Show what the run's folder holds by now."""
        if self._open:
            found = results(self._place)
            self._each(lambda run: run.publish(found))

    def close(self, state: State) -> None:
        """End all of them."""
        ending, self._open = self._open, {}
        for name, run in ending.items():
            self._guarded(name, partial(run.close, state))

    def _begin(self, name: str, logger: Logger, known: About) -> None:
        self._open[name] = logger.opened(self._place, known)

    def _each(self, act: Callable[[TrackedRun], Any]) -> None:
        for name, run in list(self._open.items()):
            self._guarded(name, partial(act, run))

    def _guarded(self, name: str, act: Callable[[], Any]) -> None:
        """Whatever a logger's library raises, network and databases being what they are: work goes on without it."""
        try:
            act()
        except Exception as error:
            lost = self._open.pop(name, None)
            said = " ".join(str(error).split()) or type(error).__name__
            log.warning(
                "logger.%s is left out from here on for %s (%s). Results are not concerned: they are in %s.",
                *(name, self._place.name, said[:LONGEST], self._place.folder),
            )
            log.debug("What logger.%s raised:", name, exc_info=True)
            if lost is not None:
                self._guarded(name, partial(lost.close, "failed"))


@contextmanager
def tracked(loggers: Mapping[str, Logger], run: Path, fold: int | None = None) -> Iterator[Runs]:
    """Open runs, and end them however the block ends, so that nothing later is told to them.

    Args:
        loggers: by name; none where nothing is to be tracked.
        run: folder of the training, with its ``config.yaml``.
        fold: that is trained; None for the training as a whole.
    """
    runs = Runs(loggers, Place(run.resolve(), fold))
    state: State = "stopped"
    try:
        yield runs
        state = "complete"
    except Exception:
        state = "failed"
        raise
    finally:
        runs.close(state)
