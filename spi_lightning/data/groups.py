"""Which patterns belong together: of one file, of one run of the experiment, or of one stretch of time."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Literal

import numpy as np

from spi_lightning.errors import SpiError
from spi_lightning.patterns.frames import Frames
from spi_lightning.patterns.prepared import PreparedRun
from spi_lightning.patterns.run import Run

GroupKind = Literal["none", "file", "run", "block"]

# A number alone is no run: "sim1", "part_0003". A letter before the r belongs to another word: "detector2".
_RUN = re.compile(r"(?<![a-z])r(?:un)?[_-]?(\d+)", re.IGNORECASE)


def groups_of(frames: Frames, kind: GroupKind, blocks: int) -> np.ndarray:
    """Number of each pattern's group, int64 ``(n,)``, from 0 on in the order in which groups first appear.

    Args:
        frames: the patterns.
        kind: none: each pattern for itself; file: by the file that it lies in; run: by the number of the experiment's
            run, from ids such as ``r0007:12``, otherwise from the name of the file (``amo86615_r0007.cxi``) or of its
            folder (``run7/``); block: consecutive blocks of equal size.
        blocks: how many blocks, for ``block``.

    Raises:
        SpiError: there are fewer patterns than blocks, or the run of a pattern cannot be told.
    """
    n = len(frames)
    if kind == "none":
        return np.arange(n)
    if kind == "file":
        return _numbered(files_of(frames))
    if kind == "run":
        return _numbered(_runs(frames))
    if blocks > n:
        raise SpiError(f"split.blocks is {blocks}, but the data has {n} patterns. Give fewer: split.blocks=NUMBER.")
    return np.arange(n) * blocks // n


def _numbered(keys: Iterable[Hashable]) -> np.ndarray:
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


def files_of(frames: Frames) -> list[Path]:
    """The file of each pattern."""
    while isinstance(frames, PreparedRun):
        frames = frames.run
    if not isinstance(frames, Run):
        raise TypeError(f"Patterns of a {type(frames).__name__} cannot be told apart by file; a Run was expected.")
    return [segment.path for segment in frames.segments for _ in range(segment.n_frames)]


def _runs(frames: Frames) -> list[int]:
    """The number of each pattern's run."""
    stems = [name.partition(":")[0] for name in frames.ids.tolist()]
    by_stem = {stem: _run_number(stem) for stem in set(stems)}
    runs = [by_stem[stem] for stem in stems]
    if None in runs:
        files = files_of(frames)
        by_file = {file: _run_of(file) for file in set(files)}
        runs = [by_file[file] if run is None else run for run, file in zip(runs, files, strict=True)]
    found = [run for run in runs if run is not None]
    if len(found) < len(runs):
        raise SpiError(
            f"split.group=run: the run of {len(runs) - len(found)} of {len(runs)} patterns cannot be told, for "
            f"instance of {frames.where(runs.index(None))}. Expected run7 or r0007 in the id, the name of the file "
            "or that of its folder. Rename the files, or group by split.group=file or split.group=block."
        )
    return found


def _run_of(file: Path) -> int | None:
    number = _run_number(file.stem)
    return _run_number(file.parent.name) if number is None else number


def _run_number(name: str) -> int | None:
    """7 for "run7", "r0007", "amo86615_r0007"; None where there is no run's number, or several."""
    numbers = {int(digits) for digits in _RUN.findall(name) if len(digits) <= 18}
    return numbers.pop() if len(numbers) == 1 else None
