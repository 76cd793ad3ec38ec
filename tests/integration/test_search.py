from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from omegaconf import OmegaConf

pytest.importorskip("optuna")

SEARCH = (
    *("sweep=search", "experiment=tiny", "data.path=sim/patterns.cxi", "callbacks=none", "selections=none"),
    *("loss=cross_entropy", "optimizer.lr=tag(log,interval(1e-3,1e-1))", "run=s"),
)


def test_a_search_survives_a_kill_and_ends_with_as_many_trials_as_wanted(spi, tmp_path: Path) -> None:
    from spi_lightning.training.study import OBJECTIVE, open_study

    spi("spi-simulate", "simulate=tiny", "run=sim", "workers=1")
    command = [str(Path(sys.executable).parent / "spi-train"), *SEARCH, "hydra.sweeper.trials=3"]
    with subprocess.Popen(command, cwd=tmp_path, start_new_session=True, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 240
        while not (tmp_path / "s/trial-1/folds/0/predictions.h5").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
    before = open_study(tmp_path / "s/study.journal", 6).get_trials()
    assert [trial.state.name for trial in before] == ["COMPLETE", "RUNNING"]

    done = spi("spi-train", *SEARCH, "hydra.sweeper.trials=3")
    trials = open_study(tmp_path / "s/study.journal", 6).get_trials()
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 3
    assert trials[1].params == before[1].params
    assert len({trial.params["optimizer.lr"] for trial in trials}) == 3
    for trial in trials:
        folder = tmp_path / "s" / f"trial-{trial.number}"
        assert json.loads((folder / "provenance.json").read_text())[OBJECTIVE] == trial.value
        assert list(trial.intermediate_values) == [0, 1]
        config = OmegaConf.load(folder / "config.yaml")
        assert config.optimizer.lr == pytest.approx(trial.params["optimizer.lr"], rel=1e-3)
    best = max(trials, key=lambda trial: trial.value)
    assert f"Best: trial-{best.number}" in done.stdout

    again = spi("spi-train", *SEARCH, "hydra.sweeper.trials=3")
    assert "Fold" not in again.stdout


def test_a_search_says_what_it_cannot_search(spi) -> None:
    for overrides, words in {
        ("optimizer.lr=interval(1,0.1)",): "optimizer.lr=interval(1,0.1)",
        ("hydra.sweeper.params=null", "loss=focal", "optimizer.lr=0.1"): "nothing to vary",
    }.items():
        done = spi("spi-train", *SEARCH[:5], *overrides, "run=s", ok=False)
        assert done.returncode == 1
        assert words in done.stderr
        assert "Traceback" not in done.stderr
