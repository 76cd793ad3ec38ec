"""spi-train with several folds at once, stopped in every way."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.conftest import BIN

TRAIN = ("experiment=tiny", "data.path=patterns.cxi", "trainer.threads=1", "trainer.epochs=30")


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """The empty folder that commands run in, with a small run."""
    command = [str(BIN / "spi-simulate"), "simulate=tiny", "simulate.n_patterns=120", "workers=1", "run=simulated"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=120)
    (tmp_path / "patterns.cxi").symlink_to(tmp_path / "simulated/patterns.cxi")
    return tmp_path


def _started(here: Path, *settings: str) -> tuple[subprocess.Popen, list[int]]:
    """A training in the folder ``a`` with both folds under way, and the numbers of their processes."""
    command = [str(BIN / "spi-train"), *TRAIN, "folds_at_once=2", *settings, "run=a"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, cwd=here, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    folds = [here / "a/folds" / fold for fold in ("0", "1")]
    _wait(lambda: process.poll() is not None or all((fold / "last.ckpt").exists() for fold in folds), 120)
    return process, [int(re.findall(r"process (\d+)", (fold / "lock").read_text())[0]) for fold in folds]


def _wait(until: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not until() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert until()


def _alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def _results(folder: Path) -> list[bytes]:
    names = ("tables/cross_validation.csv", "tables/test.csv", "ensemble/weights.safetensors")
    histories = (f"folds/{fold}/history.csv" for fold in (0, 1))
    return [(folder / name).read_bytes() for name in (*names, *histories)]


@pytest.mark.slow
def test_a_killed_fold_leaves_the_other_and_goes_on_to_the_same_result(spi, here: Path) -> None:
    spi("spi-train", *TRAIN, "trainer.epochs=60", "folds_at_once=1", "run=whole")
    process, children = _started(here, "trainer.epochs=60")
    assert process.pid not in children
    os.kill(children[1], signal.SIGKILL)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 1
    assert said.startswith("error: Fold 1: its process was killed")
    assert "The other folds are trained." in said
    assert "Traceback" not in said
    assert (here / "a/folds/0/predictions.h5").exists()
    assert not (here / "a/folds/1/predictions.h5").exists()
    spi("spi-train", *TRAIN, "trainer.epochs=60", "folds_at_once=2", "run=a")
    assert _results(here / "a") == _results(here / "whole")
    assert list((here / "a").rglob("*.partial-*")) == []
    facts = json.loads((here / "a/provenance.json").read_text())
    assert facts["folds at once"] == 2
    assert facts["threads of each fold"] == [1, 1]


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_no_fold_outlives_the_training(here: Path, how: signal.Signals) -> None:
    process, children = _started(here, "trainer.epochs=50000")
    assert all(_alive(child) for child in children)
    process.send_signal(how)
    assert process.wait(timeout=30) != 0
    _wait(lambda: not any(_alive(child) for child in children), 30)
    state = json.loads((here / "a/status.json").read_text())["state"]
    assert state == ("running" if how == signal.SIGKILL else "stopped")
    assert all((here / f"a/folds/{fold}/last.ckpt").exists() for fold in (0, 1))
