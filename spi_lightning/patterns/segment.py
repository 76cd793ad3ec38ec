"""A segment: consecutive frames that lie in one dataset of one file, and how to get at them.

A segment is plain data. It can be pickled and sent to a worker process; files are opened where and when rows are read.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from spi_lightning.errors import SpiError
from spi_lightning.instrument import Geometry
from spi_lightning.patterns.handles import shared_frames
from spi_lightning.patterns.rows import read_rows

DEFAULT_BAD_BITS = 0xFFFFFFFF & ~(0x20 | 0x100 | 0x800 | 0x1000 | 0x2000 | 0x4000)
"""Mask bits that make a pixel bad: all but those that speak of the light on the pixel and not of its health.

CXI 1.6: 0x1 invalid, 0x2 saturated, 0x4 hot, 0x8 dead, 0x10 shadowed, 0x80 bad, 0x200 missing, 0x400 noisy are bad;
0x1000 (has signal) is not. Cheetah, Hummingbird and Condor give names to further bits, of which these are no fault
of the pixel: 0x20 (in peak mask), 0x100 (outside of a resolution range), 0x800 (artefact corrected), 0x2000 (peak for
the hit finder), 0x4000 (background corrected). A bit that nobody named counts as bad. Note that Condor's 0x1000 means
"artefact correction failed", which is bad: its dialect adds that bit.
"""


class Source(Protocol):
    """Where a segment's rows come from. Picklable; opens what it needs when asked."""

    @property
    def path(self) -> Path:
        """The file that holds them."""
        ...

    @property
    def chunk(self) -> int:
        """Frames that are decoded together; reading that respects it decodes nothing twice."""
        ...

    def read(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Write the frames ``rows`` (``(n,)``, any order, repeats allowed) into C-contiguous ``out`` ``(n, y, x)``."""
        ...


@dataclass(frozen=True)
class DenseHdf5:
    """Frames stored whole in an HDF5 dataset ``(N, y, x)`` (or with further axes of length 1 between)."""

    path: Path
    dataset: str
    chunk: int = 1

    def read(self, rows: np.ndarray, out: np.ndarray) -> None:
        """See :class:`Source`."""
        with shared_frames(self.path, self.dataset) as opened:
            dataset = opened.dataset
            if dataset.shape[-2:] != out.shape[1:] or (len(rows) and rows.max() >= dataset.shape[0]):
                raise SpiError(
                    f"{self.path} was changed while in use: dataset '{self.dataset}' is {dataset.shape} now and has no "
                    f"row {rows.max()} of shape {out.shape[1:]} any more. Start again."
                )
            read_rows(dataset, rows, out, opened.packing)


@dataclass(frozen=True, eq=False)
class Segment:
    """Consecutive frames that lie in one dataset of one file.

    Attributes:
        path: the file.
        dialect: name of the dialect that recognised it.
        dataset: where in the file the frames are; empty where the format has no datasets.
        n_frames: number of frames.
        shape: of one frame, (rows, columns).
        dtype: as stored, in the machine's byte order.
        source: reads the frames.
        id_prefix: ids are ``prefix:0``, ``prefix:1`` ... unless the file has its own.
        own_ids: ``(n_frames,)`` UTF-8 bytes: the file's own ids, or None.
        geometry: what the file says of the instrument.
        mask: ``(rows, columns)`` bool, True = good; None where the file is silent.
        labels: ``(n_frames,)`` int8: 1 single hit, 0 other, -1 unknown; None where the file is silent.
        notes: what a user should know about this file.
    """

    path: Path
    dialect: str
    dataset: str
    n_frames: int
    shape: tuple[int, int]
    dtype: np.dtype
    source: Source
    id_prefix: str
    own_ids: np.ndarray | None = None
    geometry: Geometry = field(default_factory=Geometry)
    mask: np.ndarray | None = None
    labels: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    @property
    def ids(self) -> np.ndarray:
        """Pattern ids, ``(n_frames,)`` of str; made when asked for (0.1 s for 200,000)."""
        if self.own_ids is not None:
            return np.char.decode(self.own_ids, "utf-8")
        prefix = os.fsencode(self.id_prefix).decode(errors="backslashreplace")  # a file's name need not be text
        return np.array([f"{prefix}:{i}" for i in range(self.n_frames)])

    @property
    def where(self) -> str:
        """The file, and the dataset where there is one, for messages."""
        return f"{self.path} ({self.dataset})" if self.dataset else str(self.path)

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Read frames ``rows`` (``(n,)`` integers in [0, n_frames)), unchanged: ``(n, rows, columns)``, :attr:`dtype`.

        Raises:
            SpiError: a frame cannot be read.
        """
        out = np.empty((len(rows), *self.shape), self.dtype)
        self.source.read(np.asarray(rows, dtype=np.int64), out)
        return out


def good_pixels(flags: np.ndarray, bad_bits: int = DEFAULT_BAD_BITS) -> np.ndarray:
    """Decode mask flags: bool of the same shape, True where none of ``bad_bits`` is set.

    Args:
        flags: unsigned or signed integers (negative ones are read as their bit pattern), bool (True = bad), or floats
            with integer values, as some programs write them.
        bad_bits: bits that make a pixel bad.

    Raises:
        SpiError: the values are no flags.
    """
    if flags.dtype.kind == "b":
        return ~flags
    if flags.dtype.kind == "f":
        whole = np.isfinite(flags) & (flags == np.round(flags)) & (np.abs(flags) < 2**53)
        if not whole.all():
            raise SpiError(
                f"A mask of dtype {flags.dtype} holds values that are no flags, such as {flags[~whole][0]}. "
                "Expected integers, 0 = good. Write the mask as integers."
            )
        flags = flags.astype(np.int64)
    if flags.dtype.kind not in "iu":
        raise SpiError(f"A mask of dtype {flags.dtype} cannot be read. Expected integers, 0 = good.")
    return (flags.astype(np.int64, copy=False) & bad_bits) == 0
