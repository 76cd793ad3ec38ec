"""A run: the frames of one file or of many as one sequence."""

from __future__ import annotations

import glob
import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from spi_lightning.errors import SpiError
from spi_lightning.patterns.agreement import (
    all_labels,
    common_geometry,
    common_mask,
    refuse_duplicates,
    without_copies,
)
from spi_lightning.patterns.dialects import read_segments
from spi_lightning.patterns.frames import frames_at_once
from spi_lightning.patterns.segment import Segment

_FINGERPRINT_FRAMES = 64


def open_run(
    path: str | Path | Sequence[str | Path],
    *,
    dataset: str | None = None,
    detector: str | Path | None = None,
    mask_bits: int | None = None,
) -> Run:
    """Open pattern files as one run. Frames are not read yet.

    Args:
        path: a file, a glob such as ``run7/*.cxi``, or several of them. What a glob finds is sorted naturally (2 before
            10); explicit files keep the order in which they are given; a file that is named twice is used once.
        dataset: path of the frames inside of HDF5 files, where it is not found without.
        detector: Dragonfly's detector file, for photon lists.
        mask_bits: mask bits that make a pixel bad; the dialect's own choice where None
            (:data:`~spi_lightning.patterns.segment.DEFAULT_BAD_BITS`).

    Raises:
        SpiError: a file is missing, unreadable or holds no patterns; files do not go together.
    """
    if mask_bits is not None and not 0 <= mask_bits <= 0xFFFFFFFF:
        raise SpiError(
            f"data.mask_bits is {mask_bits}; expected a sum of the 32 bits of a mask, such as 640 (= 0x280), or null."
        )
    paths = _files([path] if isinstance(path, str | Path) else path)
    detector_path = None if detector is None else _absolute(detector)
    segments: list[Segment] = []
    for file in paths:
        segments += read_segments(file, dataset, detector_path, mask_bits)
    run = Run(segments, mask_bits)
    if detector_path is not None and not any(segment.dialect.startswith("Dragonfly") for segment in segments):
        run.notes.append(f"data.detector={detector} is not used: only Dragonfly's photon lists need a detector file.")
    return run


class Run:
    """Frames of several segments as one sequence.

    Attributes:
        segments: where the frames lie.
        mask_bits: mask bits that the user calls bad, or None.
        shape: of one frame, (rows, columns).
        dtype: that holds the frames of all segments.
        geometry: what the files say and agree on; what they do not agree on (distance, pixel size, energy by more than
            0.1 %, centre by more than 0.5 px) is None and in the notes.
        mask: ``(rows, columns)`` bool, True = good in all segments; all good where no file has a mask, with a note.
        labels: ``(n,)`` int8: 1 single hit, 0 other, -1 unknown; None where no file has labels.
        notes: what a user should be told about these files.
    """

    def __init__(self, segments: Sequence[Segment], mask_bits: int | None = None) -> None:
        if not segments:
            raise SpiError("There are no patterns: no file was given. Name files with data.path=FILES.")
        first = segments[0]
        for segment in segments:
            if segment.shape != first.shape:
                remedy = "open these files one after the other, as runs of their own."
                if segment.path == first.path:
                    remedy = f"choose with data.dataset={first.dataset} or data.dataset={segment.dataset}."
                raise SpiError(
                    f"The frames of {segment.where} are {segment.shape}, but those of {first.where} are {first.shape}. "
                    f"Frames of one run must have one shape: {remedy}"
                )
        self.mask_bits = mask_bits
        self.shape = first.shape
        self.dtype = np.result_type(*{segment.dtype for segment in segments})
        self.notes = list(dict.fromkeys(note for segment in segments for note in segment.notes))
        self._starts = np.cumsum([0, *(segment.n_frames for segment in segments)])
        self.mask = common_mask(segments, self.notes)
        self.geometry = common_geometry(segments, self.notes)
        self.labels = all_labels(segments)
        self.segments = tuple(without_copies(segments))
        if len({segment.dtype for segment in segments}) > 1:
            found = ", ".join(sorted({str(segment.dtype) for segment in segments}))
            self.notes.append(f"Frames are stored as {found}; they are read as {self.dtype}.")
        refuse_duplicates(self.segments)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __repr__(self) -> str:
        files = len({segment.path for segment in self.segments})
        return f"<Run of {len(self)} frames {self.shape} {self.dtype} in {files} files>"

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != "ids"}  # a worker makes its own

    @cached_property
    def ids(self) -> np.ndarray:
        """Stable id of each frame, ``(n,)`` of str: the file's own, or "file:index", "file:group:index"."""
        return np.concatenate([segment.ids for segment in self.segments])

    @property
    def files(self) -> frozenset[Path]:
        """From which frames are read."""
        return frozenset(path for segment in self.segments for path in (segment.path, segment.source.path))

    def where(self, index: int) -> str:
        """File, dataset, frame and id of a pattern, for messages."""
        number = int(np.searchsorted(self._starts, index, side="right")) - 1
        frame = index - int(self._starts[number])
        return f"{self.segments[number].where}, frame {frame} (pattern {self.ids[index]})"

    def read(self, indices: np.ndarray | Sequence[int]) -> np.ndarray:
        """Read frames as they are stored.

        Args:
            indices: ``(n,)`` integers in [0, len), in any order, repeated or not. They are read in file order, which is
                what storage can do fast.

        Returns:
            ``(n, rows, columns)`` in :attr:`dtype`, in the order of ``indices``.

        Raises:
            SpiError: a frame cannot be read.
            IndexError: no such frame.
        """
        wanted = np.asarray(indices)
        if wanted.ndim != 1 or (wanted.size and wanted.dtype.kind not in "iu"):
            raise IndexError(f"Expected a list of integers; got {wanted.ndim} axes of {wanted.dtype}.")
        wanted = wanted.astype(np.int64)
        if wanted.size and not (wanted.min() >= 0 and wanted.max() < len(self)):
            raise IndexError(f"Frames go from 0 to {len(self) - 1}; asked for {wanted.min()} to {wanted.max()}.")
        out = np.empty((len(wanted), *self.shape), self.dtype)
        owner = np.searchsorted(self._starts, wanted, side="right") - 1
        for number in np.unique(owner):
            segment, mine = self.segments[number], np.flatnonzero(owner == number)
            rows = wanted[mine] - self._starts[number]
            if segment.dtype == self.dtype and mine[-1] - mine[0] + 1 == len(mine):
                segment.source.read(rows, out[mine[0] : mine[-1] + 1])
            else:
                out[mine] = segment.read(rows)
        return out

    def blocks(self, size: int = 512, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, np.ndarray]]:
        """Read frames in order, at most ``size`` at a time, fewer where they are large.

        Blocks end where chunks of the file end, if ``size`` lets them, so that nothing is decoded twice.

        Args:
            size: largest number of frames in a block.
            start: first frame.
            stop: end of the frames; the run's end where None.

        Yields:
            Index of the block's first frame, and the frames ``(n, rows, columns)`` in :attr:`dtype`.
        """
        if size < 1:
            raise ValueError(f"A block needs 1 frame at least, not {size}.")
        room = frames_at_once(self)
        size = min(size, room)
        stop = len(self) if stop is None else min(stop, len(self))
        while start < stop:
            end = min(start + size, stop)
            if end < stop:
                number = int(np.searchsorted(self._starts, end, side="right")) - 1
                offset, chunk = int(self._starts[number]), self.segments[number].source.chunk
                aligned = offset + (end - offset) // chunk * chunk
                rest = min(aligned + chunk, int(self._starts[number + 1]), stop)
                if aligned > start:
                    end = aligned
                elif rest - start <= room:
                    end = rest  # the chunk is decoded as a whole anyway
            frames = self.read(np.arange(start, end))
            for first in range(0, len(frames), size):
                yield start + first, frames[first : first + size]
            start = end

    def fingerprint(self) -> str:
        """SHA-256 (hex) by which a run is recognised.

        Covers the number, shape and dtype of the frames, the mask, all ids, and the raw values of 64 frames spread
        evenly from the first to the last. It does not cover the other frames, labels, geometry, or where the files lie.
        """
        digest = hashlib.sha256(repr((len(self), self.shape, self.dtype.str)).encode())
        digest.update(np.packbits(self.mask).tobytes())
        digest.update("\n".join(self.ids.tolist()).encode())
        spread = np.unique(np.linspace(0, len(self) - 1, _FINGERPRINT_FRAMES).round().astype(np.int64))
        for index in spread:
            digest.update(self.read([int(index)]).tobytes())
        return digest.hexdigest()


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """Sort key that puts run2 before run10."""
    return [
        (0, int(part), "") if part.isascii() and part.isdecimal() else (1, 0, part)
        for part in re.split(r"([0-9]+)", text)
    ]


def _absolute(path: str | Path) -> Path:
    return Path(os.path.abspath(os.path.expanduser(path)))


def _files(paths: Sequence[str | Path]) -> list[Path]:
    found: dict[Path, None] = {}
    for path in paths:
        text = os.path.expanduser(path)
        if glob.has_magic(text) and not os.path.exists(text):
            matches = sorted(glob.glob(text, recursive=True), key=natural_key)
            if not matches:
                raise SpiError(f"No file matches {path}. Check the pattern, and the folder that the command runs in.")
            found.update(dict.fromkeys(map(_absolute, matches)))
        else:
            found[_absolute(text)] = None
    return list(found)
