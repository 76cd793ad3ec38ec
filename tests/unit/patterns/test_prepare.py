from __future__ import annotations

import multiprocessing
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest

from spi_lightning.errors import SpiError
from spi_lightning.instrument import Geometry
from spi_lightning.patterns import frames as frames_module
from spi_lightning.patterns import open_run
from spi_lightning.patterns.prepare import prepare
from spi_lightning.patterns.settings import (
    BackgroundSettings,
    CropSettings,
    LabelSettings,
    PhotonSettings,
    PrepareSettings,
)

from .fake_run import GEOMETRY, FakeRun, photons

# --- counts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int32, np.int64, np.float32, np.float64])
def test_photons_stay_what_they_are_in_every_dtype(dtype: type):
    frames = photons()
    mask = np.random.default_rng(1).random((24, 30)) > 0.2
    run = FakeRun(frames.astype(dtype), mask)
    if np.dtype(dtype).kind != "u":
        run.frames[:, ~mask] = -1  # as some programs mark bad pixels
    if np.dtype(dtype).kind == "f":
        run.frames[3, ~mask] = np.nan
    result = prepare(run)
    assert result.dtype == np.uint8
    assert result.shape == run.shape
    assert len(result) == 20
    np.testing.assert_array_equal(result.mask, mask)
    np.testing.assert_array_equal(result.read(range(20)), np.where(mask, frames, 0))
    assert result.notes == ["a note of the run"]
    assert result.geometry == GEOMETRY
    np.testing.assert_array_equal(result.ids, run.ids)


def test_reading_in_any_order_and_in_blocks(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(frames_module, "BLOCK_BYTES", 3 * 24 * 30 * 2)
    run = FakeRun(photons())
    result = prepare(run, PrepareSettings(crop=CropSettings((10, 12))))
    everything = result.read(np.arange(20))
    np.testing.assert_array_equal(result.read([7, 0, 19, 7]), everything[[7, 0, 19, 7]])
    blocks = list(result.blocks(size=8, start=2, stop=19))
    assert blocks[0][0] == 2
    np.testing.assert_array_equal(np.concatenate([block for _, block in blocks]), everything[2:19])
    assert result.read([]).shape == (0, 10, 12)
    assert run.most_at_once <= 3  # memory stays bounded whatever is asked for


def test_adu_become_photons_with_a_given_or_a_found_gain():
    counts = photons(30, (60, 70), mean=0.4)
    adu = counts * 7.8 + np.random.default_rng(1).normal(2.0, 0.12 * 7.8, counts.shape)
    run = FakeRun(adu.astype(np.float32))
    given = prepare(run, PrepareSettings(photons=PhotonSettings("gain", 7.8, offset=2.0, threshold=0.5)))
    found = prepare(run, PrepareSettings(photons=PhotonSettings("histogram", threshold=0.5)))
    assert found.found["gain"] == pytest.approx(7.8, rel=0.01)
    assert found.found["noise"] == pytest.approx(0.12 * 7.8, rel=0.1)
    for result in (given, found):
        assert (result.read(range(30)) == counts).mean() > 0.999
        assert result.dtype.kind == "u"
    assert given.fingerprint() != found.fingerprint()
    assert any("ADU per photon" in note for note in found.notes)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda f: f.__setitem__((4, 2, 3), -1),
            r"run7.cxi \(/data\), frame 4 \(pattern run7:4\) has -1 in a good pixel.*photons.mode=.*mask_file",
        ),
        (lambda f: f.__setitem__((5, 2, 3), 0.25), r"run7:5\) has a pixel of 0.25.*photons.mode=histogram"),
        (lambda f: f.__setitem__((6, 2, 3), 1e12), r"run7:6\) has a pixel of 1e\+12 photons"),
    ],
)
def test_what_is_no_photon_count_is_refused(change: object, expected: str):
    frames = photons().astype(np.float64)
    change(frames)  # type: ignore[operator]
    with pytest.raises(SpiError, match=expected):
        prepare(FakeRun(frames))
    late = prepare(FakeRun(frames), PrepareSettings(sample_frames=1))  # frame 0 alone is looked at
    late.read([0, 1])
    with pytest.raises(SpiError, match=expected):
        late.read(range(20))


def test_numerical_errors_name_the_patterns():
    with pytest.raises(
        SpiError, match=r"run7.cxi \(/data\), frame 0 \(pattern run7:0\), to .*run7:19\).*photons.gain="
    ):
        prepare(FakeRun(photons().astype(np.float32)), PrepareSettings(photons=PhotonSettings("histogram")))
    with pytest.raises(SpiError, match=r"run7:0.* to .*run7:4.*5 frames are too few"):
        prepare(FakeRun(photons(5)), PrepareSettings(background=BackgroundSettings("level")))


# --- masks -------------------------------------------------------------------------------------------------------


def test_pixels_that_are_not_finite_are_masked_and_broken_frames_do_not_mask_all():
    frames = photons().astype(np.float32)
    frames[3, 5, 6], frames[9, 7, 8], frames[12] = np.nan, np.inf, np.nan
    result = prepare(FakeRun(frames))
    expected = np.ones((24, 30), bool)
    expected[5, 6] = expected[7, 8] = False
    np.testing.assert_array_equal(result.mask, expected)
    assert result.found["non_finite_pixels"] == 2
    assert any("2 pixels that are not finite" in note for note in result.notes)
    assert any("1 frames are mostly not finite, such as run7:12" in note for note in result.notes)
    assert result.read([12]).sum() == 0
    np.testing.assert_array_equal(result.read([3])[0], np.where(expected, np.nan_to_num(frames[3]), 0))


@pytest.mark.parametrize("photons_mode", [PhotonSettings(), PhotonSettings("gain", 1.0)])
def test_what_is_not_finite_and_was_not_looked_at_is_refused(photons_mode: PhotonSettings):
    frames = photons().astype(np.float32)
    frames[3, 5, 6:8] = np.nan
    frames[4] = np.inf
    result = prepare(FakeRun(frames), PrepareSettings(photons=photons_mode, sample_frames=2))
    assert result.mask.all()
    np.testing.assert_array_equal(result.read([0, 2, 19]), frames[[0, 2, 19]])
    with pytest.raises(SpiError, match=r"run7:3\) has 2 good pixels that are not finite \(nan\).*sample_frames=null"):
        result.read([2, 3])
    with pytest.raises(SpiError, match=r"run7:4\) has 720 good pixels that are not finite \(inf\)"):
        list(result.blocks(start=4))
    cropped = prepare(
        FakeRun(frames[:4]), PrepareSettings(photons=photons_mode, crop=CropSettings((8, 8)), sample_frames=1)
    )
    np.testing.assert_array_equal(cropped.read([3])[0], frames[3, 8:16, 11:19])  # they are not in the crop
    everything = prepare(FakeRun(frames), PrepareSettings(photons=photons_mode, sample_frames=None))
    assert not everything.mask[5, 6:8].any()
    np.testing.assert_array_equal(
        everything.read(range(20))[[3, 4, 5]], np.where(everything.mask, frames, 0)[[3, 3, 5]] * [[[1]], [[0]], [[1]]]
    )


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("mode", ["none", "histogram"])
def test_frames_most_of_which_are_not_finite_are_no_patterns(every: int, mode: str):
    frames = photons().astype(np.float32)
    frames[::every] = np.nan
    settings = PrepareSettings(photons=PhotonSettings(mode))
    with pytest.raises(
        SpiError, match=rf"{20 // every} of the 20 frames .* run7.cxi \(/data\), frame 0 .*data.dataset="
    ):
        prepare(FakeRun(frames), settings)


def test_a_broken_frame_is_zero_whatever_the_offset():
    frames = photons().astype(np.float32)
    frames[4, 1:] = np.nan
    result = prepare(FakeRun(frames), PrepareSettings(photons=PhotonSettings("gain", 1.0, offset=-3.0)))
    assert result.mask.all()
    assert result.read([4]).sum() == 0
    assert result.read([5]).sum() == frames[5].sum() + 3 * 720


def test_mask_file_and_file_mask_are_joined(tmp_path: Path):
    given = np.zeros((24, 30), np.uint8)
    given[:5] = 1
    np.save(tmp_path / "m.npy", given)
    own = np.ones((24, 30), bool)
    own[:, 0] = False
    result = prepare(FakeRun(photons(), own), PrepareSettings(mask_file=f"{tmp_path}/m.npy"))
    np.testing.assert_array_equal(result.mask, own & (given == 0))
    assert result.read(range(20))[:, ~result.mask].sum() == 0
    assert any("79.2% of the pixels good" in note for note in result.notes)
    turned = prepare(FakeRun(photons(), own), PrepareSettings(mask_file=f"{tmp_path}/m.npy", mask_kind="good"))
    np.testing.assert_array_equal(turned.mask, own & (given == 1))
    with pytest.raises(SpiError, match="no pixel is good"):
        prepare(FakeRun(photons(), given == 1), PrepareSettings(mask_file=f"{tmp_path}/m.npy"))


# --- the smallest dtype that is safe -----------------------------------------------------------------------------


def test_the_dtype_follows_from_the_largest_count():
    frames = photons()
    frames[0, 2, 2] = 255
    assert prepare(FakeRun(frames)).dtype == np.uint8
    assert prepare(FakeRun(frames), PrepareSettings(crop=CropSettings(binning=2))).dtype == np.uint16
    frames[0, 2, 2] = 256
    assert prepare(FakeRun(frames)).dtype == np.uint16
    frames[0, 2:4, 2:4] = 65535
    binned = prepare(FakeRun(frames), PrepareSettings(crop=CropSettings(binning=2)))
    assert binned.dtype == np.uint32
    assert binned.read([0])[0, 1, 1] == 4 * 65535


def test_frames_that_were_not_looked_at_do_not_overflow():
    frames = photons()
    frames[7, 2, 2] = 60_000
    one = PrepareSettings(sample_frames=1)
    assert prepare(FakeRun(frames.astype(np.uint8)), one).dtype == np.uint8  # cannot hold more than it stores
    headroom = prepare(FakeRun(frames), one)
    assert headroom.dtype == np.uint16
    assert headroom.read([7]).max() == 60_000
    wide = frames.astype(np.int32)
    wide[7, 2, 2] = 70_000
    late = prepare(FakeRun(wide), one)
    with pytest.raises(SpiError, match=r"run7:7\) has 70000 photons.*uint16.*sample_frames=null"):
        late.read([6, 7])
    assert prepare(FakeRun(wide), PrepareSettings(sample_frames=None)).read([7]).max() == 70_000
    wide[0, 2, 2] = 5000  # where bright pixels were seen, brighter ones are made room for
    assert prepare(FakeRun(wide), one).read([7]).max() == 70_000
    bright = photons().astype(np.uint8)
    bright[7] = 200
    binned = prepare(FakeRun(bright), PrepareSettings(sample_frames=1, crop=CropSettings(binning=2)))
    assert (binned.read([7]) == 800).all()


# --- background, labels, provenance ------------------------------------------------------------------------------


def test_background_is_subtracted_before_crop_and_binning():
    frames = photons(200, mean=0.05)
    frames[:, :12] += 4
    result = prepare(
        FakeRun(frames), PrepareSettings(background=BackgroundSettings("level"), crop=CropSettings((16, 20), binning=2))
    )
    assert result.found["background_photons"] == 4 * 12 * 30
    everything = result.read(range(200))
    expected = np.maximum(frames[:, 4:20, 5:25].astype(int) - np.where(np.arange(4, 20) < 12, 4, 0)[:, None], 0)
    np.testing.assert_array_equal(everything, expected.reshape(200, 8, 2, 10, 2).sum(axis=(2, 4)))


def test_labels_come_from_the_run_or_from_a_file(tmp_path: Path):
    run = FakeRun(photons(4))
    assert prepare(run).labels is None
    run.labels = np.array([1, 0, 0, -1], np.int8)
    np.testing.assert_array_equal(prepare(run).labels, run.labels)
    path = tmp_path / "singles.csv"
    path.write_text("id\nrun7:2\n")
    result = prepare(run, PrepareSettings(labels=LabelSettings(str(path))))
    np.testing.assert_array_equal(result.labels, [0, 0, 1, 0])
    assert any("3 of those beside the frames differ" in note for note in result.notes)


def test_the_fingerprint_covers_data_and_preparation():
    run = FakeRun(photons())
    prints = {
        prepare(run).fingerprint(),
        prepare(run, PrepareSettings(crop=CropSettings((10, 10)))).fingerprint(),
        prepare(run, PrepareSettings(crop=CropSettings((10, 10))), Geometry(centre=(11.0, 11.0))).fingerprint(),
        prepare(run, PrepareSettings(crop=CropSettings((10, 10), binning=2))).fingerprint(),
        prepare(FakeRun(photons(), run.frames[0] < 2)).fingerprint(),
        prepare(FakeRun(photons(seed=1))).fingerprint(),
    }
    assert len(prints) == 6
    assert prepare(FakeRun(photons())).fingerprint() == prepare(run).fingerprint()


def _read_in_worker(pickled: bytes) -> tuple[np.ndarray, str]:
    run = pickle.loads(pickled)
    return run.read([2, 0]), run.fingerprint()


def test_workers_read_the_same(tmp_path: Path):
    frames = photons()
    with h5py.File(tmp_path / "run7.cxi", "w") as file:
        file["entry_1/image_1/data"] = frames
        file["entry_1/image_1/mask"] = np.zeros((24, 30), np.uint8)
        file["entry_1/image_1/image_center"] = [14.5, 11.5, 0]
    result = prepare(open_run(tmp_path / "run7.cxi"), PrepareSettings(crop=CropSettings((10, 10))))
    here = result.read([2, 0])
    np.testing.assert_array_equal(here, frames[[2, 0], 7:17, 10:20])
    for method in ("fork", "spawn"):
        with multiprocessing.get_context(method).Pool(1) as pool:
            there, fingerprint = pool.apply(_read_in_worker, (pickle.dumps(result),))
        np.testing.assert_array_equal(there, here)
        assert fingerprint == result.fingerprint()
