"""spi-train with two processes to a fold, in a sweep that is killed."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.conftest import BIN

SWEEP = ("-m", "experiment=tiny", "data.path=simulated/patterns.cxi", "seed=1,2", "fold=0", "trainer.devices=2")
SETTINGS = ("trainer.threads=1", "trainer.epochs=60", "augmentation=none", "run=sweep")


def _wait(until: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not until() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert until()


def _children(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def _alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_a_sweep_starts_the_jobs_asked_for_and_no_process_outlives_it(spi, tmp_path: Path) -> None:
    spi("spi-simulate", "simulate=tiny", "workers=1", "run=simulated")
    command = [str(BIN / "spi-train"), *SWEEP, *SETTINGS]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL)
    first, second = (tmp_path / "sweep" / f"seed-{seed}" / "folds/0" for seed in (1, 2))
    _wait(lambda: process.poll() is not None or (first / "last.ckpt").exists(), 200)
    children = _children(process.pid)
    assert len(children) >= 2  # besides what multiprocessing has for itself
    process.kill()
    process.wait()
    _wait(lambda: not any(_alive(child) for child in children), 30)
    assert not (first / "predictions.h5").exists()
    spi("spi-train", *SWEEP, *SETTINGS)
    epochs = [len((fold / "history.csv").read_text().splitlines()) - 1 for fold in (first, second)]
    assert epochs == [60, 60]
    assert sorted(path.parent for path in tmp_path.rglob("status.json")) == [tmp_path / "simulated", first, second]
    assert {path.name for path in tmp_path.iterdir()} == {"simulated", "sweep"}
    assert list(tmp_path.rglob("*.partial-*")) == []
