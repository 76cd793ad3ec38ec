"""A command that is killed leaves no process behind, and comes to the same result when it is started again.

``python -m benchmarks.kills`` does so at random moments, and often; here the moments are chosen.
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.killing import Ended, differences, ended, finished, results
from tests.integration.conftest import SMALL

TRAIN = [*SMALL[1], "run=killed"]
SELECT = ["spi-select", "run=run", "callbacks=none", "export.cxi=true"]


@pytest.fixture
def here(made: Path, tmp_path: Path) -> Path:
    """The folder that commands run in, with simulated patterns, an ensemble and a prediction."""
    for name in ("simulated", "trained", "predicted"):
        shutil.copytree(made / name, tmp_path / name)
    return tmp_path


def appears(path: Path) -> Callable[[], bool]:
    return path.exists


def killed(command: list[str], here: Path, due: Callable[[], bool]) -> Ended:
    how = ended(command, here, here / "log", signal.SIGKILL, due)
    assert how.signalled, (here / "log").read_text()
    return how


def test_a_training_that_is_killed_twice(here: Path) -> None:
    folds = here / "killed/folds"
    for moment in (appears(folds / "0/last.ckpt"), appears(folds / "1/best.ckpt")):
        how = killed(TRAIN, here, moment)
        assert how.left == 0
        assert not (here / "killed/scores.h5").exists()
    finished(TRAIN, here, here / "log")
    undisturbed = results(here / "trained")
    assert {"scores.h5", "selection.h5", "splits.json", "ensemble/weights.safetensors"} <= set(undisturbed)
    assert differences(undisturbed, results(here / "killed")) == []


def test_a_selection_that_is_killed(here: Path) -> None:
    shutil.copytree(here / "predicted", here / "run")
    before = results(here / "run")
    how = killed(SELECT, here, appears(here / "run/selection.new/tables"))
    assert how.left == 0
    kept = {name: each for name, each in results(here / "run").items() if not name.startswith("selection.new/")}
    assert differences(before, kept) == []
    finished(SELECT, here, here / "log")
    again = results(here / "run")
    shutil.rmtree(here / "run")
    shutil.copytree(here / "predicted", here / "run")
    finished(SELECT, here, here / "log")
    assert differences(again, results(here / "run")) == []
    assert differences(before, again) != []


def test_differences_are_seen(here: Path) -> None:
    before = results(here / "predicted")
    assert {"scores.h5", "selection.h5", "selection.csv", "summary.json", "tables/selections.csv"} <= set(before)
    (here / "predicted/tables/selections.csv").write_text("selection,patterns\n")
    (here / "predicted/figures/psd.png").unlink()
    shutil.copy(here / "trained/scores.h5", here / "predicted/scores.h5")
    now = results(here / "predicted")
    assert differences(before, now) == ["figures/psd.png", "scores.h5", "tables/selections.csv"]
