"""The jobs of a sweep: what they are called, how they went, and the record of all of them."""

from __future__ import annotations

import datetime
import hashlib
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spi_lightning.config.scope import is_locked
from spi_lightning.provenance import provenance, write_json

RECORD = "sweep.json"
DONE = ("complete", "pruned")
LONGEST = 80  # characters of a folder's name


@dataclass(eq=False)
class SweepJob:
    """One job of a sweep.

    Attributes:
        name: made of the swept values; "." where there are none.
        folder: of the job.
        overrides: with which it is composed, ``KEY=VALUE`` each.
        swept: the swept keys and their values, as written.
        checked: the resolved config as YAML, and the settings that a command made of it.
        state: complete, failed (it raised an error), pruned (a search gave it up), stopped (it was told to), killed,
            running, or missing (never started).
        error: in a sentence.
        traceback: of a job that failed.
        seconds: that its last start took.
    """

    name: str
    folder: Path
    overrides: list[str]
    swept: dict[str, str]
    checked: tuple[str, Any]
    state: str = "missing"
    error: str | None = None
    traceback: str | None = None
    seconds: float | None = None


def job_name(swept: dict[str, str]) -> str:
    """Name of a job, and of its folder, made of its swept values in the order of their keys; ``.`` without any.

    It needs no quotes on a command line. What had to be left out for that is told apart by a hash.
    """
    whole = "_".join(f"{key.lstrip('+~')}-{value}" for key, value in sorted(swept.items()))
    safe = re.sub(r"[^A-Za-z0-9.]+$|(?<=-)[^A-Za-z0-9.]+", "", re.sub(r"[^A-Za-z0-9._-]+", "-", whole))[:LONGEST]
    if safe == whole:
        return whole or "."
    return f"{safe}-{hashlib.sha256(whole.encode()).hexdigest()[:8]}"


def look_up(job: SweepJob) -> None:
    """Set state, error and time of a job to what stands in its folder."""
    try:
        status = json.loads((job.folder / "status.json").read_text(encoding="utf-8"))
        job.state, error = str(status["state"]), status.get("error")
    except (OSError, ValueError, KeyError, TypeError):
        job.state = "missing"
        return
    job.error = None if error is None else re.sub("^(SpiError|Pruned): ", "", error)
    if job.state == "running" and not is_locked(job.folder):
        job.state, job.error = "killed", "It was killed, or its machine went down."
    if job.state == "failed":
        place = job.folder / "traceback.txt"
        job.traceback = place.read_text(encoding="utf-8") if place.is_file() else None
    if status.get("ended"):
        begin, end = (datetime.datetime.fromisoformat(status[key]) for key in ("started", "ended"))
        job.seconds = (end - begin).total_seconds()


@dataclass
class SweepRecord:
    """What is known of the jobs of a sweep, in ``sweep.json`` of its folder.

    Attributes:
        folder: of the sweep; None where its jobs have no folder in common, and nothing is written.
        swept: keys, in order.
        jobs: in the order in which they were added.
    """

    folder: Path | None
    swept: list[str]
    jobs: list[SweepJob] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._started = _now()
        self._ended: str | None = None
        self._earlier = [] if self.folder is None else read_jobs(self.folder)

    @property
    def complete(self) -> bool:
        """Whether all jobs are, but for those that were given up on purpose."""
        return all(job.state in DONE for job in self.jobs)

    def add(self, jobs: Sequence[SweepJob]) -> None:
        """Add jobs that are about to be launched."""
        self.jobs += jobs
        ready = sum(job.state == "complete" for job in jobs)
        if len(self.jobs) > 1 and ready:
            print(f"{ready} of {len(jobs)} jobs are complete.")
        self.write()

    def end(self) -> None:
        """Write the record for the last time, and print it."""
        self._ended = _now()
        self.write()
        width = max((len(str(job.folder)) for job in self.jobs), default=0)
        for job in self.jobs:
            said = (job.error or "").partition("\n")[0]
            print(f"{job.state:>9}  {job.folder!s:<{width}}  {said}".rstrip())
        if not self.complete:
            missing = sum(job.state not in DONE for job in self.jobs)
            print(
                f"error: {missing} of {len(self.jobs)} jobs are not complete. The same command starts those alone.",
                file=sys.stderr,
            )

    def write(self) -> None:
        """Write ``sweep.json``; jobs of earlier sweeps in the folder stay in it."""
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        now = [_described(job, self.folder) for job in self.jobs]
        folders = {job["folder"] for job in now}
        kept = [job for job in self._earlier if job["folder"] not in folders]
        swept = [*self.swept, *(key for job in kept for key in job["overrides"] if key not in self.swept)]
        record = {
            "command": " ".join(provenance()["command"]),
            "started": self._started,
            "ended": self._ended,
            "swept": list(dict.fromkeys(swept)),
            "jobs": [*kept, *now],
        }
        write_json(self.folder / RECORD, record)


def read_jobs(folder: Path) -> list[dict[str, Any]]:
    """The jobs in ``sweep.json``; none where it cannot be read, or is no such record."""
    try:
        jobs = list(json.loads((folder / RECORD).read_text(encoding="utf-8"))["jobs"])
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [job for job in jobs if isinstance(job, dict) and {"folder", "overrides"} <= set(job)]


def _described(job: SweepJob, root: Path) -> dict[str, Any]:
    place, told = str(job.folder.relative_to(root)), ("name", "state", "error", "traceback", "seconds")
    return {"folder": place, "overrides": job.swept, **{name: getattr(job, name) for name in told}}


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
