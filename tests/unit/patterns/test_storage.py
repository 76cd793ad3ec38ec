"""Values are read only from HDF5, and only where they are."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from spi_lightning.errors import SpiError
from spi_lightning.patterns import open_run
from spi_lightning.patterns.handles import close_files
from spi_lightning.patterns.labels import read_labels
from spi_lightning.patterns.masks import read_mask

from . import foreign

FRAMES = foreign.photons(2, dtype=np.uint8)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file that is not HDF5 and no one's data."""
    path = tmp_path / "secret"
    path.write_bytes(b"secret: " * 512)
    return path


def raw(file: h5py.File, name: str, shape: tuple[int, ...], dtype: object, secret: Path) -> None:
    """A dataset whose values are the bytes of another file."""
    if name in file:
        del file[name]
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    file.create_dataset(name, shape, dtype, external=[(str(secret), 0, size)])


def virtual(file: h5py.File, name: str, shape: tuple[int, ...], dtype: object, source: str, dataset: str) -> None:
    """A dataset that is made of another one."""
    if name in file:
        del file[name]
    layout = h5py.VirtualLayout(shape, dtype)
    layout[...] = h5py.VirtualSource(source, dataset, shape)
    file.create_virtual_dataset(name, layout)


SIDES = [
    ("paper", "entry_1/image_1/data", (2, 8, 10), "u1"),
    ("paper", "entry_1/image_1/ids", (2,), "S64"),
    ("paper", "entry_1/image_1/labels", (2,), "i1"),
    ("paper", "entry_1/image_1/mask", (8, 10), "u1"),
    ("paper", "entry_1/image_1/image_center", (3,), "f4"),
    ("paper", "entry_1/instrument_1/detector_1/distance", (1,), "f4"),
    ("paper", "entry_1/instrument_1/detector_1/x_pixel_size", (1,), "f4"),
    ("paper", "entry_1/instrument_1/source_1/energy", (1,), "f4"),
    ("euxfel", "entry_1/trainId", (2,), "u8"),
    ("euxfel", "entry_1/pulseId", (2,), "u8"),
    ("euxfel", "entry_1/experiment_identifier", (2,), "S16"),
    ("condor", "detector/cx", (2,), "f4"),
    ("condor", "entry_1/data_1/mask", (2, 8, 10), "u2"),
    ("photons", "num_pix", (1,), "i4"),
    ("detector", "qx", (80,), "f8"),
    ("detector", "mask", (80,), "u1"),
    ("detector", "detd", (1,), "f8"),
    ("mask file", "m", (8, 10), "u1"),
    ("label file", "labels", (2,), "i1"),
    ("label file", "ids", (2,), "S64"),
]


@pytest.mark.parametrize("hidden", ["directly", "in the file", "in another file", "behind two"])
@pytest.mark.parametrize(("kind", "name", "shape", "dtype"), SIDES)
def test_no_file_of_this_machine_gets_into_the_data(tmp_path, secret, hidden, kind, name, shape, dtype):
    numbers = np.arange(2)
    photons = foreign.dragonfly_photons(tmp_path / "photons.h5", FRAMES)
    detector = foreign.dragonfly_detector(tmp_path / "det.h5")
    path = {
        "paper": lambda: foreign.add_instrument(foreign.paper_cxi(tmp_path / "a.cxi", {1: FRAMES})),
        "euxfel": lambda: foreign.extra_data_cxi(tmp_path / "a.cxi", FRAMES, numbers, numbers),
        "condor": lambda: foreign.condor_cxi(tmp_path / "a.cxi", FRAMES, FRAMES * 0),
        "photons": lambda: photons,
        "detector": lambda: detector,
        "mask file": lambda: tmp_path / "m.h5",
        "label file": lambda: tmp_path / "l.h5",
    }[kind]()
    with h5py.File(path, "a") as file:
        if name in ("entry_1/trainId", "entry_1/pulseId"):
            del file["entry_1/experiment_identifier"]
        if name == "ids":
            file["labels"] = [0, 1]
        if hidden == "directly":
            raw(file, name, shape, dtype, secret)
        elif hidden == "in the file":
            raw(file, "hidden", shape, dtype, secret)
            virtual(file, name, shape, dtype, ".", "hidden")
        else:
            with h5py.File(tmp_path / "other.h5", "w") as other:
                raw(other, "hidden", shape, dtype, secret)
                virtual(other, "second", shape, dtype, ".", "hidden")
            virtual(file, name, shape, dtype, "other.h5", "hidden" if hidden == "in another file" else "second")
    read = {
        "mask file": lambda: read_mask(f"{path}:m", (8, 10), "good"),
        "label file": lambda: read_labels(path, np.array(["a", "b"])),
        "detector": lambda: open_run(photons, detector=detector),
    }.get(kind, lambda: open_run(path, detector=detector))
    with pytest.raises(SpiError, match=r"raw bytes in another file, .*secret"):
        read()


def test_photon_lists_are_read_from_where_they_are_only(tmp_path):
    photons = foreign.dragonfly_photons(tmp_path / "photons.h5", FRAMES)
    with h5py.File(photons, "a") as file:
        virtual(file, "place_ones", (2,), h5py.vlen_dtype(np.int32), "gone.h5", "place_ones")
    run = open_run(photons, detector=foreign.dragonfly_detector(tmp_path / "det.h5"))
    with pytest.raises(SpiError, match=r"place_ones.*gone\.h5"):
        run.read([0])


def test_names_that_only_hdf5_can_make_out_are_refused(tmp_path, secret):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        raw(file, "hidden0", (1, 8, 10), "u1", secret)
        layout = h5py.VirtualLayout((1, 8, 10), "u1", maxshape=(None, 8, 10))
        layout[: h5py.h5s.UNLIMITED] = h5py.VirtualSource(".", "hidden%b", (1, 8, 10))
        file.create_virtual_dataset("data", layout)
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["data"][()].any()  # what h5py would hand out
    with pytest.raises(SpiError, match=r"pattern for names, '.:hidden%b'"):
        open_run(tmp_path / "a.h5", dataset="data")


def test_sources_may_lie_anywhere(tmp_path):
    for folder in ("run", "store"):
        (tmp_path / folder).mkdir()
    with h5py.File(tmp_path / "store" / "100%.h5", "w") as file:
        file["data"] = FRAMES
    for source in ("../store/100%%.h5", f"{tmp_path}/store/100%%.h5"):
        with h5py.File(tmp_path / "run" / "a.h5", "w") as file:
            virtual(file, "data", FRAMES.shape, "u1", source, "data")
        np.testing.assert_array_equal(open_run(tmp_path / "run" / "a.h5").read([0, 1]), FRAMES)
        close_files()


def test_a_source_whose_file_was_moved_beside_the_virtual_one(tmp_path):
    with h5py.File(tmp_path / "source.h5", "w") as file:
        file["data"] = FRAMES
    with h5py.File(tmp_path / "a.h5", "w") as file:
        virtual(file, "data", FRAMES.shape, "u1", "/gone/source.h5", "data")
    np.testing.assert_array_equal(open_run(tmp_path / "a.h5").read([0, 1]), FRAMES)


def write_source(tmp_path: Path, n: int = 2) -> None:
    with h5py.File(tmp_path / "source.h5", "w") as file:
        file["data"] = FRAMES[:n]
        virtual(file, "nested", (2, 8, 10), "u1", "gone.h5", "data")
        file["circle"] = FRAMES
        virtual(file, "circle", (2, 8, 10), "u1", ".", "circle")


@pytest.mark.parametrize(
    ("source", "dataset", "n", "expected"),
    [
        ("gone.h5", "data", 2, r"1 of the 1 files that hold its values are missing, for instance gone\.h5"),
        ("source.h5", "nothing", 2, r"source\.h5 has no dataset 'nothing'"),
        ("source.h5", "nested", 2, r"source\.h5: dataset '/nested' is virtual.*gone\.h5"),
        ("source.h5", "circle", 2, "circles"),
        ("source.h5", "data", 1, r"does not fit 'data' of .*source\.h5, whose shape is \(1, 8, 10\) now"),
    ],
)
def test_virtual_data_that_are_not_there_are_not_read_as_zeros(tmp_path, source, dataset, n, expected):
    write_source(tmp_path, n)
    with h5py.File(tmp_path / "a.cxi", "w") as file:
        virtual(file, "entry_1/image_1/data", (2, 8, 10), "u1", source, dataset)
    with pytest.raises(SpiError, match=expected):
        open_run(tmp_path / "a.cxi")


@pytest.mark.parametrize(
    ("dtype", "fill", "refused"), [("u1", 0, True), ("i4", -1, True), ("f4", 0, True), ("f4", np.nan, False)]
)
def test_virtual_data_with_holes(tmp_path, dtype, fill, refused):
    write_source(tmp_path)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        layout = h5py.VirtualLayout((5, 8, 10), dtype)
        layout[:2] = layout[3:] = h5py.VirtualSource("source.h5", "data", (2, 8, 10))
        file.create_virtual_dataset("data", layout, fillvalue=fill)
        holes = h5py.VirtualLayout((8, 10), "u4")
        holes[:4] = h5py.VirtualSource("source.h5", "data", (2, 8, 10))[0, :4]
        file.create_virtual_dataset("mask", holes, fillvalue=0xFFFFFFFF)
    if refused:
        with pytest.raises(SpiError, match=rf"only 320 of its 400 values are anywhere.*read as {fill}"):
            open_run(tmp_path / "a.h5", dataset="data")
    else:
        run = open_run(tmp_path / "a.h5", dataset="data", mask_bits=1 << 31)
        assert np.isnan(run.read([2])).all()
        assert run.mask[:4].all()
        assert not run.mask[4:].any()


def test_a_virtual_dataset_without_an_end(tmp_path):
    with h5py.File(tmp_path / "source.h5", "w") as file:
        file.create_dataset("data", data=FRAMES, maxshape=(None, 8, 10))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        layout = h5py.VirtualLayout((1, 8, 10), "u1", maxshape=(None, 8, 10))
        source = h5py.VirtualSource("source.h5", "data", (1, 8, 10), maxshape=(None, 8, 10))
        layout[: h5py.h5s.UNLIMITED] = source[: h5py.h5s.UNLIMITED]
        file.create_virtual_dataset("data", layout)
    np.testing.assert_array_equal(open_run(tmp_path / "a.h5").read([0, 1]), FRAMES)
