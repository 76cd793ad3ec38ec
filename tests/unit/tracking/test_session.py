"""Loggers together: none disturbs the others, nor what it is told of."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest

from spi_lightning.errors import SpiError
from spi_lightning.tracking.run import About, Place, Results, State, TrackedRun
from spi_lightning.tracking.session import Runs, check_installed, tracked
from tests.unit.tracking.opened import loggers, run_folder

Heard = list[tuple[str, Any]]


@dataclass
class Listener:
    """Remembers what it is told, and fails at one thing."""

    fails_at: str | None = None
    heard: Heard = field(default_factory=list)

    package: ClassVar[str | None] = None

    def opened(self, place: Place, about: About) -> TrackedRun:
        self._hear("opened", place.name)
        return _Listening(self)

    def _hear(self, what: str, told: Any) -> None:
        self.heard.append((what, told))
        if what == self.fails_at:
            raise OSError("database is locked\nby another")


class _Listening:
    def __init__(self, listener: Listener):
        self.listener = listener

    def go_on_from(self, step: int) -> None:
        self.listener._hear("go_on_from", step)

    def log(self, values: Mapping[str, float], step: int, epoch: int) -> None:
        self.listener._hear("log", dict(values))

    def flush(self) -> None:
        self.listener._hear("flush", None)

    def publish(self, results: Results) -> None:
        self.listener._hear("publish", results.metrics)

    def close(self, state: State) -> None:
        self.listener._hear("close", state)


def told_everything(runs: Runs) -> None:
    runs.go_on_from(0)
    runs.log({"loss": 0.5, "f1": float("nan")}, 1, 0)
    runs.flush()
    runs.publish()


ALL = [
    *(("opened", "run"), ("go_on_from", 0), ("log", {"loss": 0.5}), ("flush", None), ("publish", {})),
    ("close", "complete"),
]


@pytest.mark.parametrize("moment", [what for what, _ in ALL])
def test_a_logger_that_fails_is_left_out_and_the_others_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, moment: str
) -> None:
    failing, well = Listener(moment), Listener()
    with tracked({"broken": failing, "well": well}, run_folder(tmp_path)) as runs:
        told_everything(runs)

    assert well.heard == ALL
    place = [what for what, _ in ALL].index(moment)
    ended = [] if moment in ("opened", "close") else [("close", "failed")]
    assert failing.heard == [*ALL[: place + 1], *ended]
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert "logger.broken is left out from here on for run (database is locked by another)" in warnings[0]
    assert f"Results are not concerned: they are in {tmp_path / 'run'}" in warnings[0]


@pytest.mark.parametrize(
    ("error", "state"), [(ValueError(), "failed"), (SystemExit(143), "stopped"), (KeyboardInterrupt(), "stopped")]
)
def test_runs_end_as_what_they_are_told_of(tmp_path: Path, error: BaseException, state: str) -> None:
    listener = Listener()
    with pytest.raises(type(error)), tracked({"one": listener}, run_folder(tmp_path), 0):
        raise error
    assert listener.heard == [("opened", "run/fold 0"), ("close", state)]


def test_a_missing_package_is_told_with_the_extra_that_has_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    check_installed(loggers(tmp_path))
    found: Callable[[str], Any] = {"mlflow": object()}.get
    monkeypatch.setattr("importlib.util.find_spec", found)
    with pytest.raises(SpiError, match=r"logger\.wandb: .* pip install 'spi-lightning\[wandb\]'"):
        check_installed(loggers(tmp_path))


def test_loggers_go_to_processes(tmp_path: Path) -> None:
    every = loggers(tmp_path)
    assert pickle.loads(pickle.dumps(every)) == every
