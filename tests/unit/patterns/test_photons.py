from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spi_lightning.errors import SpiError
from spi_lightning.patterns.photons import adu_to_photons, find_gain


def simulated(
    gain: float, noise: float, mean: float, n: int = 200_000, offset: float = 12.0, seed: int = 0
) -> np.ndarray:
    """ADU of pixels whose brightness varies as it does between rings and frames; ``noise`` in photons."""
    rng = np.random.default_rng(seed)
    photons = rng.poisson(rng.exponential(mean, n))
    return photons * gain + rng.normal(offset, noise * gain, n)


@pytest.mark.parametrize("gain", [1.3, 7.8, 150.0])
@pytest.mark.parametrize(("noise", "mean"), [(0.05, 0.02), (0.18, 0.05), (0.18, 0.34), (0.25, 0.34), (0.1, 1.5)])
def test_gain_offset_and_noise_are_found(gain: float, noise: float, mean: float):
    found = find_gain(simulated(gain, noise, mean))
    assert found.gain == pytest.approx(gain, rel=0.02)
    assert found.offset == pytest.approx(12.0, abs=0.04 * gain)
    assert found.noise == pytest.approx(noise * gain, rel=0.05)


def test_whole_adu_do_not_disturb():
    found = find_gain(np.rint(simulated(7.8, 0.18, 0.34)).astype(np.int16))
    assert found.gain == pytest.approx(7.8, rel=0.02)
    # Rounding to whole ADU adds its own variance of 1/12 to that of the detector.
    assert found.noise == pytest.approx(np.hypot(0.18 * 7.8, 12**-0.5), rel=0.1)


def test_charge_shared_with_neighbours_does_not_disturb():
    adu = simulated(7.8, 0.18, 0.2)
    rng = np.random.default_rng(1)
    shared = rng.random(adu.size) < 0.03
    adu[shared] += 7.8 * rng.random(shared.sum())
    assert find_gain(adu).gain == pytest.approx(7.8, rel=0.03)


def test_outliers_and_values_that_are_not_finite_do_not_disturb():
    adu = simulated(7.8, 0.18, 0.2)
    adu[:50], adu[50:60], adu[60:70] = np.nan, 1e30, -1e30
    assert find_gain(adu.reshape(100, -1)).gain == pytest.approx(7.8, rel=0.02)


def test_the_real_detector(shared_data: Path):
    with h5py.File(shared_data / "pr772_amo86615_10_adu.cxi") as file:
        adu, mask = file["entry_1/image_1/data"][:], file["entry_1/image_1/mask"][:]
    found = find_gain(adu[:, mask == 0])
    assert found.gain == pytest.approx(7.8, rel=0.03)
    assert found.noise == pytest.approx(1.4, rel=0.1)
    assert abs(found.offset) < 0.5
    for frame in adu:  # one frame alone is enough
        assert find_gain(frame[mask == 0]).gain == pytest.approx(7.8, rel=0.06)


@pytest.mark.parametrize(
    ("adu", "expected"),
    [
        (np.arange(10.0), "10 pixel values are too few"),
        (np.full(5000, np.nan), "0 pixel values"),
        (simulated(7.8, 0.18, 0.34, 5000).clip(min=15), "same value 15.*photons.mode=none"),
        (np.random.default_rng(0).poisson(0.1, 5000), "no photon peak|same value"),
        (np.random.default_rng(0).normal(0, 1, 50_000), "no photon peak.*sample_frames"),
        (simulated(7.8, 0.6, 0.34), "no photon peak"),
        (simulated(7.8, 0.18, 0.34)[:0], "too few"),
        (np.rint(simulated(1.3, 0.12, 1.5)), "whole ADU|no photon peak"),
        (np.random.default_rng(0).uniform(0, 1, 50_000), "photons.gain="),
    ],
)
def test_what_shows_no_gain_is_refused(adu: np.ndarray, expected: str):
    with pytest.raises(SpiError, match=f"(?s){expected}") as caught:
        find_gain(adu)
    assert "photons.gain=ADU_PER_PHOTON" in str(caught.value)


def test_counts_are_rounded_and_the_first_photon_has_its_own_threshold():
    adu = np.array([-100, -0.1, 0, 0.5, 0.69, 0.71, 1.0, 1.49, 1.51, 2.6, np.nan, np.inf, -np.inf]) * 10 + 3
    photons = adu_to_photons(adu.astype(np.float32), gain=10, offset=3, threshold=0.7)
    assert photons.dtype == np.uint32
    assert photons.tolist()[:-2] == [0, 0, 0, 0, 0, 1, 1, 1, 2, 3, 0]
    assert photons[-2] > 4e9
    assert photons[-1] == 0
    assert adu_to_photons(np.array([3.4, 3.6]), 1, 0, threshold=0.3).tolist() == [3, 4]
    assert adu_to_photons(np.array([0.29, 0.31, 0.9]), 1, 0, threshold=0.3).tolist() == [0, 1, 1]
    assert adu_to_photons(np.array([0.99, 1.0, 1.4, 1.6]), 1, 0, threshold=1.0).tolist() == [0, 1, 1, 2]


@given(
    photons=st.lists(st.integers(0, 2**20), min_size=1, max_size=50),
    gain=st.floats(0.5, 1e4),
    offset=st.floats(-1e3, 1e3),
    error=st.floats(-0.29, 0.29),
)
def test_noise_below_the_threshold_changes_no_count(photons: list[int], gain: float, offset: float, error: float):
    adu = (np.array(photons) + error) * gain + offset
    assert adu_to_photons(adu, gain, offset, 0.7).tolist() == photons


@given(
    adu=st.lists(st.integers(-(2**31), 2**31 - 1), min_size=2, max_size=50),
    gain=st.floats(0.01, 1e4),
    threshold=st.floats(0.05, 1.0),
    dtype=st.sampled_from([np.int32, np.int64, np.float32, np.float64]),
)
def test_brighter_pixels_never_have_fewer_photons(adu: list[int], gain: float, threshold: float, dtype: type):
    counts = adu_to_photons(np.sort(np.array(adu).astype(dtype)), gain, 0.0, threshold)
    assert (np.diff(counts.astype(np.int64)) >= 0).all()
    assert (counts[np.sort(adu) < 0] == 0).all()
