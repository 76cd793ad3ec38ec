from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as stn

from spi_lightning.errors import SpiError
from spi_lightning.patterns.background import find_level, subtract_level


def test_the_level_under_occasional_hits_is_found():
    rng = np.random.default_rng(0)
    background = np.zeros((20, 30))
    background[:10] = rng.uniform(1, 40, (10, 30))
    frames = rng.poisson(background, (500, 20, 30))
    hits = rng.random(500) < 0.25
    frames[hits] += rng.poisson(rng.exponential(20, (20, 30)), (int(hits.sum()), 20, 30))
    level = find_level([frames[:123].astype(np.uint16), frames[123:].astype(np.uint16)])
    assert level.shape == (20, 30)
    assert level.dtype == np.uint16
    error = (level[:10] - background[:10]) / np.sqrt(background[:10])
    assert abs(error.mean()) < 0.15  # the mean of the hits is 20 photons higher: it would be off by 2 and more
    assert np.abs(error).max() < 1.5
    assert (level[10:] == 0).all()


def test_a_hundred_frames_are_enough_where_the_peak_is_wide():
    rng = np.random.default_rng(2)
    background = rng.uniform(5, 40, (30, 40))  # the most frequent of 100 counts alone is several photons off
    frames = rng.poisson(background, (100, 30, 40))
    frames[::5] += rng.poisson(rng.exponential(20, (30, 40)), (20, 30, 40))
    level = find_level([frames.astype(np.uint16)], maximum=80)
    assert (level + 0.5 - background).std() < 1.0


def test_a_constant_level_is_found_exactly_and_order_does_not_matter():
    frames = np.full((12, 3, 4), 5, np.uint8)
    frames[3], frames[7] = 200, 0
    assert (find_level([frames]) == 5).all()
    np.testing.assert_array_equal(find_level([frames[::-1]]), find_level(iter(frames[:, None])))


def test_signal_alone_is_no_background():
    rng = np.random.default_rng(1)
    brightness = rng.exponential(1, (400, 1, 1))  # hits vary in fluence, so no level is shown by most frames
    frames = rng.poisson(rng.exponential(15, (20, 20)) * brightness).astype(np.uint16)
    assert find_level([frames]).sum() < 0.01 * frames.mean(axis=0).sum()


def test_levels_above_the_maximum_are_left():
    assert (find_level([np.full((20, 2, 2), 60, np.uint16)], maximum=50) == 0).all()
    assert (find_level([np.full((20, 2, 2), 60, np.uint16)], maximum=80) == 60).all()


def test_few_frames_are_refused():
    with pytest.raises(SpiError, match=r"9 frames are too few.*background.mode=none"):
        find_level([np.ones((9, 2, 2), np.uint8)])
    with pytest.raises(SpiError, match="0 frames"):
        find_level([])


@given(
    stn.arrays(st.sampled_from([np.uint8, np.uint16, np.uint32]), (3, 4, 5)),
    stn.arrays(np.uint16, (4, 5), elements=st.integers(0, 50)),
)
def test_subtraction_stops_at_zero_and_keeps_the_dtype(counts: np.ndarray, level: np.ndarray):
    before = counts.copy()
    result = subtract_level(counts, level)
    np.testing.assert_array_equal(result, np.maximum(counts.astype(np.int64) - level, 0))
    np.testing.assert_array_equal(counts, before)
    assert result.dtype == counts.dtype
