from __future__ import annotations

import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.slurm.cluster import missing_packages, running_cluster

BIN = Path(sys.executable).parent
PATIENCE = 600.0  # seconds: the machine may have much else to do


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "slurm" in config.option.markexpr:
        return
    for item in items:
        if item.get_closest_marker("slurm") is not None:
            item.add_marker(pytest.mark.skip(reason="starts a SLURM cluster of its own: make test-slurm"))


@pytest.fixture(scope="session")
def cluster() -> Iterator[dict[str, str]]:
    """The environment of SLURM's commands for a cluster that lasts as long as the tests."""
    if missing := missing_packages():
        pytest.fail(f"These Debian packages are missing: apt-get install {' '.join(missing)}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the cluster ends in order
    with (
        tempfile.TemporaryDirectory(prefix="slurm-", ignore_cleanup_errors=True) as folder,
        running_cluster(Path(folder)) as environment,
    ):
        yield environment | {"OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory, cluster: dict[str, str]) -> Path:
    """The folder in which all commands are started, with 200 simulated patterns."""
    folder = tmp_path_factory.mktemp("work")
    command = [str(BIN / "spi-simulate"), "simulate=tiny", "simulate.n_patterns=200", "run=data"]
    subprocess.run(command, cwd=folder, env=cluster, check=True, capture_output=True, timeout=PATIENCE)
    return folder


class Started:
    """A command that has been started, and what it has said so far."""

    def __init__(self, arguments: list[str], folder: Path, environment: dict[str, str]):
        with tempfile.NamedTemporaryFile(dir=folder, prefix="said-", delete=False) as said:
            command = [str(BIN / arguments[0]), *arguments[1:]]
            self._said = Path(said.name)
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                env=environment,
                stdout=said,
                stderr=said,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored in a shell's background
            )

    @property
    def said(self) -> str:
        return self._said.read_text(encoding="utf-8")

    def jobs(self) -> list[tuple[str, int]]:
        """SLURM's numbers of what has been submitted, and how many jobs each time."""
        return [(job, int(number)) for job, number in re.findall(r"SLURM job (\d+): (\d+) submitted", self.said)]

    def job(self) -> str:
        """SLURM's number of the first submission, once there is one."""
        until(lambda: bool(self.jobs()), self)
        return self.jobs()[0][0]

    def runs(self) -> bool:
        return self._process.poll() is None

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)

    def end(self, status: int = 0) -> str:
        """Wait for its end, and return what it said."""
        found = self._process.wait(PATIENCE)
        assert found == status, f"exit status {found}:\n{self.said}"
        return self.said


@pytest.fixture
def start(place: Path, cluster: dict[str, str]) -> Iterator[Callable[..., Started]]:
    """Start a command in the common folder; one that still runs at the end of the test is killed, with its jobs."""
    started: list[Started] = []

    def begin(*arguments: str) -> Started:
        started.append(Started(list(arguments), place, cluster))
        return started[-1]

    yield begin
    for one in started:
        one._process.kill()
        one._process.wait()
    subprocess.run(["scancel", "--me"], env=cluster, check=True)


@pytest.fixture
def slurm(cluster: dict[str, str]) -> Callable[..., str]:
    """Run one of SLURM's own commands."""

    def run(*command: str) -> str:
        return subprocess.run(command, env=cluster, check=True, capture_output=True, text=True, timeout=60).stdout

    return run


def until(ready: Callable[[], bool], started: Started | None = None) -> None:
    """Wait for something to happen, as long as a command runs."""
    end = time.monotonic() + PATIENCE
    while not ready():
        assert started is None or started.runs(), f"it has ended before:\n{started.said}"
        assert time.monotonic() < end, f"nothing happened within {PATIENCE:g} s"
        time.sleep(0.1)
