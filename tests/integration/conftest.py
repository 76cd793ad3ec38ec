from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.running import run_in

BIN = Path(sys.executable).parent
EM = "callbacks.em.em={classes: 3, rotations: 12, starts: 2, iterations: 10}"
SMALL = (  # commands that make a folder with a simulation, a training on it, and a prediction by that
    ("spi-simulate", "simulate=tiny", "simulate.n_patterns=120", "workers=1", "run=simulated"),
    ("spi-train", "experiment=tiny", "data.path=simulated/patterns.cxi", "trainer.threads=1", "run=trained",
     "truth.dataset=entry_1/image_1/truth/single", "paper=MaxF1"),
    ("spi-predict", "ensemble=trained/ensemble", "data.path=simulated/patterns.cxi", "run=predicted", EM,
     "callbacks.psd.resamples=20"),
)  # fmt: skip


@pytest.fixture
def spi(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess]:
    """Run a command as a user does, in an empty folder; but in this process, where it need not be started."""

    def run(command: str, *arguments: str, ok: bool = True) -> subprocess.CompletedProcess:
        done = run_in(tmp_path, command, *arguments)
        if ok:
            assert done.returncode == 0, done.stdout + done.stderr
        return done

    return run


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with simulated patterns, a training on them, and a prediction of them by it; tests must not change it.

    It is made once for all processes of pytest-xdist.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "made"
    with open(folder.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            make_small(folder)
    return folder


def make_small(folder: Path) -> None:
    """Run :data:`SMALL` in a folder, which appears once all is made."""
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    unfinished.mkdir()
    for name, *arguments in SMALL:
        done = subprocess.run(
            [str(BIN / name), *arguments], cwd=unfinished, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    unfinished.rename(folder)


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that commands run in, with a copy of a simulation, a training and a prediction."""
    shutil.copytree(made, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """The file that a payload would make."""
    return tmp_path / "it-ran"
