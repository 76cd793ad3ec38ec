from __future__ import annotations

import h5py
import numpy as np
import pytest

from spi_lightning.errors import SpiError
from spi_lightning.patterns import open_run

from . import foreign


@pytest.mark.parametrize("slow_x", [False, True])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("sign", [-1, 1])
def test_dragonfly_photons(tmp_path, slow_x, dtype, sign):
    frames = foreign.photons(dtype=np.int32)
    flags = np.zeros((8, 10))
    flags[0, 0], flags[7, 9] = 2, 1
    detector = foreign.dragonfly_detector(tmp_path / "det.h5", mask=flags, slow_x=slow_x, dtype=dtype)
    with h5py.File(detector, "a") as file:
        file["qz"][...] = sign * abs(file["qz"][()])
    for path in (
        foreign.emc(tmp_path / "a.emc", frames),
        foreign.emc(tmp_path / "a.photons", frames),
        foreign.dense_emc(tmp_path / "b.emc", frames, 1),
        foreign.dense_emc(tmp_path / "c.emc", frames, 2),
        foreign.dragonfly_photons(tmp_path / "d.h5", frames),
    ):
        run = open_run(path, detector=detector)
        np.testing.assert_array_equal(run.read(range(6)), frames)
        np.testing.assert_array_equal(run.read([5, 0, 5]), frames[[5, 0, 5]])
        assert run.shape == (8, 10)
        assert run.geometry.centre == pytest.approx((4.25, 3.5), abs=2e-2 if dtype == np.float32 else 1e-6)
        np.testing.assert_array_equal(run.mask, flags < 2)
        assert "stands 2000 pixels" in run.notes[0]
        assert len(run.notes) == 1


def test_dragonfly_text_detector(tmp_path):
    frames = foreign.photons()
    path = foreign.emc(tmp_path / "a.emc", frames)
    run = open_run(path, detector=foreign.dragonfly_detector_text(tmp_path / "det.dat"))
    np.testing.assert_array_equal(run.read(range(6)), frames)
    assert run.geometry.centre == pytest.approx((4.25, 3.5), abs=1e-3)
    assert len(run.notes) == 1
    lines = (tmp_path / "det.dat").read_text().splitlines()
    (tmp_path / "old.dat").write_text("\n".join(["80", *lines[1:]]))
    assert open_run(path, detector=tmp_path / "old.dat").geometry == run.geometry
    (tmp_path / "other.dat").write_text("\n".join(["80 1500.0 650.0", *lines[1:]]))
    assert "detd says 1500 pixels" in open_run(path, detector=tmp_path / "other.dat").notes[1]


def test_dragonfly_detector_is_needed_and_must_fit(tmp_path):
    path = foreign.emc(tmp_path / "a.emc", foreign.photons())
    lists = foreign.dragonfly_photons(tmp_path / "a.h5", foreign.photons())
    for photons in (path, lists):
        with pytest.raises(SpiError, match=r"data.detector=FILE"):
            open_run(photons)
        with pytest.raises(SpiError, match=r"describes 90 pixels.*80"):
            open_run(photons, detector=foreign.dragonfly_detector(tmp_path / "other.h5", shape=(9, 10)))
    with pytest.raises(SpiError, match="does not exist"):
        open_run(path, detector=tmp_path / "nothing.h5")
    with pytest.raises(SpiError, match="not Dragonfly's detector file"):
        open_run(path, detector=lists)
    with pytest.raises(SpiError, match="neither HDF5 nor its text form"):
        open_run(path, detector=path)


def test_dragonfly_detector_must_be_one_rectangle(tmp_path):
    path = foreign.emc(tmp_path / "a.emc", foreign.photons())
    detector = foreign.dragonfly_detector(tmp_path / "det.h5")
    with h5py.File(detector, "a") as file:
        order = np.random.default_rng(0).permutation(80)
        for name in ("qx", "qy", "qz"):
            file[name][...] = file[name][()][order]
    with pytest.raises(SpiError, match="full rectangle"):
        open_run(path, detector=detector)


def test_dragonfly_counts_below_zero(tmp_path):
    path = foreign.emc(tmp_path / "a.emc", foreign.photons(2))
    raw = bytearray(path.read_bytes())
    raw[-4:] = np.array(-3, "<i4").tobytes()
    path.write_bytes(raw)
    run = open_run(path, detector=foreign.dragonfly_detector(tmp_path / "det.h5"))
    run.read([0])
    with pytest.raises(SpiError, match=r"a.emc: frame 1 lists a pixel with -3 photons.*damaged"):
        run.read([1])


def test_dragonfly_photons_off_the_detector(tmp_path):
    path = foreign.emc(tmp_path / "a.emc", foreign.photons(2))
    raw = bytearray(path.read_bytes())
    raw[1024 + 2 * 8 : 1024 + 2 * 8 + 4] = np.array(80, "<i4").tobytes()
    path.write_bytes(raw)
    run = open_run(path, detector=foreign.dragonfly_detector(tmp_path / "det.h5"))
    run.read([1])
    with pytest.raises(SpiError, match=r"frame 0 has photons in pixels .* to 80"):
        run.read([0])
