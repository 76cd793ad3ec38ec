from __future__ import annotations

import h5py
import numpy as np
import pytest

from spi_lightning.errors import SpiError
from spi_lightning.patterns import open_run

from . import foreign


def test_extra_data_assembled(tmp_path):
    frames = foreign.photons(4, dtype=np.float32)
    trains, pulses = np.array([10001, 10001, 10002, 10002]), np.array([0, 8, 0, 8], np.uint64)
    masks = np.zeros(frames.shape, np.uint32)
    masks[1, 0, 0] = 1 << 17  # a calibration flag of one memory cell
    masks[2, 3, 3] = 2
    masks[3] = 0xFFFFFFFF  # a missing frame
    run = open_run(foreign.extra_data_cxi(tmp_path / "a.cxi", frames, trains, pulses, masks))
    np.testing.assert_array_equal(run.read(range(len(frames))), frames)
    assert run.segments[0].dialect == "European XFEL CXI"
    assert run.ids.tolist() == ["10001:0", "10001:8", "10002:0", "10002:8"]
    assert not run.mask[0, 0]
    assert run.mask.sum() in (frames[0].size - 1, frames[0].size - 2)
    assert run.mask[3, 3]  # 0x2 belongs to the frame
    assert any("1 of 4 frames are masked entirely" in note for note in run.notes)
    assert not open_run(tmp_path / "a.cxi", mask_bits=2).mask[3, 3]


def test_extra_data_ids_from_numbers_where_the_text_is_missing(tmp_path):
    frames = foreign.photons(3)
    path = foreign.extra_data_cxi(tmp_path / "a.cxi", frames, np.array([5, 5, 6]), np.array([1, 2, 1]))
    with h5py.File(path, "a") as file:
        del file["entry_1/experiment_identifier"]
        file["entry_1/experiment_identifier"] = np.array([b"\xff:1", b"2", b"3"])
    with pytest.raises(SpiError, match="'/entry_1/experiment_identifier' is not UTF-8"):
        open_run(path)
    with h5py.File(path, "a") as file:
        del file["entry_1/experiment_identifier"]
    assert open_run(path).ids.tolist() == ["5:1", "5:2", "6:1"]
    with h5py.File(path, "a") as file:
        del file["entry_1/trainId"]
        file["entry_1/trainId"] = np.arange(2)
    with pytest.raises(SpiError, match="there are 3 frames"):
        open_run(path)


def test_one_module_is_an_image_and_several_need_a_geometry(tmp_path):
    frames = foreign.photons(3)
    numbers = (np.arange(3), np.arange(3))
    run = open_run(foreign.extra_data_cxi(tmp_path / "one.cxi", frames[:, None], *numbers, masks=frames[:, None] * 0))
    np.testing.assert_array_equal(run.read(range(len(frames))), frames)
    modules = np.repeat(frames[:, None], 16, axis=1)
    with pytest.raises(SpiError, match="extra-geom"):
        open_run(foreign.extra_data_cxi(tmp_path / "many.cxi", modules, *numbers))


def test_virtual_source_that_is_missing_is_not_read_as_zeros(tmp_path):
    path = foreign.extra_data_cxi(tmp_path / "a.cxi", foreign.photons(3), np.arange(3), np.arange(3))
    (tmp_path / "a-source.h5").unlink()
    with pytest.raises(SpiError, match=r"1 of the 1 files .* missing, for instance a-source\.h5"):
        open_run(path)
