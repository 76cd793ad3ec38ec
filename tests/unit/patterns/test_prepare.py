from __future__ import annotations

import hashlib
import multiprocessing
import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spi_lightning.errors import SpiError
from spi_lightning.instrument import Geometry
from spi_lightning.patterns import open_run, prepared
from spi_lightning.patterns.prepare import prepare
from spi_lightning.patterns.settings import (
    BackgroundSettings,
    CentreSettings,
    CropSettings,
    LabelSettings,
    PhotonSettings,
    PrepareSettings,
)

GEOMETRY = Geometry(photon_energy=1700.0, distance=0.13, pixel_size=75e-6, centre=(14.5, 11.5))


class FakeRun:
    """Frames in memory behind the interface of a run."""

    def __init__(self, frames: np.ndarray, mask: np.ndarray | None = None, geometry: Geometry = GEOMETRY) -> None:
        self.frames, self.geometry = frames, geometry
        self.shape, self.dtype = frames.shape[1:], frames.dtype
        self.mask = np.ones(self.shape, bool) if mask is None else mask
        self.ids = np.array([f"run7:{i}" for i in range(len(frames))])
        self.labels: np.ndarray | None = None
        self.notes = ["a note of the run"]
        self.most_at_once = 0

    def __len__(self) -> int:
        return len(self.frames)

    def read(self, indices: np.ndarray | Sequence[int]) -> np.ndarray:
        self.most_at_once = max(self.most_at_once, len(indices))
        return self.frames[np.asarray(indices)]

    def blocks(self, size: int = 512, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, np.ndarray]]:
        for first in range(start, len(self) if stop is None else stop, size):
            yield first, self.read(np.arange(first, min(first + size, len(self) if stop is None else stop)))

    def fingerprint(self) -> str:
        return hashlib.sha256(self.frames.tobytes()).hexdigest()


def photons(n: int = 20, shape: tuple[int, int] = (24, 30), mean: float = 0.5, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).poisson(mean, (n, *shape)).astype(np.uint16)


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


def test_bool_frames_are_photons():
    frames = photons() > 0
    result = prepare(FakeRun(frames), PrepareSettings(crop=CropSettings(binning=2)))
    assert result.read([0]).sum() == frames[0].sum()


def test_reading_in_any_order_and_in_blocks(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(prepared, "BLOCK_BYTES", 3 * 24 * 30 * 2)
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
        (lambda f: f.__setitem__((4, 2, 3), -1), r"run7:4 has -1 in a good pixel.*photons.mode=.*mask_file"),
        (lambda f: f.__setitem__((5, 2, 3), 0.25), r"run7:5 has a pixel of 0.25.*photons.mode=histogram"),
        (lambda f: f.__setitem__((6, 2, 3), 1e12), r"run7:6 has a pixel of 1e\+12 photons"),
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
    with pytest.raises(SpiError, match=r"Patterns 'run7:0' to 'run7:19'.*photons.gain="):
        prepare(FakeRun(photons().astype(np.float32)), PrepareSettings(photons=PhotonSettings("histogram")))
    with pytest.raises(SpiError, match=r"'run7:0' to 'run7:4'.*5 frames are too few"):
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


def test_what_turns_up_while_reading_is_zero_and_said():
    frames = photons().astype(np.float32)
    frames[3, 5, 6:8] = np.nan
    result = prepare(FakeRun(frames), PrepareSettings(sample_frames=2))
    assert result.mask.all()
    assert result.notes == ["a note of the run"]
    read = result.read(range(20))
    np.testing.assert_array_equal(read, np.nan_to_num(frames))
    assert result.non_finite == 2
    assert "2 good pixels" in result.notes[-1]
    assert "sample_frames=null" in result.notes[-1]


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


# --- geometry, crop, binning -------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(
    centre=st.tuples(st.floats(5, 25), st.floats(5, 18)),
    rows=st.integers(2, 8),
    columns=st.integers(2, 8),
    binning=st.integers(1, 3),
    plane=st.sampled_from(["full", "half"]),
    data=st.data(),
)
def test_the_brightest_pixel_keeps_its_place_in_q(
    centre: tuple[float, float], rows: int, columns: int, binning: int, plane: str, data: st.DataObject
):
    shape = (rows * binning, columns * binning)
    frames = np.zeros((2, 24, 30), np.uint16)
    run = FakeRun(frames, geometry=Geometry(1700.0, 0.13, 75e-6, centre))
    # Pixels of the detector that share a binned pixel with padding are looked at as well.
    result = prepare(run, PrepareSettings(crop=CropSettings(shape, plane, binning, min_good_fraction=0.01)))
    window = result.recipe.window
    row = data.draw(st.integers(max(window.top, 0), min(window.top + shape[0], 24) - 1))
    column = data.draw(st.integers(max(window.left, 0), min(window.left + shape[1], 30) - 1))
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
    mask = np.random.default_rng(seed).random((24, 30)) > 0.15
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
    """A pnCCD's upper panel, the beam just below its last row: 192 x 96 has to be asked for as 96 x 192."""
    run = FakeRun(photons(3, (120, 240)), geometry=Geometry(1700.0, 0.13, 75e-6, (119.5, 121.4)))
    result = prepare(run, PrepareSettings(crop=CropSettings((96, 192))))
    assert result.shape == (96, 192)
    assert result.geometry.centre == pytest.approx((95.5, 95.4))
    assert (~result.mask).sum() == 2 * 192  # two rows of padding between the panel and the beam
    assert any("bottom edge" in note for note in result.notes)
    assert any("384 of its 18432 pixels are padding" in note for note in result.notes)
    with pytest.raises(SpiError, match=r"crop.shape=\[96,192\]"):
        prepare(run, PrepareSettings(crop=CropSettings((192, 96))))


def test_the_config_wins_over_the_file_and_says_so():
    override = Geometry(distance=0.14, centre=(12.0, 11.0), polarisation="vertical")
    result = prepare(FakeRun(photons()), PrepareSettings(), override)
    assert result.geometry == Geometry(1700.0, 0.14, 75e-6, (12.0, 11.0), "vertical")
    assert "The config's distance 0.14 is used; the file says 0.13." in result.notes
    assert "The config's centre (12.0, 11.0) is used; the file says (14.5, 11.5)." in result.notes
    silent = prepare(FakeRun(photons(), geometry=Geometry()), PrepareSettings(), override)
    assert silent.notes == ["a note of the run"]


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
    with pytest.raises(SpiError, match=r"'run7:0'.*No beam centre"):
        prepare(FakeRun(np.zeros_like(frames)), PrepareSettings(centre=CentreSettings("find")))


def test_nothing_left_after_binning():
    mask = np.indices((24, 30)).sum(axis=0) % 2 == 0  # a chequerboard
    with pytest.raises(SpiError, match=r"crop.binning=2.*min_good_fraction"):
        prepare(FakeRun(photons(), mask), PrepareSettings(crop=CropSettings(binning=2)))
    kept = prepare(FakeRun(photons(), mask), PrepareSettings(crop=CropSettings(binning=2, min_good_fraction=0.5)))
    assert kept.mask.all()


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
    with pytest.raises(SpiError, match=r"run7:7 has 70000 photons.*uint16.*sample_frames=null"):
        late.read([6, 7])
    assert prepare(FakeRun(wide), PrepareSettings(sample_frames=None)).read([7]).max() == 70_000


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
