"""The scope that wraps every job: what it was, how it went, and no trace of it left for the next one."""

from __future__ import annotations

import datetime
import gc
import json
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

HARMLESS = ("run", "workers")  # settings that do not change a result


class Job:
    """One job and its run folder.

    The folder holds ``config.yaml`` (resolved), ``provenance.json`` (versions, commit, machine, and the facts that
    the job records), ``uncommitted.diff`` where there were changes, ``status.json`` (running, complete or failed),
    ``log.txt``, and ``traceback.txt`` after a failure.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._facts = provenance()
        self.command: list[str] = self._facts["command"]

    def record(self, facts: dict[str, Any]) -> None:
        """Add facts to the job's provenance and its log: the fingerprint of its data, a value that was found."""
        self._facts |= facts
        for name, fact in facts.items():
            log.info("%s: %s", name, fact)
        write_json(self.folder / "provenance.json", self._facts)


def earlier_state(folder: Path, config_yaml: str) -> str | None:
    """How an earlier job in this folder went: its state, or None where there was none.

    Raises:
        SpiError: it was a job with other settings, which is not overwritten.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        before = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))
        state = json.loads((folder / "status.json").read_text(encoding="utf-8"))["state"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, OmegaConfBaseException) as error:
        raise SpiError(
            f"run: what an earlier job left in {folder} cannot be read ({error}). Give another run=FOLDER."
        ) from None
    changed = _differences(before, OmegaConf.to_container(OmegaConf.create(config_yaml)))
    if changed:
        raise SpiError(
            f"run: {folder} holds a job with other settings ({'; '.join(changed[:3])}"
            f"{f'; and {len(changed) - 3} more' if len(changed) > 3 else ''}). Give another run=FOLDER, or remove it."
        )
    return str(state)


def _differences(before: Any, now: Any, key: str = "") -> list[str]:
    if key in HARMLESS:
        return []
    if isinstance(before, dict) and isinstance(now, dict):
        names = [*before, *(name for name in now if name not in before)]
        return [
            line
            for name in names
            for line in _differences(before.get(name), now.get(name), f"{key}.{name}" if key else str(name))
        ]
    return [] if before == now else [f"{key} is {before} there and {now} here"]


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
    log.info("Started: %s", " ".join(job.command))
    try:
        yield job
        status["state"] = "complete"
        log.info("Complete")
    except BaseException as error:
        status |= {"state": "failed", "error": f"{type(error).__name__}: {error}"}
        log.info("Failed: %s", error)
        write_text(folder / "traceback.txt", traceback.format_exc())
        raise
    finally:
        status["ended"] = _now()
        write_json(folder / "status.json", status)
        gc.collect()


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
