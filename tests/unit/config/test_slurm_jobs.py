"""What there is to jobs under SLURM without a cluster; with one, see tests/slurm."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from spi_lightning import cores, provenance
from spi_lightning.config import slurm
from spi_lightning.config.compose import composed
from spi_lightning.config.launch import STOPPED_BY_SIGTERM, conf_folder
from spi_lightning.config.train_schema import TrainConfig
from spi_lightning.errors import SpiError


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in which alone programs are looked for."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def says(commands: Path, name: str, text: str) -> None:
    (commands / name).write_text(f"#!/bin/sh\n/bin/cat <<'END'\n{text}\nEND\n")
    (commands / name).chmod(0o755)


def job(folder: Path, job_id: str, result: Any = None) -> Any:
    """What submitit gives of a job; with a result, it has written one."""
    place = folder / job_id
    place.mkdir(parents=True)
    paths = SimpleNamespace(folder=place, result_pickle=place / "result.pkl", stderr=place / "log.err")
    if result is not None:
        paths.result_pickle.touch()
    return SimpleNamespace(job_id=job_id, paths=paths, result=lambda: result)


def test_without_slurm_a_sentence_says_so(commands: Path) -> None:
    with pytest.raises(SpiError, match=r"SLURM is not on this machine \(sbatch, srun, squeue not found\)"):
        slurm.submit({}, print, [])


def test_what_slurm_refuses_is_told_in_its_own_words(commands: Path, tmp_path: Path) -> None:
    for name in ("srun", "squeue"):
        says(commands, name, "")
    (commands / "sbatch").write_text("#!/bin/sh\necho sbatch: error: invalid partition specified: fast >&2\nexit 1\n")
    (commands / "sbatch").chmod(0o755)
    settings = {"submitit_folder": str(tmp_path / "%j"), "max_num_timeout": 1, "partition": "fast", "timeout_min": 1}
    with pytest.raises(SpiError, match=r"SLURM refused the jobs: invalid partition specified: fast\."):
        slurm.submit(settings, print, [("a",)])


def test_one_job_that_dies_does_not_hide_the_others(
    commands: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm, "FILE_SYSTEM", 0.0)
    jobs = [job(tmp_path, "7_0"), job(tmp_path, "7_1"), job(tmp_path, "7_2", "done")]
    says(commands, "squeue", "7_1")
    says(commands, "scontrol", "JobId=8 JobName=spi JobState=OUT_OF_MEMORY ExitCode=0:125")
    told: list[int] = []

    def tell(number: int, outcome: Any) -> None:
        told.append(number)
        if number == 0:  # the one that was still in the queue ends last
            jobs[1].paths.result_pickle.touch()

    first, second, third = slurm.outcomes(jobs, tell)
    assert told == [2, 0, 1]
    assert isinstance(first, SpiError)
    assert "SLURM job 7_0 ended as OUT_OF_MEMORY" in str(first)
    assert "hydra.launcher.mem_gb" in str(first)
    assert (second, third) == (None, "done")


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("JobState=FAILED ExitCode=137:0", "ended as FAILED by signal 9"),
        ("JobState=FAILED ExitCode=3:0", "ended as FAILED with exit status 3"),
        ("JobState=TIMEOUT ExitCode=0:15", "hydra.launcher.timeout_min"),
        ("", "has ended, without a result. What it printed is in"),
    ],
)
def test_how_a_job_ended_is_told_in_a_sentence(commands: Path, tmp_path: Path, state: str, said: str) -> None:
    says(commands, "scontrol", state)
    assert said in slurm._fate(job(tmp_path, "7"))


def test_while_slurm_does_not_answer_no_job_is_given_up(
    commands: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm, "FILE_SYSTEM", 0.0)
    asked: list[int] = []

    def sleep(seconds: float) -> None:
        asked.append(1)
        if len(asked) == 5:
            lone.paths.result_pickle.touch()

    clock = iter(range(0, 10_000, 100))
    monkeypatch.setattr(slurm, "time", SimpleNamespace(sleep=sleep, monotonic=lambda: float(next(clock))))
    lone = job(tmp_path, "7")  # there is no squeue
    assert slurm.outcomes([lone], lambda number, outcome: None) == [None]
    assert len(asked) == 5


def test_an_interrupted_wait_says_that_the_jobs_go_on(
    commands: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(slurm.time, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        slurm.outcomes([job(tmp_path, "7_0"), job(tmp_path, "7_1")], lambda number, outcome: None)
    assert "scancel 7 ends them" in capsys.readouterr().err


@pytest.fixture
def submitted_again(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Signals on which submitit would have put the job back; handlers are restored in the end."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR2)}
    seen: list[int] = []
    signal.signal(signal.SIGUSR2, lambda number, frame: seen.append(number))
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    yield seen
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("state", "put_back"), [("RUNNING", True), ("CANCELLED", False), ("PENDING", False)])
def test_a_job_that_is_told_to_end_does_so_and_is_put_back_only_where_slurm_does_not(
    commands: Path, submitted_again: list[int], state: str, put_back: bool
) -> None:
    says(commands, "scontrol", f"JobId=7 JobState={state}")
    slurm.heed_signals()
    with pytest.raises(SystemExit) as ended:
        os.kill(os.getpid(), signal.SIGTERM)
    assert ended.value.code == STOPPED_BY_SIGTERM
    assert submitted_again == ([signal.SIGUSR2] if put_back else [])
    os.kill(os.getpid(), signal.SIGTERM)  # which follows, does nothing more


def test_a_job_that_ran_out_of_time_too_often_says_so(submitted_again: list[int]) -> None:
    from submitit.core.utils import UncompletedJobError

    def refuse(number: int, frame: Any) -> None:
        raise UncompletedJobError("timed-out too many times")

    signal.signal(signal.SIGUSR2, refuse)
    slurm.heed_signals()
    with pytest.raises(SpiError, match=r"hydra\.launcher\.max_num_timeout"):
        os.kill(os.getpid(), signal.SIGUSR2)


def test_the_code_of_the_submission_is_recorded_and_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    commit, changes = "a" * 40, ["", "", "changed"]
    monkeypatch.setattr(provenance, "_git", lambda *arguments: commit if "HEAD" in arguments else changes.pop(0))
    then = provenance.submission()
    assert then["commit"] == commit
    monkeypatch.setenv(provenance.SUBMITTED, json.dumps(then))
    same, other = provenance.provenance(), provenance.provenance()
    assert same["submitted"] == other["submitted"] == then
    assert (same["code changed since"], other["code changed since"]) == (False, True)


@pytest.mark.parametrize(("given", "found"), [("1", 1), ("0", 2), ("64", 2), ("", 2), ("x", 2)])
def test_a_job_uses_no_more_cores_than_slurm_gave_it(monkeypatch: pytest.MonkeyPatch, given: str, found: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1})
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", given)
    assert cores.available_cores() == found


@pytest.mark.parametrize("launcher", ["slurm_cpu", "slurm_gpu"])
def test_the_launchers_compose_and_a_wrong_value_is_told(launcher: str) -> None:
    overrides = [f"hydra/launcher={launcher}", "data.path=x.cxi"]
    composed("train", conf_folder(), TrainConfig, overrides)
    with pytest.raises(SpiError, match=r"timeout_min=soon: Value 'soon' .* could not be converted to Integer"):
        composed("train", conf_folder(), TrainConfig, [*overrides, "hydra.launcher.timeout_min=soon"])
    with pytest.raises(SpiError, match=r"hydra\.launcher\.partiton: there is no such key"):
        composed("train", conf_folder(), TrainConfig, [*overrides, "hydra.launcher.partiton=fast"])


def test_without_the_package_for_slurm_a_sentence_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from hydra.core.config_store import ConfigStore

    composed("train", conf_folder(), TrainConfig, ["data.path=x.cxi"])  # by now Hydra has registered it
    launchers = ConfigStore.instance().repo["hydra"]["launcher"]
    monkeypatch.delitem(launchers, "submitit_slurm.yaml")
    with pytest.raises(SpiError, match=r"pip install 'spi-lightning\[slurm\]'"):
        composed("train", conf_folder(), TrainConfig, ["hydra/launcher=slurm_cpu", "data.path=x.cxi"])
