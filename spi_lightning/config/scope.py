"""The scope that wraps every job: what it was, how it went, and no trace of it left for the next one."""

from __future__ import annotations

import datetime
import gc
import logging
import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from spi_lightning.config.provenance import provenance, uncommitted_changes, write_json, write_text
from spi_lightning.errors import SpiError

log = logging.getLogger("spi_lightning")


class Job:
    """One job and its run folder.

    The folder holds ``config.yaml`` (resolved), ``provenance.json`` (versions, commit, machine, and the facts that
    the job records), ``uncommitted.diff`` where there were changes, ``status.json`` (running, complete or failed),
    and ``traceback.txt`` after a failure.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._facts = provenance()

    def record(self, name: str, fact: Any) -> None:
        """Add a fact to the job's provenance: the fingerprint of its data, a value that was found."""
        self._facts[name] = fact
        write_json(self.folder / "provenance.json", self._facts)


@contextmanager
def job_scope(folder: Path, config_yaml: str) -> Iterator[Job]:
    """Run a job in its folder.

    Args:
        folder: made where it is missing.
        config_yaml: the resolved config.

    Raises:
        SpiError: the folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        job = Job(folder)
        write_text(folder / "config.yaml", config_yaml)
        write_json(folder / "provenance.json", job._facts)
        (folder / "traceback.txt").unlink(missing_ok=True)
        if (difference := uncommitted_changes()) is not None:
            write_text(folder / "uncommitted.diff", difference + "\n")
    except OSError as error:
        raise SpiError(
            f"run: the folder {folder} cannot be written to ({error.strerror}). Choose another with run=FOLDER."
        ) from None
    status: dict[str, Any] = {"state": "running", "process": os.getpid(), "started": _now()}
    write_json(folder / "status.json", status)
    try:
        yield job
        status["state"] = "complete"
    except BaseException as error:
        status |= {"state": "failed", "error": f"{type(error).__name__}: {error}"}
        write_text(folder / "traceback.txt", traceback.format_exc())
        raise
    finally:
        status["ended"] = _now()
        write_json(folder / "status.json", status)
        gc.collect()


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
