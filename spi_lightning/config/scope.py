"""The scope that wraps every job: what it was, how it went, and no trace of it left for the next one."""

from __future__ import annotations

import datetime
import fcntl
import gc
import logging
import os
import shutil
import socket
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from spi_lightning.errors import Pruned, SpiError, disk_trouble
from spi_lightning.provenance import provenance, uncommitted_changes, write_json, write_text

log = logging.getLogger("spi_lightning")

LOOKS = 3  # at a lock that somebody has


class Job:
    """One job and its run folder.

    The folder holds ``config.yaml`` (resolved), ``provenance.json`` (versions, commit, machine, and the facts that
    the job records), ``uncommitted.diff`` where there were changes, ``status.json`` (running, complete, stopped, failed
    or pruned), ``log.txt``, and ``traceback.txt`` after a failure.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._facts = provenance()
        self._scaffolding: list[Path] = []

    def record(self, facts: dict[str, Any]) -> None:
        """Add facts to the job's provenance and its log: the fingerprint of its data, a value that was found."""
        self._facts |= facts
        for name, fact in facts.items():
            log.info("%s: %s", name, fact)
        write_json(self.folder / "provenance.json", self._facts)

    def remove_when_complete(self, folder: Path) -> None:
        """Name a folder that only an interrupted job needs."""
        self._scaffolding.append(folder)

    def start(self, config_yaml: str) -> None:
        """Write down what is about to be done."""
        write_text(self.folder / "config.yaml", config_yaml)
        write_json(self.folder / "provenance.json", self._facts)
        (self.folder / "traceback.txt").unlink(missing_ok=True)
        if (difference := uncommitted_changes()) is not None:
            write_text(self.folder / "uncommitted.diff", difference + "\n")
        log.info("Started: %s", " ".join(self._facts["command"]))
        if self._facts.get("code changed since"):
            log.warning(
                "The code has changed since this job was submitted (commit %s); it runs what is there now (commit %s).",
                *(self._facts["submitted"]["commit"], self._facts["commit"]),
            )

    def tidy(self) -> None:
        """Remove what only an interrupted job needs."""
        for folder in self._scaffolding:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def sole_job(folder: Path) -> Iterator[None]:
    """Keep other processes out of a run folder, and clear what a killed one left half written.

    Args:
        folder: made where it is missing.

    Raises:
        SpiError: the folder cannot be written to, or another process is at work in it; or the disk is full, or fails,
            while this one is.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / "lock", "a+", encoding="utf-8")  # noqa: SIM115 - closed below
    except OSError as error:
        raise SpiError(
            f"run: the folder {folder} cannot be written to ({error.strerror}). Choose another with run=FOLDER."
        ) from None
    with _disk_trouble_told(folder), lock:
        if not _taken(lock):
            lock.seek(0)
            raise SpiError(
                f"run: {lock.read().strip() or 'another process'} is at work in {folder}. Wait for it, or choose "
                "another run=FOLDER."
            )
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        lock.flush()
        for leftover in folder.rglob("*.partial-*"):
            if not _has_own_job(leftover.parent, folder):
                leftover.unlink(missing_ok=True)
        yield


@contextmanager
def _disk_trouble_told(folder: Path) -> Iterator[None]:
    """Turn what a full or failing disk makes of any write into a sentence."""
    before, logging.raiseExceptions = logging.raiseExceptions, False  # or each line of the log would tell it, too
    try:
        yield
    except Exception as error:
        if isinstance(error, SpiError) or (said := disk_trouble(error)) is None:
            raise
        raise SpiError(
            f"run: what belongs into {folder} could not be written ({said}). Free some space, and start the same "
            "command again; or choose another disk with run=FOLDER."
        ) from error
    finally:
        logging.raiseExceptions = before


def _taken(lock: TextIO) -> bool:
    """Take a lock, unless a process keeps it; one that only looks whether it is free has it for an instant."""
    for _ in range(LOOKS):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            time.sleep(0.1)
        else:
            return True
    return False


def is_locked(folder: Path) -> bool:
    """Whether a process is at work in a run folder."""
    try:
        with open(folder / "lock", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def _has_own_job(inner: Path, folder: Path) -> bool:
    """Whether this folder lies in one, below the other, that has a lock of its own, as a fold's has."""
    return any((place / "lock").exists() for place in [inner, *inner.parents] if folder in place.parents)


@contextmanager
def job_scope(folder: Path, config_yaml: str) -> Iterator[Job]:
    """Run a job in its folder, which must be there, and which no other job may use (:func:`sole_job`).

    Args:
        folder: of the run.
        config_yaml: the resolved config.
    """
    job = Job(folder)
    job.start(config_yaml)
    status: dict[str, Any] = {"state": "running", "process": os.getpid(), "started": _now()}
    write_json(folder / "status.json", status)
    try:
        yield job
        status["state"] = "complete"
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt | SystemExit)
        state = "stopped" if stopped else "pruned" if isinstance(error, Pruned) else "failed"
        status |= {"state": state, "error": f"{type(error).__name__}: {error}"}
        with suppress(OSError):  # the disk may be full
            write_text(folder / "traceback.txt", traceback.format_exc())
        raise
    finally:
        status["ended"] = _now()
        write_json(folder / "status.json", status)
        log.info("Ended: %s", status.get("error", status["state"]))
        if status["state"] == "complete":
            job.tidy()
        gc.collect()


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
