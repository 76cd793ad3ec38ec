from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from spi_lightning.augmentation.draws import Draws, draw
from spi_lightning.augmentation.resampling import moved, pick, sampling_grid, source_lines
from tests.unit.augmentation.alone import only

ZERO = -0.3


def still(n: int, shape: tuple[int, int], **changes: torch.Tensor) -> Draws:
    """Draws that leave patterns as they are, with some replaced."""
    return dataclasses.replace(draw(only(), n, shape, torch.Generator().manual_seed(0)), **changes)


def through(patterns: torch.Tensor, draws: Draws) -> torch.Tensor:
    height, width = patterns.shape[-2:]
    rows = source_lines(draws.flip[:, 0], draws.shift[:, 0], height)
    columns = source_lines(draws.flip[:, 1], draws.shift[:, 1], width)
    return moved(patterns, draws, rows, columns, ZERO)


@given(st.booleans(), st.integers(-12, 12), st.integers(1, 9))
def test_lines_are_mirrored_first_and_shifted_then(flip: bool, shift: int, length: int) -> None:
    lines = source_lines(torch.tensor([flip]), torch.tensor([shift]), length)[0]
    mirrored = np.arange(length)[::-1] if flip else np.arange(length)
    for place, line in enumerate(lines.tolist()):
        if 0 <= place + shift < length:
            assert line == mirrored[place + shift]
        else:
            assert not 0 <= line < length


@given(st.integers(1, 4), st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**31))
@settings(deadline=None, max_examples=50)
def test_pick_is_indexing(m: int, r: int, c: int, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    images = torch.rand((3, 5, 4), generator=random)
    which = torch.randint(3, (m,), generator=random)
    rows, columns = torch.randint(5, (m, r), generator=random), torch.randint(4, (m, c), generator=random)
    expected = images[which[:, None, None], rows[:, :, None], columns[:, None, :]]
    assert torch.equal(pick(images, which, rows, columns), expected)


@pytest.mark.parametrize("shape", [(8, 8), (9, 9), (9, 6)])
def test_half_a_turn_mirrors_both_axes(shape: tuple[int, int]) -> None:
    patterns = torch.rand((2, 1, *shape))
    turned = through(patterns, still(2, shape, angle=torch.tensor([math.pi, 0.0])))
    torch.testing.assert_close(turned[0], patterns[0].flip(1, 2), atol=1e-4, rtol=0)
    assert torch.equal(turned[1], patterns[1])


@pytest.mark.parametrize("side", [8, 9])
def test_a_quarter_turn_of_a_square(side: int) -> None:
    patterns = torch.rand((1, 1, side, side))
    turned = through(patterns, still(1, (side, side), angle=torch.tensor([math.pi / 2])))
    # Where a pixel is looked up turns the other way round than the picture.
    torch.testing.assert_close(turned, patterns.rot90(1, (2, 3)), atol=1e-4, rtol=0)


@given(st.floats(-3.1, 3.1), st.floats(0.6, 1.6), st.booleans(), st.booleans(), st.integers(-4, 4), st.integers(-4, 4))
@settings(deadline=None, max_examples=40)
def test_one_look_up_equals_scipy_and_then_mirror_and_shift(
    angle: float, scale: float, flip_rows: bool, flip_columns: bool, down: int, across: int
) -> None:
    shape = (20, 14)
    pattern = np.random.default_rng(1).random(shape).astype(np.float32)
    draws = still(
        1,
        shape,
        angle=torch.tensor([angle]),
        scale=torch.tensor([scale]),
        flip=torch.tensor([[flip_rows, flip_columns]]),
        shift=torch.tensor([[down, across]]),
    )
    result = through(torch.from_numpy(pattern)[None, None], draws)[0, 0].numpy()
    middle = (np.array(shape) - 1) / 2
    matrix = scale * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    # grid-constant: interpolates towards the value outside, as grid_sample does.
    expected = ndimage.affine_transform(
        pattern, matrix, middle - matrix @ middle, order=1, mode="grid-constant", cval=ZERO
    )
    expected = expected[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]
    expected = ndimage.shift(expected, (-down, -across), order=0, mode="nearest")
    np.testing.assert_allclose(result, expected, atol=2e-4)


def test_elastic_displacements_are_smoothed_white_noise() -> None:
    """Against scipy's filter of uniform noise, borders included: spread, correlation, independence of the axes."""
    shape, n, sigma, alpha = (40, 28), 1500, 5.0, 40.0
    transforms = only(elastic={"alpha": (alpha, alpha), "sigma": (sigma, sigma)})
    draws = draw(transforms, n, shape, torch.Generator().manual_seed(2))
    rows, columns = (torch.arange(length).expand(n, -1) for length in shape)
    places = torch.arange(n)
    plain = dataclasses.replace(draws, alpha=torch.zeros(n))
    fields = sampling_grid(draws, places, rows, columns) - sampling_grid(plain, places, rows, columns)
    ours = (fields.flip(3) * (torch.tensor(shape) / 2)).permute(0, 3, 1, 2).numpy()  # (x, y) in edges → pixels

    noise = np.random.default_rng(3).uniform(-1, 1, (n, 2, *shape))
    scipys = ndimage.gaussian_filter(noise, sigma, mode="constant", axes=(2, 3)) * alpha
    middle = (slice(None), slice(None), shape[0] // 2, shape[1] // 2)
    assert ours[middle].std() == pytest.approx(alpha / sigma / math.sqrt(12 * math.pi), rel=0.04)
    for place in (middle, (slice(None), slice(None), 0, 0), (slice(None), slice(None), 20, -1)):
        assert ours[place].std() == pytest.approx(scipys[place].std(), rel=0.06)
    for lag, axis in ((4, 2), (8, 2), (4, 3), (8, 3)):
        shifted = np.roll(ours, lag, axis)[middle]
        correlation = np.mean(ours[middle] * shifted) / ours[middle].var()
        assert correlation == pytest.approx(math.exp(-(lag**2) / (4 * sigma**2)), abs=0.06)
    assert abs(np.corrcoef(ours[:, 0, 20, 14], ours[:, 1, 20, 14])[0, 1]) < 0.09


def test_displacements_are_turned_and_scaled_with_the_pattern() -> None:
    """batchgenerators looks a pixel up at scale R (u + d): the displacement is rotated and scaled as well."""
    shape = (24, 24)
    draws = draw(only(elastic={"alpha": (30.0, 30.0), "sigma": (4.0, 4.0)}), 1, shape, torch.Generator().manual_seed(0))
    turned = dataclasses.replace(draws, angle=torch.tensor([math.pi / 2]), scale=torch.tensor([1.3]))
    lines, place = torch.arange(24)[None], torch.tensor([0])
    plain = sampling_grid(draws, place, lines, lines)
    expected = torch.stack([-plain[..., 1], plain[..., 0]], -1) * 1.3  # (x, y) → (-y, x)
    torch.testing.assert_close(sampling_grid(turned, place, lines, lines), expected, atol=1e-5, rtol=0)


def test_outside_is_zero_and_an_even_pattern_stays_even_inside() -> None:
    patterns = torch.full((1, 1, 20, 20), 2.0)
    shrunk = through(patterns, still(1, (20, 20), scale=torch.tensor([2.0])))
    assert torch.equal(shrunk[0, 0, :4], torch.full((4, 20), ZERO))
    torch.testing.assert_close(shrunk[0, 0, 6:14, 6:14], torch.full((8, 8), 2.0))
