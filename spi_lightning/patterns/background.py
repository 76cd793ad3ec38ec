"""Background that every frame shares: beamline scatter, straylight, a warm corner of the detector.

The idea is that of the paper's authors (`spi-processing`, correct_background.py): most frames of a run show nothing but
background at a given pixel, so the count that this pixel shows most often is its background level. The level is found
in the pixel's own histogram over the run, sharpened by the mean around the peak, rounded down and subtracted; what
would become negative is 0. Differences from theirs: no fit of a Gaussian to each pixel but the mean within two standard
deviations of a Poisson peak; and a pixel is left alone unless most frames agree on its level, so that a run of hits
alone is not robbed of all its signal. Blank frames in the run are what makes the level right.

Counts stay whole and non-negative, which the Poisson likelihoods further on need. They are no longer Poisson counts
where the level is large: their variance is that of signal and background together.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from spi_lightning.errors import SpiError

FEWEST_FRAMES = 10  # the authors' limit too: below, the most frequent count is chance
ROUNDS = 3  # of moving the window onto the mean inside it
PIXELS_AT_ONCE = 1 << 16


def find_level(blocks: Iterable[np.ndarray], maximum: int = 50, min_share: float = 0.5) -> np.ndarray:
    """Most frequent count of each pixel over a run.

    Args:
        blocks: photon counts, arrays of ``(frames, rows, columns)`` of an unsigned dtype, read once.
        maximum: highest level that is looked for, photons; what lies above is no background.
        min_share: share of the frames that must lie within two standard deviations of the level; else it is 0.

    Returns:
        ``(rows, columns)`` uint16, photons. Memory: 2 or 4 bytes per pixel and level, whatever the number of frames.

    Raises:
        SpiError: fewer than ten frames.
    """
    histogram, n_frames = None, 0
    shape: tuple[int, ...] = ()
    for block in blocks:
        for frame in block:
            if histogram is None:
                shape = frame.shape
                histogram = np.zeros((maximum + 1, frame.size), dtype=np.uint16)
            elif n_frames == np.iinfo(np.uint16).max:
                histogram = histogram.astype(np.uint32)
            counts = frame.ravel()
            pixels = np.flatnonzero(counts <= maximum)
            histogram[counts[pixels], pixels] += 1
            n_frames += 1
    if histogram is None or n_frames < FEWEST_FRAMES:
        raise SpiError(
            f"{n_frames} frames are too few to find a background level; {FEWEST_FRAMES} are needed. "
            "Choose data.prepare.background.mode=none."
        )
    level = np.zeros(histogram.shape[1], dtype=np.uint16)
    # Where 0 is the most frequent count there is nothing to do, and that is nearly everywhere.
    lit = np.flatnonzero(histogram.argmax(axis=0))
    for start in range(0, len(lit), PIXELS_AT_ONCE):
        some = lit[start : start + PIXELS_AT_ONCE]
        level[some] = _peaks(histogram[:, some].astype(np.float64), min_share * n_frames)
    return level.reshape(shape)


def subtract_level(counts: np.ndarray, level: np.ndarray) -> np.ndarray:
    """``max(counts - level, 0)`` in the dtype of ``counts`` (unsigned), which is not changed."""
    return counts - np.minimum(counts, level.astype(counts.dtype))


def _peaks(histogram: np.ndarray, fewest: float) -> np.ndarray:
    """Level of each column of a ``(levels, pixels)`` histogram, 0 where fewer than ``fewest`` frames show it."""
    count = np.arange(len(histogram), dtype=np.float64)[:, None]
    middle = histogram.argmax(axis=0).astype(np.float64)
    for _ in range(ROUNDS):
        near = np.where(np.abs(count - middle) <= 2 * np.sqrt(middle), histogram, 0)
        agreeing = near.sum(axis=0)
        middle = (count * near).sum(axis=0) / np.maximum(agreeing, 1)
    return np.where(agreeing >= fewest, np.floor(middle), 0).astype(np.uint16)
