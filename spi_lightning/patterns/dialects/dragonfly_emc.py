"""Dragonfly's binary photon lists, ``.emc``, with a detector file that says where the pixels are.

A header of 1024 bytes, little-endian int32: number of frames, number of pixels, kind. Kind 0 is sparse: ``ones[N]``,
``multi[N]`` (how many pixels of a frame have one photon, and more), then the pixel numbers ``place_ones``,
``place_multi`` of all frames one after another, and ``count_multi``. Kinds 1 and 2 are dense: int32, float64.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from spi_lightning.errors import SpiError
from spi_lightning.instrument import Geometry
from spi_lightning.patterns.dialects import Candidate
from spi_lightning.patterns.dialects._dragonfly import detector_for, detector_note
from spi_lightning.patterns.segment import Segment

NAME = "Dragonfly .emc"
PRIORITY = 70

_HEADER = 1024  # bytes
_INT = np.dtype("<i4")
_DENSE: dict[int, np.dtype] = {1: np.dtype("<i4"), 2: np.dtype("<f8")}


@dataclass(frozen=True)
class EmcFile:
    """The frames of an .emc file as a :class:`~spi_lightning.patterns.segment.Source`."""

    path: Path
    n_frames: int
    n_pixels: int
    kind: int

    @property
    def chunk(self) -> int:
        """Frames are stored one by one."""
        return 1

    def read(self, rows: np.ndarray, out: np.ndarray) -> None:
        """See :class:`~spi_lightning.patterns.segment.Source`; lists are expanded for the rows asked for only."""
        flat = out.reshape(len(rows), self.n_pixels)
        try:
            with open(self.path, "rb") as file:
                if self.kind in _DENSE:
                    for place, row in enumerate(rows):
                        start = _HEADER + int(row) * self.n_pixels * _DENSE[self.kind].itemsize
                        flat[place] = _take(file, start, self.n_pixels, _DENSE[self.kind])
                else:
                    self._read_sparse(file, rows, flat)
        except OSError as error:
            raise SpiError(f"{self.path} cannot be read: {error.strerror}. Was it moved while in use?") from error

    def _read_sparse(self, file: BinaryIO, rows: np.ndarray, flat: np.ndarray) -> None:
        status = os.stat(self.path)
        ones, multi = _offsets(self.path, self.n_frames, status.st_mtime_ns, status.st_size)
        places = _HEADER + 2 * 4 * self.n_frames
        start_multi = places + 4 * int(ones[-1])
        start_count = start_multi + 4 * int(multi[-1])
        flat[...] = 0
        for place, row in enumerate(rows.tolist()):
            first, n = int(ones[row]), int(ones[row + 1] - ones[row])
            first_multi, n_multi = int(multi[row]), int(multi[row + 1] - multi[row])
            single = _take(file, places + 4 * first, n, _INT)
            several = _take(file, start_multi + 4 * first_multi, n_multi, _INT)
            counts = _take(file, start_count + 4 * first_multi, n_multi, _INT)
            add_photons(flat[place], single, several, counts, f"{self.path}: frame {row}")


def probe(candidate: Candidate) -> bool:
    """Whether the name or the header says .emc."""
    if candidate.file is not None:
        return False
    return candidate.path.suffix == ".emc" or _fault(candidate.path) is None


def segments(candidate: Candidate) -> list[Segment]:
    """The file's frames."""
    fault = _fault(candidate.path)
    if fault:
        raise SpiError(f"{candidate.path} is no sound .emc file: {fault}. Copy it again, or make it again.")
    n_frames, n_pixels, kind = _header(candidate.path)
    detector = detector_for(candidate, n_pixels)
    return [
        Segment(
            path=candidate.path,
            dialect=NAME,
            dataset="",
            n_frames=n_frames,
            shape=detector.shape,
            dtype=_DENSE.get(kind, _INT).newbyteorder("="),
            source=EmcFile(candidate.path, n_frames, n_pixels, kind),
            id_prefix=candidate.path.stem,
            geometry=Geometry(centre=detector.centre),
            mask=detector.mask,
            notes=detector_note(candidate, detector),
        )
    ]


def add_photons(frame: np.ndarray, ones: np.ndarray, places: np.ndarray, counts: np.ndarray, where: str) -> None:
    """Add a photon list to ``frame`` (``(n_pixels,)``, zeros): one photon at ``ones``, ``counts`` at ``places``.

    Raises:
        SpiError: a pixel number is not on the detector, a count is negative, or the lists' lengths differ; names
            ``where``.
    """
    for listed in (ones, places):
        if listed.size and (listed.min() < 0 or listed.max() >= frame.size):
            raise SpiError(
                f"{where} has photons in pixels {listed.min()} to {listed.max()}, but pixels go from 0 to "
                f"{frame.size - 1}. The file is damaged, or belongs to another detector."
            )
    if len(places) != len(counts):
        raise SpiError(f"{where} lists {len(places)} pixels but {len(counts)} counts. The file is damaged.")
    if counts.size and counts.min() < 0:
        raise SpiError(f"{where} lists a pixel with {counts.min()} photons. The file is damaged: make it again.")
    np.add.at(frame, ones, 1)
    np.add.at(frame, places, counts)


def _header(path: Path) -> tuple[int, int, int]:
    n_frames, n_pixels, kind = np.fromfile(path, _INT, 3).tolist()
    return n_frames, n_pixels, kind


def _fault(path: Path) -> str | None:
    """What is wrong with an .emc file, or None: header and lengths must add up to the file's size exactly."""
    size = path.stat().st_size
    if size < _HEADER:
        return f"it has {size} bytes, less than the header of {_HEADER}"
    n_frames, n_pixels, kind = _header(path)
    if n_frames < 1 or n_pixels < 1:
        return f"its header announces {n_frames} frames of {n_pixels} pixels"
    if kind in _DENSE:
        expected = _HEADER + n_frames * n_pixels * _DENSE[kind].itemsize
    elif kind != 0:
        return f"its header announces kind {kind}; known are 0 (sparse), 1 (int32), 2 (float64)"
    elif size < _HEADER + 8 * n_frames:
        expected = _HEADER + 8 * n_frames
    else:
        lengths = np.fromfile(path, _INT, 2 * n_frames, offset=_HEADER).astype(np.int64)
        if lengths.min() < 0:
            return "it announces a negative number of photons"
        ones, multi = int(lengths[:n_frames].sum()), int(lengths[n_frames:].sum())
        expected = _HEADER + 8 * n_frames + 4 * (ones + 2 * multi)
    return None if size == expected else f"its header asks for {expected} bytes or more, but it has {size}"


@functools.lru_cache(maxsize=8)
def _offsets(path: Path, n_frames: int, mtime: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Where each frame's entries begin among all ``ones`` and ``multi``: ``(n_frames + 1,)`` each."""
    lengths = np.fromfile(path, _INT, 2 * n_frames, offset=_HEADER).astype(np.int64)
    if len(lengths) < 2 * n_frames:
        raise SpiError(f"{path} was shortened while in use. Copy it again and start again.")
    return np.concatenate([[0], np.cumsum(lengths[:n_frames])]), np.concatenate([[0], np.cumsum(lengths[n_frames:])])


def _take(file: BinaryIO, start: int, count: int, dtype: np.dtype) -> np.ndarray:
    file.seek(start)
    values = np.fromfile(file, dtype, count)
    if len(values) < count:
        raise SpiError(f"{file.name} ends at byte {start + values.nbytes}, before its frames do. Copy it again.")
    return values
