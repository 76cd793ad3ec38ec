"""Jobs under SLURM, by way of submitit: submitting them, waiting for all, leaving in order when SLURM says so."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any

from spi_lightning.config.launch import STOPPED_BY_SIGTERM
from spi_lightning.errors import SpiError

if TYPE_CHECKING:
    from submitit import Executor, Job

FILE_SYSTEM = 15.0  # seconds that a file written by a node may take to be seen here
LONGEST_PAUSE = 60.0  # seconds between two questions to SLURM, which answers for the whole cluster
REMEDIES = {
    "CANCELLED": "",
    "TIMEOUT": " Give it more time (hydra.launcher.timeout_min), or let it go on more often "
    "(hydra.launcher.max_num_timeout).",
    "OUT_OF_MEMORY": " Give it more memory (hydra.launcher.mem_gb).",
}
OFTEN_ENOUGH = (
    "The job ran into its time limit more often than hydra.launcher.max_num_timeout allows. The same command goes on "
    "from the last checkpoint; more time is hydra.launcher.timeout_min."
)


def submit(settings: dict[str, Any], function: Callable[..., Any], arguments: Sequence[Sequence[Any]]) -> list[Job]:
    """Submit a call for each tuple of arguments: several as one array.

    Args:
        settings: those of ``hydra.launcher``.
        function: what each job calls; where it has a method ``checkpoint``, it is submitted again at a time limit.
        arguments: of each call.

    Raises:
        SpiError: there is no SLURM here, or it refuses the jobs.
    """
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    if missing := [program for program in ("sbatch", "srun", "squeue") if shutil.which(program) is None]:
        raise SpiError(
            f"SLURM is not on this machine ({', '.join(missing)} not found). Start the command where jobs are "
            "submitted, or leave hydra/launcher out to run the jobs here."
        )
    try:
        return list(_executor(settings).map_array(function, *zip(*arguments, strict=True)))
    except (FailedJobError, FailedSubmissionError) as error:
        said = str(error).replace("sbatch: error: ", "").strip().splitlines() or ["it does not say why"]
        raise SpiError(f"SLURM refused the jobs: {said[0]}. Look at the values of hydra.launcher.") from None


def outcomes(jobs: Sequence[Job], tell: Callable[[int, Any], None]) -> list[Any]:
    """Wait until every job has ended, also where some were killed; needs no accounting (sacct).

    Args:
        jobs: as submitted.
        tell: is told the number of a job that has ended, and what it returned or the error.

    Returns:
        for each job what it returned, or a :class:`SpiError` that says how it ended.
    """
    found: dict[int, Any] = {}
    gone: dict[int, float] = {}  # when the queue was first seen without a job
    begun = asked = time.monotonic()
    try:
        while len(found) < len(jobs):
            time.sleep(1)
            now = time.monotonic()
            ask = now - asked >= min(LONGEST_PAUSE, max(2.0, (now - begun) / 20))
            queue = _queue() if ask else None
            asked = now if ask else asked
            for number, job in enumerate(jobs):
                if number in found:
                    continue
                if _has_result(job):
                    found[number] = _result(job)
                elif queue is not None and job.job_id in queue:
                    gone.pop(number, None)  # it waits to be run again
                    continue
                elif queue is not None and now - gone.setdefault(number, now) >= FILE_SYSTEM:
                    found[number] = SpiError(_fate(job))
                else:
                    continue
                tell(number, found[number])
    except (KeyboardInterrupt, SystemExit):
        going_on = sorted({job.job_id.partition("_")[0] for number, job in enumerate(jobs) if number not in found})
        print(
            f"The jobs go on under SLURM: scancel {' '.join(going_on)} ends them. Once they have ended, the same "
            "command does what is left.",
            file=sys.stderr,
        )
        raise
    return [found[number] for number in range(len(jobs))]


def heed_signals() -> None:
    """In a job of submitit: end at once, and in order, when SLURM says so; the job is put back by submitit alone.

    submitit lets SIGTERM pass, on which the processes that this one started end, so that it would fail. What the
    signal means, SLURM knows: a job that still counts as running is warned of preemption (the GraceTime of a
    partition), and has to be put back; one that does not is being cancelled, or has been put back by SLURM.
    """
    from submitit.core.utils import UncompletedJobError
    from submitit.slurm.slurm import SlurmJobEnvironment

    near_the_limit = SlurmJobEnvironment._usr_sig()
    submit_again = signal.getsignal(near_the_limit)
    assert callable(submit_again)

    def put_back(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it follows, and must not disturb the leaving
        try:
            submit_again(number, frame)
        except UncompletedJobError:
            raise SpiError(OFTEN_ENOUGH) from None

    def leave(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if _state(os.environ["SLURM_JOB_ID"]).get("JobState") == "RUNNING":
            put_back(near_the_limit, frame)
        sys.exit(STOPPED_BY_SIGTERM)

    signal.signal(near_the_limit, put_back)
    signal.signal(signal.SIGTERM, leave)


def _executor(settings: dict[str, Any]) -> Executor:
    from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf
    from submitit import AutoExecutor

    executor = AutoExecutor(
        settings["submitit_folder"], cluster="slurm", slurm_max_num_timeout=settings["max_num_timeout"]
    )
    common = set(BaseQueueConf.__dataclass_fields__)
    rest = {key: value for key, value in settings.items() if key not in ("submitit_folder", "max_num_timeout")}
    executor.update_parameters(**{key if key in common else f"slurm_{key}": value for key, value in rest.items()})
    return executor


def _has_result(job: Job) -> bool:
    try:
        os.listdir(job.paths.folder)  # without which a network file system may not look again
    except OSError:
        return False
    return job.paths.result_pickle.exists()


def _result(job: Job) -> Any:
    from submitit.core.utils import UncompletedJobError

    try:
        return job.result()
    except UncompletedJobError as error:  # its message has the traceback between two lines of dashes
        trace = str(error).split("-" * 22)
        said = trace[1 if len(trace) > 2 else 0].strip().splitlines()[-1]
        return SpiError(f"SLURM job {job.job_id}: {said}")


def _queue() -> set[str] | None:
    """Jobs that wait or run; None where SLURM does not say."""
    command = ["squeue", "--noheader", "--array", "--format=%i", f"--user={getpass.getuser()}"]
    said = _told(command)
    return None if said is None else set(said.split())


def _state(job_id: str) -> dict[str, str]:
    """What SLURM knows of a job; nothing of one that ended minutes ago."""
    fields = (_told(["scontrol", "show", "job", "--oneliner", job_id]) or "").split()
    return {key: value for key, _, value in (field.partition("=") for field in fields)}


def _told(command: list[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _fate(job: Job) -> str:
    """How a job ended that left no result."""
    state = _state(job.job_id)
    ended = state.get("JobState", "")
    code, number = (int(part) for part in state.get("ExitCode", "0:0").split(":"))
    if code > 128 and not number:  # what a shell makes of a signal
        number = code - 128
    how = f" by signal {number}" if number else f" with exit status {code}"
    said = f"ended as {ended}{how}" if ended else "has ended"
    remedy = REMEDIES.get(ended, f" What it printed is in {os.path.relpath(job.paths.stderr)}.")
    return f"SLURM job {job.job_id} {said}, without a result.{remedy}"
