"""Looking at a sample of a run's frames: which pixels are not finite, and what values there are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from spi_lightning.patterns.frames import Frames, frames_at_once

MOST_PIXELS = 2_000_000  # values kept for the histogram; photon peaks are sharp long before
BROKEN = 0.5  # share of not finite pixels from which a frame is lost, rather than its pixels bad


@dataclass(frozen=True)
class Survey:
    """What a sample of frames showed.

    Attributes:
        non_finite: bool ``(rows, columns)``: good pixels that are not finite in at least one frame.
        broken: indices of frames that are mostly not finite; their pixels do not count as bad for that.
        pixels: finite values of good pixels, the same number from every frame that is not broken.
    """

    non_finite: np.ndarray
    broken: list[int]
    pixels: np.ndarray


def spread(n: int, at_most: int | None) -> np.ndarray:
    """Indices of at most ``at_most`` of ``n`` frames, evenly spread from the first to the last; all for None."""
    if at_most is None or at_most >= n:
        return np.arange(n)
    return np.unique(np.linspace(0, n - 1, at_most).round().astype(np.int64))


def sampled(run: Frames, indices: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Frames at ``indices``, block by block: their indices, and ``(k, rows, columns)`` as stored."""
    step = frames_at_once(run)
    for start in range(0, len(indices), step):
        some = indices[start : start + step]
        yield some, run.read(some)


def survey(run: Frames, indices: np.ndarray, mask: np.ndarray) -> Survey:
    """Look at the frames ``indices`` where ``mask`` (bool, True = good) says that a pixel is good."""
    non_finite = np.zeros(run.shape, bool)
    broken: list[int] = []
    values: list[np.ndarray] = []
    generator = np.random.default_rng(0)
    good = np.flatnonzero(mask)
    from_each = max(MOST_PIXELS // len(indices), 1)
    for some, frames in sampled(run, indices):
        for index, frame in zip(some, frames, strict=True):
            finite = np.isfinite(frame)
            if 1 - finite[mask].mean() > BROKEN:
                broken.append(int(index))
                continue
            non_finite |= ~finite & mask
            chosen = good if len(good) <= from_each else generator.choice(good, from_each)
            picked = frame.ravel()[chosen]
            values.append(picked[np.isfinite(picked)])
    return Survey(non_finite, broken, np.concatenate(values) if values else np.empty(0))
