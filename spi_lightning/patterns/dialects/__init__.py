"""The ways in which the community lays out patterns in files: one module each.

A new dialect is one new module in this folder and touches nothing else. It offers

- ``NAME``: what the dialect is called in messages;
- ``PRIORITY``: dialects are asked in ascending order, the special before the general;
- ``probe(candidate) -> bool``: whether the file is of this dialect (cheap: look at names, do not read data);
- ``segments(candidate) -> list[Segment]``: its frames, or a :class:`SpiError` that says what is wrong and what to do.

Modules whose names begin with an underscore hold what several dialects share.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

import h5py

from spi_lightning.errors import SpiError
from spi_lightning.patterns.hdf5 import check_file, damage_is_reported, describe, open_h5, resolve
from spi_lightning.patterns.segment import Segment


@dataclass(frozen=True)
class Candidate:
    """A file about which the dialects are asked.

    Attributes:
        path: the file.
        file: it opened, or None where it is not HDF5.
        dataset: the dataset that the user asked for, or None.
        detector: the detector file that the user gave (Dragonfly), or None.
        mask_bits: the mask bits that the user calls bad, or None for the dialect's own.
    """

    path: Path
    file: h5py.File | None
    dataset: str | None = None
    detector: Path | None = None
    mask_bits: int | None = None

    def dataset_at(self, name: str) -> h5py.Dataset | None:
        """The dataset of that name, or None (also where a group has the name)."""
        found = resolve(self.file, name) if self.file is not None else None
        return found if isinstance(found, h5py.Dataset) else None

    def group_at(self, name: str) -> h5py.Group | None:
        """The group of that name, or None (also where a dataset has the name)."""
        found = resolve(self.file, name) if self.file is not None else None
        return found if isinstance(found, h5py.Group) else None

    def names(self, name: str) -> list[str]:
        """Names of what a group holds; empty where there is no such group."""
        group = self.group_at(name)
        if group is None:
            return []
        with damage_is_reported(self.path, f"the list of '{name}'"):
            return [entry for entry in group if isinstance(entry, str)]  # bytes: a damaged name that is no text

    def has(self, name: str) -> bool:
        """Whether anything has that name."""
        return self.file is not None and resolve(self.file, name) is not None


class Dialect(Protocol):
    """What a dialect's module offers; see the head of this file."""

    NAME: str
    PRIORITY: int

    def probe(self, candidate: Candidate) -> bool:
        """Whether the file is of this dialect."""
        ...

    def segments(self, candidate: Candidate) -> list[Segment]:
        """The file's frames."""
        ...


@functools.cache
def all_dialects() -> tuple[Dialect, ...]:
    """Every dialect, in the order in which they are asked."""
    names = [module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")]
    modules = [cast(Dialect, importlib.import_module(f"{__name__}.{name}")) for name in names]
    return tuple(sorted(modules, key=lambda module: (module.PRIORITY, module.NAME)))


def read_segments(
    path: Path, dataset: str | None = None, detector: Path | None = None, mask_bits: int | None = None
) -> list[Segment]:
    """Find out how a file is laid out and return its segments.

    Raises:
        SpiError: unreadable, no dialect fits, or the one that fits found a fault.
    """
    check_file(path)
    if not h5py.is_hdf5(path):
        candidate = Candidate(path, None, dataset, detector, mask_bits)
        for dialect in all_dialects():
            if dialect.probe(candidate):
                return dialect.segments(candidate)
        open_h5(path)  # says why it is not HDF5
        raise SpiError(f"{path} is of no format that is known here. Give a CXI, HDF5 or .emc file.")
    with open_h5(path) as file:
        candidate = Candidate(path, file, dataset, detector, mask_bits)
        if dataset is not None and not candidate.has(dataset):
            raise SpiError(
                f"{path} has no dataset '{dataset}'. {describe(file)}\nName one of these with data.dataset=PATH."
            )
        for dialect in all_dialects():
            if dialect.probe(candidate):
                return dialect.segments(candidate)
        raise SpiError(
            f"{path} is laid out in no way that is known here: no stack of patterns (frames, rows, columns) was found. "
            f"{describe(file)}\nIf one of these holds the patterns, name it with data.dataset=PATH."
        )
