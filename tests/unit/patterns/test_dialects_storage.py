from __future__ import annotations

import h5py
import numpy as np
import pytest

from spi_lightning.errors import SpiError
from spi_lightning.patterns import open_run
from spi_lightning.patterns.hdf5 import resolve

from . import foreign


def test_links_out_of_the_folder_are_refused(tmp_path):
    frames = foreign.photons()
    (tmp_path / "data").mkdir()
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["data"] = frames
    with h5py.File(tmp_path / "data" / "inside.h5", "w") as file:
        file["data"] = frames
        file["again"] = h5py.ExternalLink("../secret.h5", "data")
    cases = {"../secret.h5": "data", str(tmp_path / "secret.h5"): "data", "inside.h5": "again"}
    for k, (target, name) in enumerate(cases.items()):
        path = tmp_path / "data" / f"{k}.cxi"
        with h5py.File(path, "w") as file:
            file["entry_1/image_1/data"] = h5py.ExternalLink(target, name)
        with pytest.raises(SpiError, match=r"(?s)out of the file's own folder.*refused"):
            open_run(path)
        with pytest.raises(SpiError, match="refused"):
            open_run(path, dataset="entry_1/image_1/data")


def test_links_inside_of_the_folder_are_followed(tmp_path):
    frames = foreign.photons()
    with h5py.File(tmp_path / "inside.h5", "w") as file:
        file["data"] = frames
    with h5py.File(tmp_path / "a.cxi", "w") as file:
        file["entry_1/image_1/data"] = h5py.ExternalLink("inside.h5", "data")
        file["entry_1/image_1/mask"] = foreign.half_mask()
    run = open_run(tmp_path / "a.cxi")
    np.testing.assert_array_equal(run.read(range(6)), frames)
    assert run.ids[0] == "a:0"
    (tmp_path / "inside.h5").unlink()
    with pytest.raises(SpiError, match=r"inside\.h5 does not exist"):
        open_run(tmp_path / "a.cxi")


def test_raw_storage_out_of_the_folder_is_refused(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "secret").write_bytes(bytes(range(160)))
    with h5py.File(tmp_path / "data" / "a.h5", "w") as file:
        file.create_dataset("data", (2, 8, 10), np.uint8, external=[(str(tmp_path / "secret"), 0, 160)])
    with pytest.raises(SpiError, match=r"secret.*refused"):
        open_run(tmp_path / "data" / "a.h5")


def test_links_of_a_run_file_that_is_itself_a_symbolic_link(tmp_path):
    frames = foreign.photons()
    (tmp_path / "store").mkdir()
    with h5py.File(tmp_path / "store" / "frames.h5", "w") as file:
        file["data"] = frames
    with h5py.File(tmp_path / "store" / "a.cxi", "w") as file:
        file["entry_1/image_1/data"] = h5py.ExternalLink("frames.h5", "data")
    (tmp_path / "a.cxi").symlink_to(tmp_path / "store" / "a.cxi")
    np.testing.assert_array_equal(open_run(tmp_path / "a.cxi").read(range(6)), frames)


def test_links_in_circles(tmp_path):
    with h5py.File(tmp_path / "a.cxi", "w") as file:
        file["entry_1/image_1/data"] = h5py.SoftLink("/entry_1/image_1/other")
        file["entry_1/image_1/other"] = h5py.SoftLink("/entry_1/image_1/data")
        file["entry_1/up"] = file["/"]
    with pytest.raises(SpiError, match="circles"):
        open_run(tmp_path / "a.cxi")
    with h5py.File(tmp_path / "a.cxi") as file:
        assert resolve(file, "entry_1/up/entry_1/up/entry_1").name.endswith("entry_1")
        assert resolve(file, "entry_1/nothing/at/all") is None


def test_missing_filter_is_named(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        # An optional filter that is not installed is skipped when writing, but is asked for when reading.
        creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        creation.set_chunk((1, 8, 10))
        creation.set_filter(32099, h5py.h5z.FLAG_OPTIONAL, (1,))
        h5py.h5d.create(file.id, b"data", h5py.h5t.NATIVE_INT32, h5py.h5s.create_simple((2, 8, 10)), creation)
    with pytest.raises(SpiError, match=r"HDF5 filter 32099 .*not installed.*h5repack"):
        open_run(path)


@pytest.mark.parametrize("chunks", [None, (1, 8, 10), (2, 4, 10)])
def test_frames_that_were_never_written(tmp_path, chunks):
    for filled, name in {0: "none", 2: "some", 6: "all"}.items():
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            data = file.create_dataset("data", (6, 8, 10), "u1", chunks=chunks)
            file["ids"], file["labels"] = [f"a{i}" for i in range(6)], np.arange(6) % 2
            if filled:
                data[:filled] = 1
    with pytest.raises(SpiError, match="only 0% of them were ever written"):
        open_run(tmp_path / "none.h5")
    run = open_run(tmp_path / "some.h5")
    assert len(run) == (2 if chunks else 6)  # contiguous storage is there as a whole
    assert len(run.ids) == len(run.labels) == len(run)
    assert any("6 frames, but the program that wrote it broke off: the 2 that" in n for n in run.notes) == bool(chunks)
    whole = open_run(tmp_path / "all.h5")
    assert len(whole) == 6
    assert not any("written" in note for note in whole.notes)


def test_holes_between_frames(tmp_path):
    for name, rows in {"many": [0, 5], "few": [0, 1, 3, 5]}.items():
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            data = file.create_dataset("data", (6, 8, 10), "u1", chunks=(1, 8, 10))
            for row in rows:
                data[row] = 1
    with pytest.raises(SpiError, match="only 33% of them were ever written"):
        open_run(tmp_path / "many.h5")
    run = open_run(tmp_path / "few.h5")
    assert len(run) == 6
    assert any("33.3% of the frames were never written" in note for note in run.notes)
