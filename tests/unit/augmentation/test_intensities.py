from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats

from spi_lightning.augmentation.covering import covered, hide, moved_mask
from spi_lightning.augmentation.intensities import blurred, gamma_curved, noisy
from spi_lightning.augmentation.resampling import source_lines


def poisson(n: int, shape: tuple[int, int], seed: int = 0) -> torch.Tensor:
    counts = np.random.default_rng(seed).poisson(0.4, (n, 1, *shape))
    return torch.from_numpy((counts.astype(np.float32) - 0.342) / 2.336)


@given(st.floats(0.2, 4.0), st.booleans(), st.integers(0, 99))
@settings(deadline=None, max_examples=40)
def test_gamma_is_a_power_with_mean_and_deviation_restored(exponent: float, inverted: bool, seed: int) -> None:
    patterns = poisson(1, (16, 12), seed)
    values = patterns.double().numpy() * (-1 if inverted else 1)
    curved = ((values - values.min()) / np.ptp(values)) ** exponent
    expected = (curved - curved.mean()) / curved.std() * values.std() + values.mean()
    ours = gamma_curved(patterns, torch.tensor([exponent]), inverted)
    np.testing.assert_allclose(ours.numpy(), -expected if inverted else expected, atol=2e-4)


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("level", [0.0, -0.146, 3e5])
def test_gamma_leaves_an_even_pattern_as_it_is(inverted: bool, level: float) -> None:
    patterns = torch.full((2, 1, 33, 17), level)
    torch.testing.assert_close(gamma_curved(patterns, torch.tensor([0.7, 1.5]), inverted), patterns, rtol=1e-5, atol=0)


def test_noise_has_each_pattern_s_own_deviation() -> None:
    sd = torch.tensor([0.0, 0.02, 1.5])
    patterns = poisson(3, (120, 100))
    noise = (noisy(patterns, sd, torch.Generator().manual_seed(0)) - patterns).flatten(1)
    assert torch.equal(noise[0], torch.zeros(12000))
    torch.testing.assert_close(noise.std(1)[1:], sd[1:], rtol=0.03, atol=0)
    assert stats.kstest(noise[2].numpy(), "norm", (0, 1.5)).pvalue > 0.01
    assert abs(np.corrcoef(noise[1], noise[2])[0, 1]) < 0.04


@given(st.lists(st.floats(0.1, 2.0), min_size=1, max_size=4), st.integers(3, 15), st.integers(3, 15))
@settings(deadline=None, max_examples=40)
def test_blur_is_scipy_s_gaussian_filter(sigmas: list[float], height: int, width: int) -> None:
    patterns = poisson(len(sigmas), (height, width))
    ours = blurred(patterns, torch.tensor(sigmas), 2.0)
    for pattern, result, sigma in zip(patterns, ours, sigmas, strict=True):
        expected = ndimage.gaussian_filter(pattern[0].numpy(), sigma)
        np.testing.assert_allclose(result[0].numpy(), expected, atol=2e-6)


def test_the_mask_moves_with_the_pattern_and_borders_are_bad() -> None:
    mask = torch.ones(6, 5, dtype=torch.bool)
    mask[0, :] = False
    flip, shift = torch.tensor([[False, False], [True, False], [False, True]]), torch.tensor([[0, 0], [0, 0], [2, -1]])
    rows = source_lines(flip[:, 0], shift[:, 0], 6)
    columns = source_lines(flip[:, 1], shift[:, 1], 5)
    masks = moved_mask(mask, rows, columns)[:, 0]
    assert torch.equal(masks[0], mask)
    assert torch.equal(masks[1], mask.flip(0))
    expected = torch.zeros(6, 5, dtype=torch.bool)
    expected[:4, 1:] = True  # the masked row has gone out at the top; two rows and one column have come in
    assert torch.equal(masks[2], expected)


def test_rectangles_cover_what_they_say() -> None:
    rectangles = torch.tensor([[[1, 3, 2, 4], [2, 5, 3, 4]], [[0, 0, 0, 0], [4, 6, 0, 5]]])
    expected = torch.zeros(2, 1, 6, 5, dtype=torch.bool)
    expected[0, 0, 1:3, 2:4] = True
    expected[0, 0, 2:5, 3:4] = True
    expected[1, 0, 4:6] = True
    assert torch.equal(covered(rectangles, (6, 5)), expected)


def test_hidden_pixels_hold_the_value_of_no_photons() -> None:
    patterns, shown = poisson(2, (4, 3)), torch.rand(4, 3) > 0.5
    result = hide(patterns, shown, -0.146)
    assert torch.equal(result[:, :, shown], patterns[:, :, shown])
    assert (result[:, :, ~shown] == torch.tensor(-0.146)).all()
