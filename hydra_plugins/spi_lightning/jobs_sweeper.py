"""The sweep of ``-m``: a job for each combination of values, each in a folder of its own, and none of them twice."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from spi_lightning.config.launch import Command
from spi_lightning.config.sweep import SweepJob, SweepRecord, job_name, look_up
from spi_lightning.errors import Pruned, SpiError


class JobsSweeper(Sweeper):
    """Launches what is missing of a sweep, and writes down how each job went.

    What a job is called does not depend on the others, so that a sweep can be started again, or with more values.
    """

    def __init__(self, params: dict[str, Any] | None = None):
        """Remember the swept values of a preset.

        Args:
            params: key → values as on the command line, where a key that is given replaces that of the preset.
        """
        self.params = dict(params or {})

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what Hydra hands over."""
        from hydra.core.plugins import Plugins

        assert isinstance(task_function, Command)  # what config.launch hands to Hydra
        self.context, self.command, self.base = hydra_context, task_function, config
        self.launcher: Launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Launch the jobs; the exit status is 1 where one of them is not complete in the end."""
        try:
            record = self._run([*(f"{key}={values}" for key, values in self.params.items()), *arguments])
        except SpiError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(1)
        if record.folder is not None:
            from spi_lightning.report.sweep import write_sweep

            print(f"{'report':>9}  {write_sweep(record.folder)}")
        if not record.complete:
            sys.exit(1)

    def _run(self, arguments: list[str]) -> SweepRecord:
        jobs = self._jobs(arguments)
        record = SweepRecord(self._root(jobs), list(dict.fromkeys(key for job in jobs for key in job.swept)))
        try:
            self._launch(jobs, record)
            self._launch(self._gathering(jobs), record)
        finally:
            record.end()
        return record

    def _jobs(self, arguments: list[str]) -> list[SweepJob]:
        """Every combination once."""
        parsed = OverridesParser.create(config_loader=self.context.config_loader).parse_overrides(arguments)
        given = {each.get_key_element(): each for each in parsed}  # the last value of a key counts
        swept = [key for key, each in given.items() if each.is_sweep_override()]
        lines = []
        for key, override in given.items():
            if key not in swept:
                lines.append([str(override.input_line)])
            elif override.is_discrete_sweep():
                lines.append([f"{key}={value}" for value in override.sweep_string_iterator()])
            else:
                raise SpiError(f"{override.input_line}: a range without steps is for a search (hydra/sweeper=search).")
        combinations = [list(each) for each in itertools.product(*lines)]
        if not any(line.startswith("run=") for line in combinations[0]):  # a job that starts later has another time
            combinations = [[*each, f"run={self.base.run}"] for each in combinations]
        jobs = {tuple(each): self._named_job(each, swept) for each in combinations}
        return list(jobs.values())

    def _named_job(self, overrides: list[str], swept: list[str]) -> SweepJob:
        """A job by its overrides, called by those that are swept."""
        values = {key: line.partition("=")[2] for key in swept for line in overrides if line.startswith(f"{key}=")}
        part = self.command.rerun.part
        return self._job(overrides, values, job_name({k: v for k, v in values.items() if k not in ("run", part)}))

    def _job(self, overrides: list[str], values: dict[str, str], name: str) -> SweepJob:
        """A job by its overrides; it is composed and checked here, before any is launched."""
        lines = [*overrides, f"hydra.job.name={name}"]
        config = self.context.config_loader.load_sweep_config(self.base, lines)
        folder = Path(config.hydra.sweep.dir) / config.hydra.sweep.subdir
        return SweepJob(name, folder, lines, values, self.command.check(config))

    def _root(self, jobs: list[SweepJob]) -> Path | None:
        """The folder that holds those of all jobs, where each has one of its own in it."""
        root = Path(self.base.hydra.sweep.dir)
        own = all(job.name != "." and job.folder.is_relative_to(root) for job in jobs)
        return root if own and root != Path(".") else None

    def _launch(self, jobs: Sequence[SweepJob], record: SweepRecord) -> None:
        """Run those that are not complete, by the launcher of the config."""
        if not jobs:
            return
        missing = [job for job in jobs if not self._is_complete(job)]
        record.add(jobs)
        if not missing:
            return
        results: Sequence[JobReturn] = ()
        try:
            results = self.launcher.launch([job.overrides for job in missing], initial_job_idx=0)
        except Exception as error:  # of the launcher itself: what its jobs did stands in their folders
            said = str(error) if isinstance(error, SpiError) else f"{type(error).__name__}: {error}"
            print(f"error: {said}", file=sys.stderr)
        finally:
            for job, result in itertools.zip_longest(missing, results):
                self._look_up(job, result)
            record.write()

    def _look_up(self, job: SweepJob, result: JobReturn | None) -> None:
        """How a job went. What its launcher says counts more than its folder, which may be that of an earlier job."""
        look_up(job)
        said = None if result is None else result._return_value
        if result is not None and result.status == JobStatus.UNKNOWN:  # it was killed, or has never started
            job.error, job.state = str(said), "killed" if job.state in ("complete", "running") else job.state
        elif result is not None and result.status == JobStatus.FAILED and not isinstance(said, Pruned):
            job.error = str(said) if isinstance(said, SpiError) else f"{type(said).__name__}: {said}"
            job.state = "failed"
        elif job.state == "complete" and self.command.rerun.resumable and not self._is_complete(job):
            job.state, job.error = "failed", "The folder holds a job with other settings."

    def _is_complete(self, job: SweepJob) -> bool:
        complete = self.command.is_complete(job.checked, job.folder)
        if complete:
            look_up(job)
        return complete

    def _gathering(self, jobs: Sequence[SweepJob]) -> list[SweepJob]:
        """A job for each run whose parts are all there now: it puts them together."""
        part = self.command.rerun.part
        swept = [job for job in jobs if part in job.swept]
        found: dict[tuple[str, ...], SweepJob] = {}
        for job in swept:
            lines = [line for line in job.overrides if line.partition("=")[0] not in (part, "hydra.job.name")]
            if tuple(lines) not in found:
                found[tuple(lines)] = self._named_job(lines, [key for key in job.swept if key != part])
        whole = [job for job in found.values() if self.command.is_gatherable(job.checked, job.folder)]
        for job in found.values():
            if job not in whole:
                print(f"{job.folder}: parts are missing, so they are not put together yet.")
        return whole
