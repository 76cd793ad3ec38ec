"""Bad inputs to every command, as data: what is fed, by which command, and what must be said. And how to feed them."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from spi_lightning.config.earlier import RECORDS
from spi_lightning.patterns.handles import close_files
from tests.integration.running import run_here

MADE = ("simulated", "trained", "predicted")  # folders of the fixture ``made``
TRAIN = "spi-train experiment=tiny trainer.threads=1 run=out"
PREDICT = "spi-predict ensemble=trained/ensemble callbacks=none run=out"
PATTERNS = "data.path=simulated/patterns.cxi"


def nothing(folder: Path) -> None:
    """Nothing has to be made: the command line itself is what is bad."""


@dataclass(frozen=True)
class Bad:
    """A bad input.

    Attributes:
        fed: what it is, for the table; no two have the same.
        command: as a user types it, in a folder that holds those of :data:`MADE` that it names, and ``simulated``.
        says: what the message must contain, in any order: what is wrong, and where.
        make: makes it in that folder.
    """

    fed: str
    command: str
    says: tuple[str, ...]
    make: Callable[[Path], object] = nothing


@dataclass(frozen=True)
class Answer:
    """What a command did: its exit status, what it printed, and what became of the files."""

    status: int
    stdout: str
    stderr: str
    changed: tuple[str, ...]  # files that were there, results and configs, and are not as they were
    left: tuple[str, ...]  # new files that are no records of the job


def feed(bad: Bad, made: Path, folder: Path) -> Answer:
    """Feed a bad input to its command, in this process.

    Args:
        bad: the input.
        made: folder of what the fixture made; it is copied from.
        folder: empty, to work in.
    """
    for name in MADE:
        if name in bad.command or name == "simulated" or (name == "trained" and "predicted" in bad.command):
            shutil.copytree(made / name, folder / name)
    with contextlib.chdir(folder):
        kept = bad.make(folder)  # such as a lock
        close_files()
        before = contents(folder)
        status, stdout, stderr = run_here(bad.command)
        after = contents(folder)
        del kept
    changed = [name for name, digest in before.items() if after.get(name) != digest]
    left = [name for name in after if name not in before and Path(name).name not in RECORDS]
    return Answer(status, stdout, stderr, tuple(changed), tuple(left))


def contents(folder: Path) -> dict[str, str]:
    """Hash of each file below a folder but for what jobs write of themselves at all times; links count as such."""
    always = RECORDS - {"config.yaml", "traceback.txt"}
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if "tensorboard" in name:  # an interrupted training's log goes on
            continue
        if path.is_symlink():
            found[name] = f"link to {path.readlink()}"
        elif path.is_file() and path.name not in always:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def everything() -> list[Bad]:
    """All bad inputs, subject by subject."""
    from tests.integration import bad_labels, bad_patterns, bad_runs, bad_settings

    return [*bad_patterns.BAD, *bad_labels.BAD, *bad_settings.BAD, *bad_runs.BAD]
