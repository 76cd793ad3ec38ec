"""Frames in memory behind the interface of a run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from spi_lightning.instrument import Geometry

GEOMETRY = Geometry(photon_energy=1700.0, distance=0.13, pixel_size=75e-6, centre=(14.5, 11.5))


class FakeRun:
    """Frames in memory behind the interface of a run."""

    def __init__(self, frames: np.ndarray, mask: np.ndarray | None = None, geometry: Geometry = GEOMETRY) -> None:
        self.frames, self.geometry = frames, geometry
        self.shape, self.dtype = frames.shape[1:], frames.dtype
        self.mask = np.ones(self.shape, bool) if mask is None else mask
        self.ids = np.array([f"run7:{i}" for i in range(len(frames))])
        self.labels: np.ndarray | None = None
        self.notes = ["a note of the run"]
        self.most_at_once = 0
        self.mask_bits: int | None = None
        self.files: frozenset[Path] = frozenset()

    def __len__(self) -> int:
        return len(self.frames)

    def where(self, index: int) -> str:
        return f"run7.cxi (/data), frame {index} (pattern {self.ids[index]})"

    def read(self, indices: np.ndarray | Sequence[int]) -> np.ndarray:
        self.most_at_once = max(self.most_at_once, len(indices))
        return self.frames[np.asarray(indices)]

    def blocks(self, size: int = 512, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, np.ndarray]]:
        for first in range(start, len(self) if stop is None else stop, size):
            yield first, self.read(np.arange(first, min(first + size, len(self) if stop is None else stop)))

    def fingerprint(self) -> str:
        return hashlib.sha256(self.frames.tobytes()).hexdigest()


def photons(n: int = 20, shape: tuple[int, int] = (24, 30), mean: float = 0.5, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).poisson(mean, (n, *shape)).astype(np.uint16)
