"""Against a real SLURM on this machine (tests/slurm/cluster.py): ``make test-slurm``.

What is compared is byte by byte the tables, and the scores, with those of the same command without SLURM.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from spi_lightning.provenance import current_commit
from tests.slurm.conftest import Started, until

pytestmark = pytest.mark.slurm

TRAINING = [
    *("spi-train", "experiment=tiny", "data.path=data/patterns.cxi", "callbacks=none", "logger=tensorboard"),
    *("trainer.threads=1", "trainer.validate_every=5", "folds_at_once=2"),
]
CLUSTER = ["hydra/launcher=slurm_cpu", "hydra.launcher.mem_gb=2"]
FIVE = ["split.folds=5", "trainer.epochs=80"]
TWO = ["trainer.epochs=150"]
RESULTS = ("scores.h5", "folds/0/predictions.h5", "folds/1/predictions.h5")
INTERRUPTED = 130
CHECKPOINT = 5 * 4  # step of the first one: epochs times batches
Start = Callable[..., Started]
Slurm = Callable[..., str]


def local(start: Start, place: Path, name: str, *overrides: str) -> Path:
    """The run of the same settings without SLURM, made once."""
    if not (place / name / "scores.h5").exists():
        start(*TRAINING, *overrides, f"run={name}").end()
    return place / name


def assert_same_results(run: Path, reference: Path) -> None:
    for path in RESULTS:
        with h5py.File(run / path) as one, h5py.File(reference / path) as other:
            for name in ("id", "probability"):
                np.testing.assert_array_equal(one[name][:], other[name][:], err_msg=path)
    tables = sorted(path.name for path in (reference / "tables").glob("*.csv"))
    assert tables
    assert tables == sorted(path.name for path in (run / "tables").glob("*.csv"))
    for name in tables:
        assert (run / "tables" / name).read_bytes() == (reference / "tables" / name).read_bytes(), name


def status(folder: Path) -> dict:
    return json.loads((folder / "status.json").read_text())


def starts(folder: Path) -> int:
    """How often a job has been started in a folder."""
    return (folder / "log.txt").read_text().count("Started:")


def trains(*folders: Path) -> bool:
    """Whether all of these have a checkpoint of folds that are not finished."""
    return all((folder / "last.ckpt").exists() and not (folder / "predictions.h5").exists() for folder in folders)


def first_step(run: Path, fold: int) -> int:
    """The first step of a fold after its last start."""
    files = sorted(run.glob(f"tensorboard/fold_{fold}/events.*"), key=lambda path: path.stat().st_mtime)
    events = EventFileLoader(str(files[-1])).Load()
    return min(event.step for event in events for value in event.summary.value if value.tag == "train/loss")


def go_on_at_once(slurm: Slurm, job: str, command: Started) -> None:
    """SLURM lets a job that was put back wait for two minutes."""
    until(lambda: "Reason=BeginTime" in slurm("scontrol", "show", "job", job), command)
    slurm("scontrol", "update", f"JobId={job}", "StartTime=now")


def test_five_folds_of_which_one_is_killed_one_requeued_and_one_cancelled(
    start: Start, slurm: Slurm, place: Path
) -> None:
    command = [*TRAINING, *FIVE, "-m", "fold=0,1,2,3,4", "run=five", *CLUSTER, "hydra.launcher.cpus_per_task=1"]
    folds = [place / "five" / "folds" / str(fold) for fold in range(5)]
    commit = current_commit()
    first = start(*command)
    job = first.job()
    waiting = {
        folds[0]: lambda: os.kill(status(folds[0])["process"], signal.SIGKILL),
        folds[1]: lambda: slurm("scontrol", "requeue", f"{job}_1"),
        folds[2]: lambda: slurm("scancel", f"{job}_2"),
    }

    def disturbed() -> bool:
        for fold in [fold for fold in waiting if trains(fold)]:
            waiting.pop(fold)()
        return not waiting

    until(disturbed, first)
    go_on_at_once(slurm, f"{job}_1", first)
    said = first.end(status=1)

    assert first.jobs() == [(job, 5)]
    assert f"fold=0: SLURM job {job}_0 ended as FAILED by signal 9" in said
    assert f"fold=2: SLURM job {job}_2 ended as CANCELLED" in said
    assert "error: 2 of 5 jobs are not complete" in said
    assert [status(fold)["state"] for fold in folds] == ["running", "complete", "stopped", "complete", "complete"]
    assert [starts(fold) for fold in folds] == [1, 2, 1, 1, 1]
    assert not (place / "five" / "scores.h5").exists()

    again = start(*command)
    again.end()
    assert [number for _, number in again.jobs()] == [2, 1]  # what was missing, and what gathers
    assert [starts(fold) for fold in folds] == [2, 2, 2, 1, 1]
    assert all(first_step(place / "five", fold) > CHECKPOINT for fold in (0, 1, 2))
    assert_same_results(place / "five", local(start, place, "five_local", *FIVE))
    provenance = json.loads((folds[3] / "provenance.json").read_text())
    assert provenance["submitted"]["commit"] == commit
    assert provenance["command"][0] == "spi-train"
    third = start(*command)
    third.end()
    assert third.jobs() == []


def test_two_seeds_are_an_array_whose_jobs_have_the_cores_that_they_asked_for(start: Start, place: Path) -> None:
    command = [*TRAINING, *TWO, "-m", "seed=1,2", "run=seeds", *CLUSTER, "hydra.launcher.cpus_per_task=2"]
    sweep = start(*command, "folds_at_once=null")
    sweep.end()
    assert [number for _, number in sweep.jobs()] == [2]
    for seed in (1, 2):
        run = place / "seeds" / f"seed-{seed}"
        assert json.loads((run / "provenance.json").read_text())["folds at once"] == min(2, os.cpu_count() or 1)
        assert_same_results(run, local(start, place, f"local_{seed}", *TWO, f"seed={seed}"))


@pytest.mark.parametrize("partition", ["normal", "patient"])
def test_a_preempted_job_goes_on_from_its_last_checkpoint(
    start: Start, slurm: Slurm, place: Path, partition: str
) -> None:
    run = place / partition
    where = [f"hydra.launcher.partition={partition}", "hydra.launcher.cpus_per_task=2"]
    command = start(*TRAINING, *TWO, "-m", "seed=1", f"run={partition}", *CLUSTER, *where)
    folds = [run / "folds" / str(fold) for fold in range(2)]
    until(lambda: trains(*folds), command)
    slurm("sbatch", "--partition=urgent", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=sleep 3")
    go_on_at_once(slurm, command.job(), command)
    command.end()
    assert len(command.jobs()) == 1
    assert starts(run) == 2
    assert all(first_step(run, fold) > CHECKPOINT for fold in range(2))
    assert_same_results(run, local(start, place, "local_1", *TWO, "seed=1"))


def test_a_job_that_runs_out_of_time_goes_on_from_its_last_checkpoint(start: Start, slurm: Slurm, place: Path) -> None:
    long = ["trainer.epochs=1000", "seed=1"]
    limits = ["hydra.launcher.timeout_min=9", "hydra.launcher.signal_delay_s=30", "hydra.launcher.cpus_per_task=2"]
    command = start(*TRAINING, "-m", *long, "run=time", *CLUSTER, *limits)
    job = command.job()
    until(lambda: trains(place / "time" / "folds" / "0", place / "time" / "folds" / "1"), command)
    slurm("scontrol", "update", f"JobId={job}", "TimeLimit=1")
    until(lambda: status(place / "time")["state"] == "stopped", command)
    go_on_at_once(slurm, job, command)
    slurm("scontrol", "update", f"JobId={job}", "TimeLimit=9")
    command.end()
    assert len(command.jobs()) == 1
    assert starts(place / "time") == 2
    assert "(9 remaining timeouts)" in (place / "time" / ".submitit" / job / f"{job}_0_log.out").read_text()
    assert all(first_step(place / "time", fold) > CHECKPOINT for fold in range(2))
    assert_same_results(place / "time", local(start, place, "long_local", *long))


def test_jobs_outlive_the_command_and_are_not_run_twice(start: Start, place: Path) -> None:
    command = [*TRAINING, *TWO, "-m", "seed=1,2", "run=left", *CLUSTER, "hydra.launcher.cpus_per_task=1"]
    runs = [place / "left" / f"seed-{seed}" for seed in (1, 2)]
    first = start(*command)
    until(lambda: all(trains(run / "folds" / "0") for run in runs), first)
    first.interrupt()
    assert "The jobs go on under SLURM" in first.end(status=INTERRUPTED)
    for run in runs:
        os.kill(status(run)["process"], signal.SIGSTOP)  # until others have tried to do the same
    second = start(*command)
    assert second.end(status=1).count("is at work in left/seed-") >= 2
    for run in runs:
        os.kill(status(run)["process"], signal.SIGCONT)
    until(lambda: all(status(run)["state"] == "complete" for run in runs))
    assert [starts(run) for run in runs] == [1, 1]
    for seed, run in enumerate(runs, start=1):
        assert_same_results(run, local(start, place, f"local_{seed}", *TWO, f"seed={seed}"))
    third = start(*command)
    third.end()
    assert third.jobs() == []


def test_parts_of_a_prediction_are_gathered(start: Start, slurm: Slurm, place: Path) -> None:
    ensemble = local(start, place, "local_1", *TWO, "seed=1") / "ensemble"
    command = ["spi-predict", f"ensemble={ensemble}", "data.path=data/patterns.cxi", "callbacks=none", "range=64"]
    start(*command, "run=predicted").end()
    array = [*command, "-m", "parts=3", "part=0,1,2", "run=shared", "hydra/launcher=slurm_gpu", "device=cpu"]
    shared = start(*array, "hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=2")
    shared.end()
    (job, parts), (_, gathering) = shared.jobs()
    assert (parts, gathering) == (3, 1)
    assert "gres:gpu:1" in slurm("scontrol", "show", "job", f"{job}_0")
    with h5py.File(place / "shared" / "scores.h5") as one, h5py.File(place / "predicted" / "scores.h5") as other:
        for name in ("id", "probability", "models"):
            np.testing.assert_array_equal(one[name][:], other[name][:])
