from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from spi_lightning.config import compose
from spi_lightning.config.train_schema import TrainConfig

CONF = Path(__file__).parents[2] / "conf"
TRAIN = ("data.path=sim/patterns.cxi", "experiment=tiny", "callbacks=none", "selections=none", "logger=none")
SMALL = (
    *("split.folds=2", "folds_at_once=1", "sampler.batch_size=4", "sampler.batches=2", "trainer.epochs=1"),
    *("trainer.validate_every=1", "trainer.threads=1"),
)
NARROW = "model.filters=[2,2,2,4,4,4]"
# What makes a sweep of days one of seconds: next to nothing to train, and two jobs. The truth is not asked for.
QUICK = {
    "paper": ("split.singles=4", "split.others=16", *SMALL, NARROW, "seed=3"),
    "sampler_loss": ("experiment=tiny", *SMALL, "sampler.single_share=0.1", "loss=weighted_cross_entropy,focal"),
    "transforms": ("experiment=tiny", *SMALL, "augmentation.transforms.leave_out=rotation,all"),
    "search": ("experiment=tiny", *SMALL, "hydra.sweeper.trials=2"),
    "labelled_singles": ("experiment=tiny", "split.others=20", *SMALL, "split.singles=10,100"),
    "block_layouts": ("split.singles=4", "split.others=16", *SMALL, NARROW, "model.blocks=[2,2,1,1,1,1],[1,2,1,2,1,1]"),
    "folds": ("experiment=tiny", *SMALL, "fold=0,1"),
}
PRESETS = sorted(path.stem for path in (CONF / "sweep").glob("*.yaml"))
EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))


@pytest.fixture(scope="module")
def simulated(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("simulated")
    command = [str(Path(sys.executable).parent / "spi-simulate"), "simulate=tiny", "run=sim", "workers=1"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder / "sim" / "patterns.cxi"


@pytest.fixture
def sim(simulated: Path, tmp_path: Path) -> Path:
    (tmp_path / "sim").mkdir()
    shutil.copy(simulated, tmp_path / "sim")
    return tmp_path


def _jobs(folder: Path) -> dict[str, dict]:
    return {job["name"]: job for job in json.loads((folder / "sweep.json").read_text())["jobs"]}


def test_a_failed_job_fails_alone_and_what_is_missing_is_started_again(spi, sim: Path) -> None:
    command = ("spi-train", *TRAIN, "split.singles=2000,null,4", "run=s", "-m")
    done = spi(*command, ok=False)
    assert done.returncode == 1
    assert "1 of 3 jobs are not complete" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    jobs = _jobs(sim / "s")
    states = {"split.singles-2000": "failed", "split.singles-null": "complete", "split.singles-4": "complete"}
    assert {name: job["state"] for name, job in jobs.items()} == states
    failed = jobs["split.singles-2000"]
    assert "split.singles asks for 2000" in failed["error"]
    assert failed["traceback"] == (sim / "s" / failed["folder"] / "traceback.txt").read_text()

    kept = sim / "s" / "split.singles-null"
    before = {path: path.stat().st_mtime_ns for path in kept.rglob("*") if path.is_file() and path.name != "lock"}
    (sim / "s" / "split.singles-4" / "scores.h5").unlink()
    again = spi(*command, ok=False)
    assert "1 of 3 jobs are complete" in again.stdout
    assert "split.singles-null:" not in again.stdout
    assert "split.singles-4:" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in before} == before

    more = spi("spi-train", *TRAIN, "split.singles=null,4,3", "run=s", "-m")
    assert "2 of 3 jobs are complete" in more.stdout
    assert len(_jobs(sim / "s")) == 4
    other = spi("spi-train", *TRAIN, "split.singles=null,2000", "optimizer.lr=0.5", "run=s", "-m", ok=False)
    assert "optimizer.lr is 0.01 there and 0.5 here" in other.stderr
    assert _jobs(sim / "s")["split.singles-null"]["state"] == "failed"
    assert "lr: 0.01" in (kept / "config.yaml").read_text()


def test_folds_of_several_runs_are_jobs_of_one_sweep_and_put_together(spi, sim: Path) -> None:
    spi("spi-train", *TRAIN, "seed=2", "run=whole")
    one = spi("spi-train", *TRAIN, "seed=1,2", "fold=choice(1)", "run=s", "-m")
    assert "parts are missing" in one.stdout
    spi("spi-train", *TRAIN, "seed=1,2", "fold=0,1", "run=s", "-m")
    jobs = json.loads((sim / "s" / "sweep.json").read_text())["jobs"]
    folders = {job["folder"] for job in jobs if job["state"] == "complete"}
    assert folders == {f"seed-{seed}{inner}" for seed in (1, 2) for inner in ("", "/folds/0", "/folds/1")}
    table = "tables/test.csv"  # of a job that was not the first one of its process, nor is that to be seen
    assert (sim / "s" / "seed-2" / table).read_bytes() == (sim / "whole" / table).read_bytes()
    assert (sim / "s" / "seed-1" / table).read_bytes() != (sim / "whole" / table).read_bytes()


def test_a_key_on_the_command_line_replaces_that_of_a_preset(spi, sim: Path) -> None:
    spi("spi-train", *TRAIN, "sweep=sampler_loss", "sampler.single_share=0.5", "loss=focal,cross_entropy", "run=s")
    assert set(_jobs(sim / "s")) == {"loss-focal", "loss-cross_entropy"}


def test_a_mistake_in_any_job_is_told_before_the_first_one_starts(spi, sim: Path) -> None:
    wrong = {
        ("seed=1,2", "sampler.batches=1,two"): "sampler.batches",
        ("seed=1,2", "model=small_cnn,big_cnn"): "there is no such choice",
        ("optimizer.lr=interval(0.1,0.2)",): "is for a search",
        ("sweep=papr",): "Did you mean 'paper'",
    }
    for overrides, words in wrong.items():
        done = spi("spi-train", *TRAIN, *overrides, "run=s", "-m", ok=False)
        assert done.returncode == 1
        assert words in done.stderr
        assert "Traceback" not in done.stderr
        assert not list((sim / "s").glob("*/*"))


def test_several_runs_are_evaluated_by_one_command_each_in_its_own_folder(spi, sim: Path) -> None:
    spi("spi-train", *TRAIN, "seed=1,2", "run=s", "-m")
    (sim / "s/seed-1/folds/0/predictions.h5").unlink()
    done = spi("spi-evaluate", "run=s/seed-1,s/seed-2", "-m", ok=False)
    assert done.returncode == 1
    assert re.search(r"failed +s/seed-1/evaluation +s/seed-1: fold 0 of 2 is not finished", done.stdout)
    assert re.search(r"complete +s/seed-2/evaluation", done.stdout)
    assert not (sim / "sweep.json").exists()


@pytest.mark.parametrize("preset", [preset for preset in PRESETS if preset != "search"])
def test_every_job_of_a_preset_can_be_composed(preset: str) -> None:
    params, multirun = compose._sweep("train", CONF, [f"sweep={preset}"])
    jobs = compose._jobs(["data.path=patterns.cxi", f"sweep={preset}", *params], multirun)
    assert len(jobs) > 3
    for overrides in jobs:
        assert compose.composed("train", CONF, TrainConfig, overrides).search is None


@pytest.mark.slow
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_runs(spi, sim: Path, experiment: str) -> None:
    few = () if experiment in ("tiny", "amo86615") else ("split.singles=4", "split.others=16")
    narrow = {"maxf1": (NARROW,), "moresh": (NARROW,)}.get(experiment, ())
    quick = (*few, *SMALL, *narrow, "callbacks=quick")
    spi("spi-train", f"experiment={experiment}", "data.path=sim/patterns.cxi", *quick, "run=a")
    assert (sim / "a" / "report.html").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESETS)
def test_every_sweep_runs(spi, sim: Path, preset: str) -> None:
    if preset == "labelled_singles":
        many = ("simulate.n_patterns=240", "simulate.composition.single.share=200")
        spi("spi-simulate", "simulate=tiny", *many, "run=many", "workers=1")
        (sim / "many" / "patterns.cxi").replace(sim / "sim" / "patterns.cxi")
    spi("spi-train", f"sweep={preset}", *TRAIN[:1], *TRAIN[2:], *QUICK[preset], "run=s")
    folders = [path.parent for path in (sim / "s").rglob("status.json")]
    assert len(folders) == (3 if preset == "folds" else 2)
    assert {json.loads((folder / "status.json").read_text())["state"] for folder in folders} == {"complete"}
