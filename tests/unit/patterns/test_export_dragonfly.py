from __future__ import annotations

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from spi_lightning.errors import SpiError
from spi_lightning.instrument import Instrument
from spi_lightning.patterns import open_run
from spi_lightning.patterns.export_dragonfly import write_detector, write_emc, write_photons_h5
from spi_lightning.patterns.handles import close_files

from . import foreign

INSTRUMENT = Instrument((8, 10), 1600.0, 0.6, 3e-4, (4.25, 3.5))  # detd = 2000 pixels
GOOD = foreign.half_mask() == 0


def in_blocks(frames, size=4):
    return (frames[i : i + size] for i in range(0, len(frames), size))


def test_emc_is_what_the_format_says(tmp_path):
    frames = foreign.photons(6)
    write_emc(tmp_path / "ours.emc", in_blocks(frames), 6, 80)
    foreign.emc(tmp_path / "theirs.emc", frames)
    assert (tmp_path / "ours.emc").read_bytes() == (tmp_path / "theirs.emc").read_bytes()
    assert len(list(tmp_path.iterdir())) == 2


def test_photon_lists_are_what_the_format_says(tmp_path):
    frames = foreign.photons(6)
    write_photons_h5(tmp_path / "ours.h5", in_blocks(frames), 6, 80)
    foreign.dragonfly_photons(tmp_path / "theirs.h5", frames)
    with h5py.File(tmp_path / "ours.h5") as ours, h5py.File(tmp_path / "theirs.h5") as theirs:
        assert set(ours) == set(theirs)
        assert ours["num_pix"].dtype == np.int32
        assert ours["num_pix"][()].tolist() == [80]
        for name in ("place_ones", "place_multi", "count_multi"):
            assert h5py.check_vlen_dtype(ours[name].dtype) == np.int32
            for mine, other in zip(ours[name], theirs[name], strict=True):
                np.testing.assert_array_equal(mine, other)


@settings(max_examples=25, deadline=None)
@given(
    frames=hnp.arrays(
        st.sampled_from([np.uint8, np.uint16, np.int64, np.float32]),
        st.tuples(st.integers(1, 6), st.just(3), st.just(4)),
        elements=st.integers(0, 3) | st.integers(0, 255),
    )
)
def test_photons_survive(tmp_path_factory, frames):
    folder = tmp_path_factory.mktemp("any")
    write_emc(folder / "a.emc", in_blocks(frames, 2), len(frames), 12)
    write_photons_h5(folder / "b.h5", in_blocks(frames.reshape(len(frames), 12), 5), len(frames), 12)
    instrument = Instrument((3, 4), 1600.0, 0.6, 3e-4, (1.5, -7.25))
    write_detector(folder / "det.h5", instrument, np.ones((3, 4), bool))
    for path in (folder / "a.emc", folder / "b.h5"):
        run = open_run(path, detector=folder / "det.h5")
        np.testing.assert_array_equal(run.read(range(len(frames))), frames)
        assert run.geometry.centre == pytest.approx((1.5, -7.25), abs=1e-6)
    close_files()


@pytest.mark.parametrize("polarisation", ["horizontal", "vertical", "none"])
def test_detector_follows_the_formulae(tmp_path, polarisation):
    instrument = Instrument((8, 10), 1600.0, 0.6, 3e-4, (4.25, 3.5), polarisation)
    write_detector(tmp_path / "det.h5", instrument, GOOD)
    qx, qy, qz, corr = foreign.detector_table((8, 10), (4.25, 3.5), 2000.0, 2000.0, slow_x=False)
    fac2 = (2000.0**2 / (qz + 2000)) ** 2
    sin2 = {"horizontal": qx**2, "vertical": qy**2, "none": (qx**2 + qy**2) / 2}[polarisation] / 2000**2
    with h5py.File(tmp_path / "det.h5") as file:
        for name, expected in {"qx": qx, "qy": qy, "qz": qz}.items():
            assert file[name].dtype == np.float64
            np.testing.assert_allclose(file[name], expected, atol=1e-10)
        np.testing.assert_allclose(file["corr"], 2000.0 / fac2**1.5 * (1 - sin2), rtol=1e-12)
        if polarisation == "horizontal":
            np.testing.assert_allclose(file["corr"], corr, rtol=1e-12)
        np.testing.assert_allclose(
            np.sqrt(file["qx"][()] ** 2 + file["qy"][()] ** 2 + (file["qz"][()] + 2000) ** 2), 2000
        )
        assert file["mask"].dtype == np.uint8
        assert file["mask"][()].reshape(8, 10)[:, 0].tolist() == [2, 2, 0, 0, 0, 0, 0, 0]
        assert (file["detd"][()], file["ewald_rad"][()]) == (pytest.approx(2000), pytest.approx(2000))


def test_detector_is_read_back(tmp_path):
    frames = foreign.photons(2)
    write_emc(tmp_path / "a.emc", [frames], 2, 80)
    write_detector(tmp_path / "det.h5", INSTRUMENT, GOOD)
    run = open_run(tmp_path / "a.emc", detector=tmp_path / "det.h5")
    np.testing.assert_array_equal(run.mask, GOOD)
    assert run.geometry.centre == pytest.approx((4.25, 3.5))
    assert any("2000 pixels" in note for note in run.notes)


@pytest.mark.parametrize("write", [write_emc, write_photons_h5])
@pytest.mark.parametrize("value", [0.5, -1.0, np.nan, np.inf, 3e9])
def test_what_is_no_photon_count_is_refused(tmp_path, write, value):
    frames = np.ones((5, 8, 10))
    frames[4, 1, 1] = value
    with pytest.raises(SpiError, match=rf"frame 4 has {str(value)[:3]}.*data\.prepare\.photons\.mode"):
        write(tmp_path / "a.out", in_blocks(frames), 5, 80)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("write", [write_emc, write_photons_h5])
def test_what_was_announced_must_come(tmp_path, write):
    frames = foreign.photons(6)
    for n_frames, num_pix in ((5, 80), (7, 80), (6, 81)):
        with pytest.raises(ValueError, match=str(num_pix if num_pix != 80 else n_frames)):
            write(tmp_path / "a.out", in_blocks(frames), n_frames, num_pix)
    with pytest.raises(SpiError, match="does not exist"):
        write(tmp_path / "nothing" / "a.out", in_blocks(frames), 6, 80)
    assert list(tmp_path.iterdir()) == []


def test_detector_arguments(tmp_path):
    with pytest.raises(ValueError, match="bool"):
        write_detector(tmp_path / "det.h5", INSTRUMENT, foreign.half_mask())
    with pytest.raises(ValueError, match=r"\(10, 8\)"):
        write_detector(tmp_path / "det.h5", INSTRUMENT, GOOD.T)
    assert list(tmp_path.iterdir()) == []
