"""From expected photons to what a detector writes: photon noise, saturation, broken pixels, read-out noise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from spi_lightning.simulation.settings import Detector

# Bits of a CXI mask that a simulated detector sets.
DEAD, HOT, MISSING = 0x8, 0x4, 0x200
MOST = 2**30  # photons that a pixel without saturation can count: int32 holds not much more
FAULTS_STREAM = 2**63  # no pattern has this index, so the faults draw from a stream of their own


def detector_flags(settings: Detector, centre: tuple[float, float], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the detector records, and which pixels are broken.

    Args:
        settings: shadows, beamstop, shares of dead and hot pixels.
        centre: where the beam meets the detector, (x, y) in pixels.
        seed: of the broken pixels' places.

    Returns:
        CXI mask, ``(rows, columns)`` uint16, and the true state of each pixel, ``(rows, columns)`` uint16, which
        differs where the mask has missed a hot pixel.
    """
    flags = np.zeros(settings.shape, dtype=np.uint16)
    y, x = np.indices(settings.shape)
    for first_row, end_row, first_column, end_column in settings.shadows:
        flags[first_row:end_row, first_column:end_column] |= MISSING
    flags[np.hypot(x - centre[0], y - centre[1]) < settings.beamstop_radius] |= MISSING
    rng = np.random.default_rng([seed, FAULTS_STREAM])
    fate = rng.random(settings.shape)
    working = flags == 0
    flags[working & (fate < settings.dead_share)] |= DEAD
    flags[working & (fate > 1 - settings.hot_share)] |= HOT
    state = flags.copy()
    good = np.flatnonzero(state == 0)
    state.flat[rng.choice(good, size=min(settings.unmasked_hot, len(good)), replace=False)] |= HOT
    return flags, state


def record(
    expected: torch.Tensor, seeds: Sequence[int], settings: Detector, dead: torch.Tensor, hot: torch.Tensor
) -> torch.Tensor:
    """Draw what the detector reads, each pattern from a stream of its own.

    Args:
        expected: ``(B, pixels)`` float32, expected photons.
        seeds: one a pattern.
        settings: saturation, level of hot pixels, read-out.
        dead: ``(pixels,)`` bool.
        hot: ``(pixels,)`` bool.

    Returns:
        ``(B, pixels)``: int32 photon counts, or float32 detector units where ``settings.adu_per_photon`` is set.
    """
    rates = torch.where(hot, expected + settings.hot_level, expected).masked_fill(dead, 0)
    generator = torch.Generator(expected.device)
    frames = []
    for rate, seed in zip(rates, seeds, strict=True):
        generator.manual_seed(seed)
        photons = torch.poisson(rate, generator).clamp(max=settings.saturation or MOST)
        if settings.adu_per_photon is not None:
            noise = torch.randn(rate.shape, generator=generator, device=rate.device)
            photons = photons * settings.adu_per_photon + noise * settings.adu_noise
        frames.append(photons)
    stack = torch.stack(frames)
    return stack if settings.adu_per_photon is not None else stack.to(torch.int32)
