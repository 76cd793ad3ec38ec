from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra.core.utils import JobReturn, JobStatus

from hydra_plugins.spi_lightning.jobs_sweeper import JobsSweeper
from spi_lightning.config.sweep import SweepJob
from spi_lightning.errors import Pruned, SpiError

FAILED, UNKNOWN, COMPLETED = JobStatus.FAILED, JobStatus.UNKNOWN, JobStatus.COMPLETED


@pytest.mark.parametrize(
    ("in_folder", "status", "returned", "complete", "state", "error"),
    [
        ("complete", COMPLETED, None, True, "complete", None),
        ("failed", FAILED, SpiError("No."), False, "failed", "No."),
        ("failed", FAILED, ValueError("No."), False, "failed", "ValueError: No."),
        ("complete", FAILED, SpiError("The folder is another's."), False, "failed", "The folder is another's."),
        (None, FAILED, SpiError("Not even begun."), False, "failed", "Not even begun."),
        ("pruned", FAILED, Pruned("Given up."), False, "pruned", "Told before."),
        ("running", UNKNOWN, "SLURM job 7 was cancelled.", False, "killed", "SLURM job 7 was cancelled."),
        ("stopped", UNKNOWN, "SLURM job 7 was cancelled.", False, "stopped", "SLURM job 7 was cancelled."),
        (None, UNKNOWN, "SLURM job 7 never started.", False, "missing", "SLURM job 7 never started."),
        ("complete", None, None, False, "failed", "The folder holds a job with other settings."),
        (None, None, None, False, "missing", None),
    ],
)
def test_how_a_job_went_is_told_by_its_launcher_and_its_folder(
    tmp_path: Path, in_folder, status, returned: Any, complete: bool, state: str, error: str | None
) -> None:
    if in_folder is not None:
        told = {"error": "Told before."} if in_folder != "complete" else {}
        (tmp_path / "status.json").write_text(json.dumps({"state": in_folder, **told}))
    sweeper = JobsSweeper()
    sweeper.command = SimpleNamespace(
        rerun=SimpleNamespace(resumable=True), is_complete=lambda checked, folder: complete
    )
    job = SweepJob("seed-1", tmp_path, [], {}, ("", None))
    sweeper._look_up(job, None if status is None else JobReturn(status=status, _return_value=returned))
    assert (job.state, job.error) == (state, error)
