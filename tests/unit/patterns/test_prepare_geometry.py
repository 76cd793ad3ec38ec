from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from spi_lightning.errors import SpiError
from spi_lightning.instrument import Geometry
from spi_lightning.patterns import open_run
from spi_lightning.patterns.prepare import prepare
from spi_lightning.patterns.settings import (
    CentreSettings,
    CropSettings,
    PhotonSettings,
    PrepareSettings,
)

from .fake_run import FakeRun, photons


@settings(deadline=None, max_examples=60)
@given(
    centre=st.tuples(st.floats(5, 25), st.floats(5, 18)),
    rows=st.integers(2, 8),
    columns=st.integers(2, 8),
    binning=st.integers(1, 3),
    plane=st.sampled_from(["full", "half"]),
    place=st.tuples(st.integers(0, 23), st.integers(0, 23)),
)
@example(centre=(5.0, 9.0), rows=6, columns=7, binning=3, plane="half", place=(0, 0))
def test_the_brightest_pixel_keeps_its_place_in_q(
    centre: tuple[float, float], rows: int, columns: int, binning: int, plane: str, place: tuple[int, int]
):
    shape = (rows * binning, columns * binning)
    frames = np.zeros((2, 24, 30), np.uint16)
    run = FakeRun(frames, geometry=Geometry(1700.0, 0.13, 75e-6, centre))
    # Pixels of the detector that share a binned pixel with padding are looked at as well.
    result = prepare(run, PrepareSettings(crop=CropSettings(shape, plane, binning, min_good_fraction=0.01)))
    window = result.recipe.window
    rows_there = range(max(window.top, 0), min(window.top + shape[0], 24))
    columns_there = range(max(window.left, 0), min(window.left + shape[1], 30))
    row, column = rows_there[place[0] % len(rows_there)], columns_there[place[1] % len(columns_there)]
    frames[:, row, column] = 200
    y, x = np.unravel_index(result.read([0])[0].argmax(), result.shape)
    assert result.read([1]).sum() == 200
    assert result.shape == (rows, columns)
    new = result.geometry
    assert new.centre is not None
    assert new.pixel_size is not None
    # Metres from the beam, before and after; within half a binned pixel, for that is where in it the light fell.
    for before, after in (((column - centre[0]) * 75e-6, (x - new.centre[0]) * new.pixel_size),
                          ((row - centre[1]) * 75e-6, (y - new.centre[1]) * new.pixel_size)):  # fmt: skip
        assert abs(before - after) <= (binning - 1) / 2 * 75e-6 + 1e-12


@settings(deadline=None, max_examples=40)
@given(binning=st.integers(1, 4), share=st.sampled_from([0.3, 0.5, 1.0]), seed=st.integers(0, 100))
def test_binning_sums_good_pixels_and_never_scales(binning: int, share: float, seed: int):
    mask = np.random.default_rng(seed).random((24, 30)) > 0.05
    frames = photons(seed=seed)
    result = prepare(FakeRun(frames, mask), PrepareSettings(crop=CropSettings(None, "auto", binning, share)))
    rows, columns = 24 // binning, 30 // binning
    good = np.where(mask, frames, 0)[:, : rows * binning, : columns * binning]
    blocks = good.reshape(20, rows, binning, columns, binning).sum(axis=(2, 4))
    np.testing.assert_array_equal(result.read(range(20)), np.where(result.mask, blocks, 0))
    if mask.all() or binning == 1:
        assert result.read(range(20)).sum() == good.sum()
    assert result.geometry.pixel_size == pytest.approx(75e-6 * binning)
    cut = [note for note in result.notes if "cut off" in note]
    assert cut == (
        ["Binning by 4: 0 rows and 2 columns at the far edges fill no bin and are cut off."] if binning == 4 else []
    )


def test_the_paper_s_crop_of_an_upper_panel():
    """A pnCCD's upper panel, the beam just below its last row: 192 x 96 becomes 96 x 192."""
    run = FakeRun(photons(3, (120, 240)), geometry=Geometry(1700.0, 0.13, 75e-6, (119.5, 121.4)))
    result = prepare(run, PrepareSettings(crop=CropSettings((96, 192))))
    assert result.shape == (96, 192)
    assert result.geometry.centre == pytest.approx((95.5, 95.4))
    assert (~result.mask).sum() == 2 * 192  # two rows of padding between the panel and the beam
    assert any("bottom edge" in note for note in result.notes)
    assert any("384 of its 18432 pixels are padding" in note for note in result.notes)
    turned = prepare(run, PrepareSettings(crop=CropSettings((192, 96))))
    assert turned.shape == (96, 192)
    assert (turned.read([1]) == result.read([1])).all()


def test_the_config_wins_over_the_file_and_says_so():
    override = Geometry(distance=0.14, centre=(12.0, 11.0), polarisation="vertical")
    result = prepare(FakeRun(photons()), PrepareSettings(), override)
    assert result.geometry == Geometry(1700.0, 0.14, 75e-6, (12.0, 11.0), "vertical")
    assert "The config's distance 0.14 is used; the file says 0.13." in result.notes
    assert "The config's centre (12.0, 11.0) is used; the file says (14.5, 11.5)." in result.notes
    silent = prepare(FakeRun(photons(), geometry=Geometry()), PrepareSettings(), override)
    assert silent.notes == ["a note of the run"]
    vertical = FakeRun(photons(), geometry=Geometry(polarisation="vertical"))
    told = prepare(vertical, PrepareSettings(), Geometry(polarisation="horizontal"))
    assert told.notes[1:] == ["The config's polarisation horizontal is used; the file says vertical."]


def test_a_centre_that_is_needed_and_not_known():
    run = FakeRun(photons(), geometry=Geometry())
    assert prepare(run).geometry.centre is None
    with pytest.raises(SpiError, match=r"\[8, 8\] needs the beam's centre.*instrument.centre.*centre.mode=find"):
        prepare(run, PrepareSettings(crop=CropSettings((8, 8))))
    with pytest.raises(SpiError, match=r"centre.mode is 'given'.*instrument.centre"):
        prepare(FakeRun(photons()), PrepareSettings(centre=CentreSettings("given")))
    with pytest.raises(SpiError, match="no place on a detector"):
        prepare(run, PrepareSettings(), Geometry(centre=(np.nan, 3.0)))


def test_the_centre_is_found_and_compared_with_what_was_said():
    y, x = np.mgrid[:64, :70]
    s = np.hypot(x - 33.7, y - 30.2) * 0.45 + 1e-9
    intensity = (3 * (np.sin(s) - s * np.cos(s)) / s**3) ** 2 * 300
    frames = np.random.default_rng(0).poisson(intensity, (40, 64, 70)).astype(np.uint16)
    run = FakeRun(frames, geometry=Geometry(centre=(35.0, 30.0)))
    result = prepare(run, PrepareSettings(centre=CentreSettings("find"), crop=CropSettings((32, 32), binning=2)))
    assert result.found["centre_x"] == pytest.approx(33.7, abs=0.2)
    assert result.found["centre_y"] == pytest.approx(30.2, abs=0.2)
    assert any("from (35.00, 30.00), which file or config say" in note for note in result.notes)
    assert result.geometry.centre == pytest.approx(((33.7 - 18 - 0.5) / 2, (30.2 - 15 - 0.5) / 2), abs=0.15)
    with pytest.raises(SpiError, match=r"run7:0.*No beam centre"):
        prepare(FakeRun(np.zeros_like(frames)), PrepareSettings(centre=CentreSettings("find")))


def test_nothing_left_after_binning():
    mask = np.indices((24, 30)).sum(axis=0) % 2 == 0  # a chequerboard
    with pytest.raises(SpiError, match=r"crop.binning=2.*min_good_fraction"):
        prepare(FakeRun(photons(), mask), PrepareSettings(crop=CropSettings(binning=2)))
    kept = prepare(FakeRun(photons(), mask), PrepareSettings(crop=CropSettings(binning=2, min_good_fraction=0.5)))
    assert kept.mask.all()


def test_the_real_labelled_patterns(shared_data: Path):
    run = open_run(shared_data / "pr772_amo86615_20_labelled.cxi")
    result = prepare(run, PrepareSettings(centre=CentreSettings("find"), crop=CropSettings((96, 48), "half")))
    assert result.shape == (96, 48)
    assert result.dtype == np.uint16
    assert result.labels is not None
    assert result.labels.sum() == 8
    x, y = result.geometry.centre
    assert abs(x) <= 0.5
    assert abs(y - 47.5) <= 0.5
    assert result.mask.mean() > 0.95
    # Friedel's law: half of the photons lie in the half plane.
    share = (
        result.read(range(20)).sum() / prepare(run, PrepareSettings(crop=CropSettings((96, 96)))).read(range(20)).sum()
    )
    assert share == pytest.approx(0.5, abs=0.05)


def test_the_real_raw_frames(shared_data: Path):
    run = open_run(shared_data / "pr772_amo86615_10_adu.cxi")
    with pytest.raises(SpiError, match=r"pr772_amo86615_10_adu:0.*photons.mode=histogram"):
        prepare(run)
    chosen = PrepareSettings(
        photons=PhotonSettings("histogram"), centre=CentreSettings("find"), crop=CropSettings((256, 256), binning=2)
    )
    result = prepare(run, chosen)
    print(result.found)
    assert result.found["gain"] == pytest.approx(7.8, rel=0.03)
    assert result.found["non_finite_pixels"] == 1
    assert result.shape == (128, 128)
    assert result.geometry.pixel_size == pytest.approx(0.6e-3)
    assert result.geometry.centre == pytest.approx((63.5, 63.5), abs=0.5)
    # All ADU together are all photons together: rounding loses 1 % to charge shared between pixels, and adds none.
    whole = prepare(run, PrepareSettings(photons=PhotonSettings("histogram")))
    adu = run.read(range(10))[:, whole.mask] - whole.found["offset"]
    np.testing.assert_allclose(whole.read(range(10)).sum(axis=(1, 2)), adu.sum(axis=1) / whole.found["gain"], rtol=0.02)
