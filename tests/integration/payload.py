"""A harmless payload, and how to see whether it ran. Each test has its control: a careless reader runs the payload."""

from __future__ import annotations

from pathlib import Path

from tests.integration.conftest import SMALL
from tests.integration.running import run_here

CONFIG = "trained/config.yaml"
EVALUATE, SELECT = "spi-evaluate run=trained", "spi-select run=trained callbacks=none"
PREDICT = "spi-predict ensemble=trained/ensemble data.path=simulated/patterns.cxi callbacks=none run=out"
RESUME = " ".join(SMALL[1])


class Payload:
    """Pickled, it makes a file where it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.marker,)


def refused(command: str, *words: str) -> None:
    status, stdout, stderr = run_here(command)
    assert status == 1, stdout + stderr
    assert [word for word in words if word not in stderr] == []
    assert "Traceback" not in stderr


def ran(marker: Path) -> bool:
    """Whether the payload has run; it may then run again."""
    there = marker.exists()
    marker.unlink(missing_ok=True)
    return there
