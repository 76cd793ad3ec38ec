from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as stn

from spi_lightning.errors import SpiError
from spi_lightning.patterns.crop import (
    Window,
    bin_mask,
    bin_sum,
    choose_window,
    full_window,
    half_window,
    measured_edge,
    moved_centre,
)
from spi_lightning.patterns.settings import CropSettings

PLACES = st.floats(-30, 60)
WINDOWS = st.builds(Window, st.integers(-8, 25), st.integers(-8, 25), st.integers(1, 30), st.integers(1, 30))
GOOD = np.ones((40, 60), bool)


@given(frame=stn.arrays(np.uint16, (17, 23)), first=WINDOWS, second=WINDOWS)
def test_a_crop_of_a_crop_is_a_crop(frame: np.ndarray, first: Window, second: Window):
    both = Window(first.top + second.top, first.left + second.left, second.rows, second.columns)
    twice, once = second.cut(first.cut(frame)), both.cut(frame)
    assert twice.shape == once.shape == (second.rows, second.columns)
    # What the first crop cut away reads as padding afterwards; all else is the same.
    inside = second.cut(first.cut(np.ones_like(frame, dtype=bool)))
    np.testing.assert_array_equal(twice[inside], once[inside])
    assert (twice[~inside] == 0).all()


@given(frame=stn.arrays(np.uint16, (17, 23)), window=WINDOWS)
def test_padding_is_counted_and_every_pixel_lands_where_the_centre_does(frame: np.ndarray, window: Window):
    cut = window.cut(np.ones_like(frame, dtype=bool))
    assert window.outside((17, 23)) == (~cut).sum()
    for row, column in ((0, 0), (5, 7), (16, 22)):
        x, y = moved_centre((column, row), window, 1)
        if 0 <= y < window.rows and 0 <= x < window.columns:
            assert window.cut(frame)[int(y), int(x)] == frame[row, column]


@given(shape=st.tuples(st.integers(1, 50), st.integers(1, 50)), centre=st.tuples(PLACES, PLACES))
def test_the_beam_is_in_the_middle_of_a_full_crop(shape: tuple[int, int], centre: tuple[float, float]):
    x, y = moved_centre(centre, full_window(shape, centre), 1)
    assert abs(x - (shape[1] - 1) / 2) <= 0.5 + 1e-9
    assert abs(y - (shape[0] - 1) / 2) <= 0.5 + 1e-9


@given(shape=st.tuples(st.integers(1, 50), st.integers(1, 50)), centre=st.tuples(PLACES, PLACES))
def test_the_beam_is_on_the_outermost_pixel_of_a_half_crop(shape: tuple[int, int], centre: tuple[float, float]):
    expected = {"left": (0, None), "right": (shape[1] - 1, None), "top": (None, 0), "bottom": (None, shape[0] - 1)}
    for edge, (column, row) in expected.items():
        x, y = moved_centre(centre, half_window(shape, centre, edge), 1)
        assert abs(x - ((shape[1] - 1) / 2 if column is None else column)) <= 0.5 + 1e-9
        assert abs(y - ((shape[0] - 1) / 2 if row is None else row)) <= 0.5 + 1e-9


@given(
    counts=stn.arrays(st.sampled_from([np.uint8, np.uint16, np.uint32]), (2, 13, 18)), factor=st.integers(1, 5)
)  # fmt: skip
def test_binning_keeps_every_photon_of_whole_blocks(counts: np.ndarray, factor: int):
    binned = bin_sum(counts, factor)
    assert binned.shape == (2, 13 // factor, 18 // factor)
    rows, columns = binned.shape[1] * factor, binned.shape[2] * factor
    assert binned.sum(dtype=np.uint64) == counts[:, :rows, :columns].sum(dtype=np.uint64)
    assert binned[1, 0, 1] == counts[1, :factor, factor : 2 * factor].sum(dtype=np.uint64)


@given(mask=stn.arrays(bool, (12, 12)), share=st.floats(0.01, 1))
def test_a_binned_pixel_is_good_where_enough_of_it_is(mask: np.ndarray, share: float):
    blocks = mask.reshape(4, 3, 4, 3).swapaxes(1, 2).reshape(4, 4, 9)
    np.testing.assert_array_equal(bin_mask(mask, 3), blocks.all(axis=-1))
    np.testing.assert_array_equal(bin_mask(mask, 3, share), blocks.mean(axis=-1) >= min(max(share, 1e-3), 1) - 1e-12)
    assert bin_mask(mask, 1, share) is mask


@given(x=PLACES, y=PLACES, window=WINDOWS, factor=st.integers(1, 5))
def test_the_centre_follows_crop_and_binning(x: float, y: float, window: Window, factor: int):
    new_x, new_y = moved_centre((x, y), window, factor)
    # The middle of binned pixel i is at stored column left + factor * i + (factor - 1) / 2.
    assert window.left + factor * new_x + (factor - 1) / 2 == pytest.approx(x, abs=1e-9)
    assert window.top + factor * new_y + (factor - 1) / 2 == pytest.approx(y, abs=1e-9)


@pytest.mark.parametrize(
    ("centre", "edge"),
    [
        ((0.3, 20.0), "left"),
        ((59.0, 20.0), "right"),
        ((30.0, -4.0), "top"),
        ((30.0, 40.5), "bottom"),
        ((30.0, 20.0), None),
        ((12.0, 20.0), None),
    ],
)
def test_the_measured_edge_follows_from_the_centre(centre: tuple[float, float], edge: str | None):
    assert measured_edge(GOOD, centre) == edge


def test_the_measured_edge_follows_from_the_mask():
    for part, edge in ((np.s_[:20], "bottom"), (np.s_[20:], "top"), (np.s_[:, :30], "right"), (np.s_[:, 30:], "left")):
        mask = np.zeros_like(GOOD)
        mask[part] = True
        assert measured_edge(mask, (29.5, 19.5)) == edge
        shape = (30, 15) if edge in ("left", "right") else (15, 30)
        for plane in ("auto", "half"):
            window, notes = choose_window(mask, (29.5, 19.5), CropSettings(shape, plane))
            assert window.cut(mask).mean() > 0.9
            assert edge in notes[0]


@pytest.mark.parametrize("plane", ["auto", "half"])
def test_a_square_half_plane_may_lie_on_any_edge(plane: str):
    for part, edge in ((np.s_[:20], "bottom"), (np.s_[20:], "top"), (np.s_[:, :30], "right"), (np.s_[:, 30:], "left")):
        mask = np.zeros_like(GOOD)
        mask[part] = True
        window, notes = choose_window(mask, (29.5, 19.5), CropSettings((12, 12), plane))
        assert edge in notes[0]
        assert window.cut(mask).mean() > 0.9


def test_a_half_plane_is_cut_out_of_a_full_one_in_a_fixed_way():
    for seed in range(5):
        mask = np.random.default_rng(seed).random(GOOD.shape) > 0.01
        window, notes = choose_window(mask, (30.2, 19.6), CropSettings((20, 10), "half"))
        assert window == Window(10, 30, 20, 10)
        assert notes == ["The crop is a half plane with the beam at the middle of its left edge."]
    full, notes = choose_window(GOOD, (30.2, 19.6), CropSettings((20, 10), "auto"))
    assert full == Window(10, 26, 20, 10)
    assert notes == []


def test_a_half_plane_is_turned_to_the_edge_that_the_beam_is_on():
    turned, notes = choose_window(GOOD, (30.0, 40.5), CropSettings((24, 12), "auto"))
    asked, _ = choose_window(GOOD, (30.0, 40.5), CropSettings((12, 24), "auto"))
    assert turned == asked
    assert "the crop is [12, 24], not [24, 12]" in notes[0]
    assert "bottom edge" in notes[1]
    window, _ = choose_window(GOOD, (30.0, 40.5), CropSettings((24, 12), "full"))
    assert window.outside(GOOD.shape) > 0


@pytest.mark.parametrize("centre", [(6.0, 9.0), (53.0, 9.0), (20.0, 5.0), (30.0, 34.0)])
@pytest.mark.parametrize("shape", [(18, 21), (60, 20), (20, 60)])
def test_a_full_plane_is_not_turned_however_near_the_beam_is_to_an_edge(centre: tuple[float, float], shape):
    window, notes = choose_window(GOOD, centre, CropSettings(shape, "half"))
    assert (window.rows, window.columns) == shape
    assert not any("other way" in note for note in notes)


def test_reaching_out_is_said_and_nothing_left_is_refused():
    _, notes = choose_window(GOOD, (30.0, 2.0), CropSettings((20, 20), "full"))
    assert notes == ["The crop reaches out of the detector: 140 of its 400 pixels are padding, which is masked."]
    with pytest.raises(SpiError, match=r"\[10, 10\].*x=500.0, y=20.0.*40 x 60.*instrument.centre"):
        choose_window(GOOD, (500.0, 20.0), CropSettings((10, 10), "full"))
    with pytest.raises(SpiError, match="no good pixel"):
        choose_window(~GOOD, (30.0, 20.0), CropSettings((10, 10)))
