from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from spi_lightning.analysis.psd import angular_mean, radial_bins


def test_a_round_pattern_comes_back_as_its_profile() -> None:
    bins = radial_bins((41, 41), (20.0, 20.0))
    profile = torch.exp(-torch.arange(int(bins.max()) + 1) / 7.0).double()
    mask = torch.ones(41, 41, dtype=torch.bool)
    assert torch.allclose(angular_mean(profile[bins], bins, mask), profile)


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
