from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spi_lightning.analysis.psd import angular_mean, q_bins, radial_bins, ring_counts
from spi_lightning.errors import SpiError
from spi_lightning.instrument import Instrument
from spi_lightning.reciprocal import q_magnitude


def test_a_round_pattern_comes_back_as_its_profile() -> None:
    bins = radial_bins((41, 41), (20.0, 20.0))
    profile = torch.exp(-torch.arange(int(bins.max()) + 1) / 7.0).double()
    mask = torch.ones(41, 41, dtype=torch.bool)
    assert torch.allclose(angular_mean(profile[bins], bins, mask), profile)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_it_is_the_mean_over_the_good_pixels_of_each_ring(seed: int) -> None:
    rng = np.random.default_rng(seed)
    patterns, mask = rng.poisson(2.0, (3, 12, 9)), rng.random((12, 9)) > 0.4
    centre = (float(rng.uniform(-3, 9)), float(rng.uniform(-3, 12)))
    bins = radial_bins((12, 9), centre)
    result = angular_mean(torch.from_numpy(patterns), bins, torch.from_numpy(mask))
    y, x = np.indices((12, 9))
    rings = np.round(np.hypot(x - centre[0], y - centre[1])).astype(int)
    for ring in range(result.shape[1]):
        here = mask & (rings == ring)
        expected = patterns[:, here].mean(1) if here.any() else np.full(3, np.nan)
        assert np.allclose(result[:, ring].numpy(), expected, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.int32, torch.float32, torch.float64])
def test_sums_of_counts_are_exact_for_many_patterns(dtype: torch.dtype) -> None:
    rng = np.random.default_rng(0)
    patterns = rng.integers(0, 255, (70, 96, 192))
    if dtype in (torch.uint16, torch.int32):
        patterns[3] = 65535 - patterns[3]  # sums of rings beyond what float32 holds exactly
    bins = radial_bins((96, 192), (95.5, -0.5))
    mask = torch.from_numpy(rng.random((96, 192)) > 0.02)
    mask[bins == 40] = False
    result = angular_mean(torch.from_numpy(patterns).to(dtype), bins, mask)
    good, rings, counts = mask.numpy(), bins[mask].numpy(), ring_counts(bins, mask).numpy()
    for pattern in (0, 3, 69):
        sums = np.bincount(rings, weights=patterns[pattern][good], minlength=len(counts))
        expected = np.divide(sums, counts, out=np.full(len(counts), np.nan), where=counts > 0)
        assert np.array_equal(result[pattern].numpy(), expected, equal_nan=True)


def test_batches_of_any_shape_and_what_bad_pixels_hold_does_not_matter() -> None:
    bins = radial_bins((12, 9), (4.0, 5.0))
    mask = torch.rand(12, 9, generator=torch.Generator().manual_seed(1)) > 0.3
    patterns = torch.rand(2, 3, 12, 9, generator=torch.Generator().manual_seed(2))
    whole = angular_mean(patterns, bins, mask)
    assert whole.shape == (2, 3, int(bins.max()) + 1)
    spoilt = torch.where(mask, patterns, torch.nan)
    assert torch.equal(angular_mean(spoilt[1, 2], bins, mask), whole[1, 2])
    assert angular_mean(patterns[:0, 0], bins, mask).shape == (0, whole.shape[-1])
    assert bool(angular_mean(patterns, bins, torch.zeros_like(mask)).isnan().all())


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_order_of_patterns_does_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    patterns, order = torch.from_numpy(rng.poisson(1.0, (5, 8, 6))), torch.from_numpy(rng.permutation(5))
    bins, mask = radial_bins((8, 6), (2.0, 4.0)), torch.from_numpy(rng.random((8, 6)) > 0.2)
    straight = angular_mean(patterns, bins, mask)
    assert torch.equal(angular_mean(patterns[order], bins, mask).nan_to_num(-1), straight[order].nan_to_num(-1))


def test_ring_counts_are_the_good_pixels() -> None:
    bins = radial_bins((3, 3), (1.0, 1.0))
    mask = torch.ones(3, 3, dtype=torch.bool)
    assert ring_counts(bins, mask).tolist() == [1, 8]
    mask[1, 1] = mask[0, 0] = False
    assert ring_counts(bins, mask).tolist() == [0, 7]


def test_bins_of_momentum_transfer_are_rings_next_to_the_beam_and_fewer_far_out() -> None:
    instrument = Instrument((512, 64), 1700.0, 0.13, 75e-6, (31.5, -0.5))
    q = q_magnitude(instrument)
    bins, rings = q_bins(q, instrument.q_per_pixel), radial_bins(instrument.shape, instrument.centre)
    near = rings < 30
    assert torch.equal(bins[near], rings[near])
    assert int(bins.max()) < int(rings.max())
    assert bool(((q - bins * instrument.q_per_pixel).abs() <= instrument.q_per_pixel / 2 * (1 + 1e-12)).all())


def test_a_width_of_no_sense_is_refused() -> None:
    with pytest.raises(SpiError, match="positive"):
        q_bins(torch.ones(2, 2), 0.0)
