"""Hydra's launcher for SLURM: that of hydra-submitit-launcher, where one job that dies does not hide the others."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, filter_overrides

from spi_lightning.errors import SpiError
from spi_lightning.provenance import SUBMITTED, submission

if find_spec("hydra_plugins.hydra_submitit_launcher") is not None:  # the extra "slurm": without it, nothing is offered
    from hydra_plugins.hydra_submitit_launcher.submitit_launcher import SlurmLauncher as SubmititLauncher

    class SlurmLauncher(SubmititLauncher):
        """Submits the jobs as one array, tells of each when it ends, and returns how all of them went."""

        def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
            """Submit jobs and wait for all.

            Raises:
                SpiError: there is no SLURM here, or it refuses the jobs.
            """
            from spi_lightning.config.slurm import outcomes, submit

            self.command_line, self.submitted = sys.argv, submission()
            state = Singleton.get_state()
            arguments = [
                (list(overrides), "hydra.sweep.dir", number, f"job_id_for_{number}", state)
                for number, overrides in enumerate(job_overrides, start=initial_job_idx)
            ]
            jobs = submit(self.params, self, arguments)
            where = jobs[0].job_id.partition("_")[0]
            print(f"SLURM job {where}: {len(jobs)} submitted.", flush=True)
            names = _names(job_overrides)

            def tell(number: int, outcome: Any) -> None:
                returned = _returned(outcome, job_overrides[number])
                done = returned.status == JobStatus.COMPLETED
                said = f"SLURM job {jobs[number].job_id} has ended." if done else returned._return_value
                print(f"{names[number]}: {said}", flush=True)

            found = outcomes(jobs, tell)
            return [_returned(outcome, own) for outcome, own in zip(found, job_overrides, strict=True)]

        def __call__(
            self,
            sweep_overrides: list[str],
            job_dir_key: str,
            job_num: int,
            job_id: str,
            singleton_state: dict[type, Singleton],
        ) -> JobReturn:
            """Run a job, in the process that SLURM has started for it."""
            from spi_lightning.config.slurm import heed_signals

            heed_signals()
            sys.argv = self.command_line
            os.environ[SUBMITTED] = json.dumps(self.submitted)
            returned = super().__call__(sweep_overrides, job_dir_key, job_num, job_id, singleton_state)
            if not isinstance(returned._return_value, SpiError | None):  # which may not survive being sent
                said = f"{type(returned._return_value).__name__}: {returned._return_value}"
                returned.return_value = SpiError(said)
            return returned


def _names(job_overrides: Sequence[Sequence[str]]) -> list[str]:
    """What tells each job from the others."""
    of_all = set.intersection(*(set(overrides) for overrides in job_overrides))
    own = [filter_overrides([line for line in overrides if line not in of_all]) for overrides in job_overrides]
    return [" ".join(lines) or "Job" for lines in own]


def _returned(outcome: Any, overrides: Sequence[str]) -> JobReturn:
    """What a launcher has to return of a job, also of one that has not returned anything itself."""
    if isinstance(outcome, JobReturn):
        return outcome
    return JobReturn(overrides=list(overrides), status=JobStatus.UNKNOWN, _return_value=outcome)
