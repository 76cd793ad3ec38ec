from __future__ import annotations

import numpy as np
import pytest

from spi_lightning.errors import SpiError
from spi_lightning.patterns import good_pixels, open_run

from . import foreign


@pytest.mark.parametrize(
    ("values", "expected", "note"),
    [
        ({"energy": 1600 * foreign.EV}, 1600, ""),
        ({"energy": 1600.0}, 1600, "read as eV"),
        ({"energy": 8.0}, None, "no X-ray photon"),
        ({"energy": 0.0}, None, "taken as unknown"),
        ({"energy": np.nan}, None, "taken as unknown"),
        ({"energy": 1e-3}, None, "no X-ray photon"),
        ({"energy": np.array([0.99, 1.0, 1.01]) * 1600 * foreign.EV}, 1600, ""),  # shots differ a little
        ({"energy": np.array([1.0, 2.0]) * 1600 * foreign.EV}, None, "varies"),
    ],
)
def test_photon_energy_of_files(tmp_path, values, expected, note):
    path = foreign.add_instrument(foreign.paper_cxi(tmp_path / "a.cxi", {1: foreign.photons()}), **values)
    run = open_run(path)
    assert run.geometry.photon_energy == (None if expected is None else pytest.approx(expected))
    assert any(note in n for n in run.notes)
    assert len([n for n in run.notes if "energy" in n]) == (1 if note else 0)


@pytest.mark.parametrize(
    ("values", "name", "note"),
    [
        ({"distance": 581.0}, "distance", "cannot be a distance in m"),
        ({"distance": -0.5}, "distance", "cannot be a distance in m"),
        ({"distance": np.array([0.5, 0.6])}, "distance", "varies"),
        ({"pixel": (75.0, 75.0)}, "pixel_size", "cannot be a pixel size in m"),
        ({"pixel": (0.0, np.nan)}, "pixel_size", "taken as unknown"),
    ],
)
def test_lengths_that_cannot_be_metres_are_unknown(tmp_path, values, name, note):
    path = foreign.add_instrument(foreign.paper_cxi(tmp_path / "a.cxi", {1: foreign.photons()}), **values)
    run = open_run(path)
    assert getattr(run.geometry, name) is None
    assert any(note in n and "'entry_1/instrument_1/detector_1" in n for n in run.notes)


def test_oblong_pixels_are_refused(tmp_path):
    path = foreign.paper_cxi(tmp_path / "a.cxi", {1: foreign.photons()})
    with pytest.raises(SpiError, match="Square pixels"):
        open_run(foreign.add_instrument(path, pixel=(3e-4, 2e-4)))


@pytest.mark.parametrize(
    ("centre", "expected"),
    [
        ((0.0, 0.0, 0.0), None),
        ((np.nan, 3.0, 0.0), None),
        ((4.0, 3.0), (4.0, 3.0)),
        (np.tile([4.0, 3.0, 0.0], (6, 1)), (4.0, 3.0)),
        ([[4.0, 3.0, 0.0], [5.2, 3.0, 0.0]], None),
        (np.zeros(7), None),
    ],
)
def test_centres_of_files(tmp_path, centre, expected):
    run = open_run(foreign.paper_cxi(tmp_path / "a.cxi", {1: foreign.photons()}, centre=centre))
    assert run.geometry.centre == expected
    assert any("image_center" in note for note in run.notes) == (expected is None)


def test_mask_bits():
    flags = np.array([0, 0x1, 0x2, 0x4, 0x8, 0x10, 0x20, 0x80, 0x200, 0x400, 0x1000, 0x1001])
    good = [True] + [False] * 5 + [True] + [False] * 3 + [True, False]
    for dtype in (np.uint16, np.uint32, np.int64, np.float32):
        assert good_pixels(flags.astype(dtype)).tolist() == good
    assert good_pixels(flags, 0x1000).tolist() == [True] * 10 + [False] * 2
    assert good_pixels(np.array([-1], np.int8)).tolist() == [False]
    assert good_pixels(np.array([True, False])).tolist() == [False, True]
    with pytest.raises(SpiError, match=r"such as 0.5"):
        good_pixels(np.array([0, 0.5]))
    with pytest.raises(SpiError, match="cannot be read"):
        good_pixels(np.array([b"a"]))


def test_flags_that_are_no_fault_are_pointed_out(tmp_path):
    mask = foreign.half_mask()
    mask[5, 5] = 0x20
    path = foreign.paper_cxi(tmp_path / "a.cxi", {1: foreign.photons()}, mask=mask)
    run = open_run(path)
    assert run.mask[5, 5]
    assert any("1 pixels carry only flags" in note for note in run.notes)
    assert not open_run(path, mask_bits=0x21).mask[5, 5]
    with pytest.raises(SpiError, match="mask_bits"):
        open_run(path, mask_bits=-1)


@pytest.mark.parametrize(
    ("labels", "expected", "note"),
    [
        (np.array([1, 0, 1, 0, 0, 0], np.uint8), [1, 0, 1, 0, 0, 0], None),
        (np.array([1, np.nan, 1, 0, -1, 0]), [1, -1, 1, 0, -1, 0], None),
        (np.array([1, 0, 1, 0, 0, 0], bool), [1, 0, 1, 0, 0, 0], None),
        (np.arange(6), None, "it holds 2"),
        (np.zeros(5), None, "(5,)"),
    ],
)
def test_labels_beside_the_data(tmp_path, labels, expected, note):
    run = open_run(
        foreign.paper_cxi(tmp_path / "a.cxi", {1: foreign.photons()}, mask=foreign.half_mask(), labels=labels)
    )
    assert (None if run.labels is None else run.labels.tolist()) == expected
    assert [note in n for n in run.notes] == ([] if note is None else [True])
