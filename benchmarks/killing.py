"""Killing a command with all that it has started, and comparing what two run folders hold."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

BIN = Path(sys.executable).parent  # of the console scripts
PATIENCE = 60.0  # seconds that processes may take to end
LOOK_EVERY = 0.02  # s
# What a run records of itself: when, where, by whom; and what Lightning and its loggers leave beside the results.
OWN_RECORDS = re.compile(r"config\.yaml|.*\.diff|lock|log\.txt|(provenance|status|sweep)\.json|.*\.ckpt|report\.html")
OWN_FOLDERS = {"tensorboard", "wandb"}
LONG_TABLES = ("metrics.csv", "sweep_groups.csv")
TIMES = re.compile(r"second|time|date|commit|program|command", re.IGNORECASE)


@dataclass(frozen=True)
class Ended:
    """How a command came to its end.

    Attributes:
        signalled: whether it was still there to be told.
        status: of the exit; minus the signal where that ended it.
        seconds: from the signal, or from its end without one, until none of its processes was left.
        left: processes that outlived :data:`PATIENCE`; they were killed then.
    """

    signalled: bool
    status: int
    seconds: float
    left: int


def started(command: list[str], cwd: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start one of our commands in a session of its own; what it says goes to the end of ``log``."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with open(log, "ab") as said:
        return subprocess.Popen(
            [str(BIN / command[0]), *command[1:]],
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )


def finished(command: list[str], cwd: Path, log: Path) -> float:
    """Run a command to its end. Returns the seconds it took.

    Raises:
        RuntimeError: it failed.
    """
    begin = time.monotonic()
    status = started(command, cwd, log).wait()
    if status != 0:
        raise RuntimeError(f"{' '.join(command)} ended with status {status}; see {log}.")
    return time.monotonic() - begin


def ended(
    command: list[str], cwd: Path, log: Path, number: signal.Signals, due: Callable[[], bool], *, group: bool = False
) -> Ended:
    """Start a command, send it a signal at a certain moment, and see to it that nothing is left.

    Args:
        command: name of the console script and its arguments.
        cwd: it runs in.
        log: file for what it says.
        number: the signal.
        due: whether the moment has come; asked all the time.
        group: tell all its processes, as Ctrl-C in a terminal does, not only the first one.
    """
    process = started(command, cwd, log)
    while process.poll() is None and not due():
        time.sleep(LOOK_EVERY)
    signalled = process.poll() is None
    if signalled:
        (os.killpg if group else os.kill)(process.pid, number)
    told = time.monotonic()
    while (left := processes_of(process.pid)) and time.monotonic() < told + PATIENCE:
        process.poll()  # or it would stay as a zombie
        time.sleep(LOOK_EVERY)
    seconds = time.monotonic() - told
    for each in left:
        os.kill(each, signal.SIGKILL)
    return Ended(signalled, process.wait(), seconds, len(left))


def after(seconds: float) -> Callable[[], bool]:
    """A moment for :func:`ended`: so long after now."""
    moment = time.monotonic() + seconds
    return lambda: time.monotonic() >= moment


def processes_of(session: int) -> list[int]:
    """Processes of a session that are alive."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        state, of_session = fields[0], int(fields[3])
        if of_session == session and state not in "ZX":
            found.append(int(entry.name))
    return found


# --- results -----------------------------------------------------------------------------------------------------


def results(run: Path) -> dict[str, str]:
    """What a run folder holds: a hash of each file's content but for times and origins; of a picture, that it is there.

    Checkpoints are left out, for the weights of the ensemble and the scores follow from them; and so is what a run
    records of itself.
    """
    found = {}
    for path in sorted(path for path in run.rglob("*") if path.is_file()):
        name = path.relative_to(run)
        if not OWN_RECORDS.fullmatch(path.name) and not OWN_FOLDERS & set(name.parts):
            found[str(name)] = _content(path)
    return found


def differences(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """Names of files that are not the same in two :func:`results`."""
    return [name for name in sorted(before | now) if before.get(name) != now.get(name)]


def _content(path: Path) -> str:
    digest = hashlib.sha256()
    match path.suffix:
        case ".png":
            pass
        case ".h5" | ".cxi":
            with h5py.File(path) as file:
                _add(digest, file)
                file.visititems(lambda name, each: _add(digest, each))
        case ".json":
            digest.update(json.dumps(_timeless(json.loads(path.read_text(encoding="utf-8")))).encode())
        case ".csv":
            rows = [*csv.reader(io.StringIO(path.read_text(encoding="utf-8")))]
            kept = [place for place, name in enumerate(rows[0]) if not TIMES.search(name)] if rows else []
            told = [row for row in rows if not _is_time(row, path.name)]
            digest.update(repr([[row[place] for place in kept] for row in told]).encode())
        case _:
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _add(digest: Any, each: h5py.Group | h5py.Dataset) -> None:
    digest.update(repr([(name, str(value)) for name, value in each.attrs.items() if not TIMES.search(name)]).encode())
    if isinstance(each, h5py.Dataset) and not TIMES.search(each.name):
        digest.update(repr((each.name, each.shape, each.dtype.str)).encode())
        values = each[()]
        digest.update(values.tobytes() if hasattr(values, "tobytes") else bytes(values))


def _is_time(row: list[str], file: str) -> bool:
    """Whether a row of a long table, with a column of names, is about time."""
    return file in LONG_TABLES and any(TIMES.search(cell) for cell in row[:-1])


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        hidden = {"versions", "files"}  # names of the run folder
        return {name: _timeless(each) for name, each in value.items() if not TIMES.search(name) and name not in hidden}
    return [_timeless(each) for each in value] if isinstance(value, list) else value
