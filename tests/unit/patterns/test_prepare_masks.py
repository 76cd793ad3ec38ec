from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from spi_lightning.errors import SpiError
from spi_lightning.patterns import open_run
from spi_lightning.patterns.masks import read_mask
from spi_lightning.patterns.prepare import prepare
from spi_lightning.patterns.settings import PrepareSettings

SHAPE = (4, 6)
GOOD = np.random.default_rng(0).random(SHAPE) > 0.3


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ((~GOOD).astype(np.uint8), "auto"),
        ((~GOOD).astype(float), "auto"),
        (np.where(GOOD, 0x1000, 0x80).astype(np.uint16), "auto"),
        (np.where(GOOD, 0x1000, 0x1001).astype(np.int32), "cxi"),
        (GOOD.astype(np.int64), "good"),
        (GOOD, "good"),
        (~GOOD, "bad"),
        ((~GOOD)[None].astype(np.uint8), "auto"),
    ],
)
def test_every_format_and_reading(tmp_path: Path, values: np.ndarray, kind: str):
    np.save(tmp_path / "m.npy", values)
    with h5py.File(tmp_path / "m.cxi", "w") as file:
        file["entry_1/image_1/mask"] = values
    sources = [f"{tmp_path}/m.npy", f"{tmp_path}/m.cxi:/entry_1/image_1/mask", f"{tmp_path}/m.cxi:entry_1/image_1/mask"]
    if values.ndim == 2:
        np.savetxt(tmp_path / "blank.txt", values, fmt="%d", header="a mask")
        np.savetxt(tmp_path / "comma.txt", values, fmt="%d", delimiter=",")
        if values.dtype.kind != "b":
            sources += [f"{tmp_path}/blank.txt", f"{tmp_path}/comma.txt"]
    for source in sources:
        good = read_mask(source, SHAPE, kind)
        assert good.dtype == bool
        np.testing.assert_array_equal(good, GOOD)


def test_true_and_false_need_to_be_explained(tmp_path: Path):
    np.save(tmp_path / "m.npy", GOOD)
    with pytest.raises(SpiError, match=r"m.npy.*mask_kind=good or data.prepare.mask_kind=bad"):
        read_mask(f"{tmp_path}/m.npy", SHAPE)


def test_arrays_that_are_no_masks(tmp_path: Path):
    path = tmp_path / "m.npy"
    for values, expected in (
        (np.zeros((5, 6)), r"shape \(5, 6\).*\(4, 6\)"),
        (np.zeros((2, 4, 6)), r"shape \(2, 4, 6\)"),
        (np.full(SHAPE, np.nan), "NaN"),
        (np.full(SHAPE, 0.5), "no flags"),
        (np.full(SHAPE, "a"), "<U1"),
        (np.full(SHAPE, 1j), "complex"),
        (np.ones(SHAPE, int), "no good pixel.*mask_kind=good"),
    ):
        np.save(path, values)
        with pytest.raises(SpiError, match=f"m.npy.*{expected}"):
            read_mask(str(path), SHAPE)


def test_a_zip_that_is_called_npy(tmp_path: Path):
    with open(tmp_path / "m.npy", "wb") as file:
        np.savez(file, mask=np.zeros(SHAPE))
    with pytest.raises(SpiError, match=r"m.npy cannot be read as an array"):
        read_mask(f"{tmp_path}/m.npy", SHAPE)


def test_the_user_s_bits_hold_for_mask_files_too(tmp_path: Path):
    np.save(tmp_path / "m.npy", np.where(GOOD, 0x1, 0x1000))
    np.testing.assert_array_equal(read_mask(f"{tmp_path}/m.npy", SHAPE), ~GOOD)
    np.testing.assert_array_equal(read_mask(f"{tmp_path}/m.npy", SHAPE, "cxi", 0x1000), GOOD)
    np.testing.assert_array_equal(read_mask(f"{tmp_path}/m.npy", SHAPE, "good", 0x1000), np.ones(SHAPE, bool))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["data"] = np.ones((3, *SHAPE), np.uint8)
    run = open_run(tmp_path / "a.h5", mask_bits=0x1000)
    np.testing.assert_array_equal(prepare(run, PrepareSettings(mask_file=f"{tmp_path}/m.npy")).mask, GOOD)


def test_a_mask_of_good_pixels_in_the_file_itself_can_be_used_as_the_error_says(tmp_path: Path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["data"], file["mask"] = np.ones((3, *SHAPE), np.uint8), np.ones(SHAPE, np.uint8)
    with pytest.raises(SpiError, match=r"data.mask_bits=0 data.prepare.mask_file=.*a.h5:/MASK .*mask_kind=good"):
        open_run(path)
    run = open_run(path, mask_bits=0)
    assert prepare(run, PrepareSettings(mask_file=f"{path}:/mask", mask_kind="good")).mask.all()


def test_pickled_arrays_are_not_opened(tmp_path: Path):
    path = tmp_path / "m.npy"
    np.save(path, np.full(SHAPE, None), allow_pickle=True)
    with pytest.raises(SpiError, match=r"m.npy cannot be read"):
        read_mask(str(path), SHAPE)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("m.txt", b"", "empty"),
        ("m.txt", b"# only words\n", "as a mask"),
        ("m.txt", b"0 1\n0\n", "as a mask"),
        ("m.txt", b"0 a\n", "as a mask"),
        ("m.txt", b"\xff\xfe\x00", "as a mask"),
        ("m.npy", b"\x93NUMPY", "as an array"),
        ("m.npy", b"not an array", "as an array"),
    ],
)
def test_files_that_are_no_masks(tmp_path: Path, name: str, content: bytes, expected: str):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SpiError, match=f"(?s){name}.*{expected}"):
        read_mask(str(tmp_path / name), SHAPE)


def test_datasets_must_be_named_and_there(tmp_path: Path):
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        file["a/mask"] = np.zeros(SHAPE)
    with pytest.raises(SpiError, match=r"(?s)mask_file=.*m.h5:/DATASET.*/a/mask"):
        read_mask(str(path), SHAPE)
    with pytest.raises(SpiError, match=r"(?s)no dataset '/b'.*/a/mask"):
        read_mask(f"{path}:/b", SHAPE)
    with pytest.raises(SpiError, match="no dataset '/a'"):
        read_mask(f"{path}:/a", SHAPE)
    with pytest.raises(SpiError, match="does not exist"):
        read_mask(f"{tmp_path}/other.h5:/mask", SHAPE)
