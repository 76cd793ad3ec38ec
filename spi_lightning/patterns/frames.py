"""What everything that hands out patterns has in common: a run as stored, and a prepared one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from spi_lightning.instrument import Geometry

BLOCK_BYTES = 1 << 25  # stored frames that are read at once


class Frames(Protocol):
    """What :class:`~spi_lightning.patterns.run.Run` and :class:`PreparedRun` have in common."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of a frame."""

    @property
    def dtype(self) -> np.dtype:
        """Of the frames."""

    @property
    def geometry(self) -> Geometry:
        """What is known of the instrument, for these frames' pixels."""

    @property
    def mask(self) -> np.ndarray:
        """bool ``(rows, columns)``, True = good."""

    @property
    def ids(self) -> np.ndarray:
        """str ``(n,)``."""

    @property
    def labels(self) -> np.ndarray | None:
        """int8 ``(n,)``: 1 single hit, 0 other, -1 unknown; or None."""

    @property
    def notes(self) -> list[str]:
        """What to tell the user."""

    @property
    def mask_bits(self) -> int | None:
        """Bits that the user calls bad in masks; None where that is left to the kind of file."""

    @property
    def files(self) -> frozenset[Path]:
        """From which frames are read."""

    def __len__(self) -> int: ...

    def where(self, index: int) -> str:
        """File, dataset, frame and id of a pattern, for messages."""

    def read(self, indices: np.ndarray | Sequence[int]) -> np.ndarray:
        """Frames ``(n, rows, columns)`` in the order of ``indices``."""

    def blocks(self, size: int = 512, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, np.ndarray]]:
        """Frames in order: index of the first, and ``(at most size, rows, columns)``."""

    def fingerprint(self) -> str:
        """Hash by which these frames are recognised."""


def frames_at_once(run: Frames) -> int:
    """How many stored frames of ``run`` make a block that is worked on at once."""
    return max(1, BLOCK_BYTES // max(run.shape[0] * run.shape[1] * run.dtype.itemsize, 1))
