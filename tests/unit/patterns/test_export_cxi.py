from __future__ import annotations

import re
import subprocess
import sys

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from spi_lightning.errors import SpiError
from spi_lightning.instrument import Geometry
from spi_lightning.patterns import open_run
from spi_lightning.patterns.export_cxi import smallest_unsigned, write_cxi
from spi_lightning.patterns.handles import close_files

from . import foreign

GEOMETRY = Geometry(photon_energy=1600.0, distance=0.5, pixel_size=3e-4, centre=(4.5, 3.25), polarisation="horizontal")


def in_blocks(frames, size=4):
    return (frames[i : i + size] for i in range(0, len(frames), size))


def write(path, frames, **options):
    options = {"shape": frames.shape[1:], "dtype": frames.dtype, **options}
    write_cxi(path, in_blocks(frames), len(frames), **options)
    return path


@pytest.mark.parametrize("compression", ["gzip", "bitshuffle", "none"])
def test_what_is_written_is_read(tmp_path, compression):
    frames = foreign.photons(10)
    mask = foreign.half_mask() == 0
    ids = [f"run{i}:µ:{i * 7}" for i in range(10)]
    labels = np.array([1, 0, -1, 0, 0, 1, 0, 0, 0, 0])
    seen = []
    path = write(
        tmp_path / "a.cxi", frames, mask=mask, geometry=GEOMETRY, ids=ids, labels=labels, compression=compression,
        extra={"truth/size": np.linspace(1, 2, 10), "truth/kind": np.array(["single"] * 9 + ["zwölf"])},
        process={"program": "spi-lightning", "command": "simulate", "version": "0", "date": ""}, progress=seen.append,
    )  # fmt: skip
    run = open_run(path)
    np.testing.assert_array_equal(run.read(range(10)), frames)
    assert run.segments[0].dialect == "CXI images"
    assert run.dtype == frames.dtype
    assert run.ids.tolist() == ids
    np.testing.assert_array_equal(run.labels, labels)
    np.testing.assert_array_equal(run.mask, mask)
    assert run.geometry.photon_energy == pytest.approx(1600.0, rel=1e-12)
    assert run.geometry == Geometry(run.geometry.photon_energy, 0.5, 3e-4, (4.5, 3.25), "horizontal")
    assert run.notes == []
    assert seen == [4, 8, 10]
    with h5py.File(path) as file:
        image = file["entry_1/image_1"]
        assert file["cxi_version"][()] == 160
        assert image["data"].chunks == (1, 8, 10)
        assert image["data"].attrs["axes"] == "experiment_identifier:y:x"
        assert image["image_center"][()].tolist() == [4.5, 3.25, 0.0]
        assert image["process_1/program"].asstr()[()] == "spi-lightning"
        assert file["entry_1/instrument_1/source_1/energy"][()] == pytest.approx(2.5634826e-16)
        assert file["entry_1/data_1/data"] == image["data"]
        assert image["truth/kind"].asstr()[-1] == "zwölf"
        links = []
        image.visititems_links(lambda name, link: links.append(type(link)))
        assert set(links) == {h5py.HardLink}  # spi-processing refuses a group with soft links


@settings(max_examples=30, deadline=None)
@given(
    frames=hnp.arrays(
        st.sampled_from([np.uint8, np.uint16, np.uint32, np.int32, np.float32, np.float64]),
        st.tuples(st.integers(1, 5), st.integers(2, 6), st.integers(2, 6)),
    )
)
def test_any_frames_survive(tmp_path_factory, frames):
    path = tmp_path_factory.mktemp("any") / "a.cxi"
    run = open_run(write(path, frames))
    close_files()
    got = run.read(range(len(frames)))
    assert got.dtype == frames.dtype
    np.testing.assert_array_equal(got, frames)


def test_a_selection_keeps_the_ids_it_came_with(tmp_path):
    frames = foreign.photons(6)
    run = open_run(foreign.paper_cxi(tmp_path / "run7.cxi", {1: frames[:3], 2: frames[3:]}))
    chosen = [4, 1]
    write(tmp_path / "chosen.cxi", run.read(chosen), ids=run.ids[chosen])
    assert open_run(tmp_path / "chosen.cxi").ids.tolist() == ["run7:image_2:1", "run7:image_1:1"]


def test_flags_win_over_the_mask(tmp_path):
    flags = np.zeros((8, 10), np.uint16)
    flags[0, 0], flags[0, 1] = 0x200, 0x1000
    run = open_run(write(tmp_path / "a.cxi", foreign.photons(), mask=foreign.half_mask() == 0, mask_flags=flags))
    assert [tuple(map(int, p)) for p in np.argwhere(~run.mask)] == [(0, 0)]
    with h5py.File(tmp_path / "a.cxi") as file:
        np.testing.assert_array_equal(file["entry_1/image_1/mask"], flags)


def test_what_is_unknown_is_not_written(tmp_path):
    run = open_run(write(tmp_path / "a.cxi", foreign.photons()))
    assert run.geometry == Geometry()
    assert run.labels is None
    assert run.mask.all()


@pytest.mark.parametrize(
    ("maximum", "expected"), [(0, "u1"), (255, "u1"), (256, "u2"), (65535, "u2"), (65536, "u4"), (2**32, "u8")]
)
def test_smallest_unsigned(maximum, expected):
    assert smallest_unsigned(maximum) == np.dtype(expected)


def test_smallest_unsigned_refuses_negatives():
    with pytest.raises(ValueError, match="-1"):
        smallest_unsigned(-1)


@pytest.mark.parametrize("value", [256, -1])
def test_counts_that_do_not_fit_are_refused(tmp_path, value):
    frames = np.zeros((5, 8, 10), np.int32)
    frames[4, 2, 3] = value
    with pytest.raises(SpiError, match=rf"frame 4 has {value} at \(row 2, column 3\), which uint8 cannot hold"):
        write(tmp_path / "a.cxi", frames, dtype=np.uint8)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(SpiError, match=r"0.5"):
        write(tmp_path / "a.cxi", np.full((1, 8, 10), 0.5), dtype=np.uint8)
    write(tmp_path / "a.cxi", np.full((1, 8, 10), 7.0), dtype=np.uint8)


def test_nothing_is_left_behind_and_nothing_is_lost_by_a_failure(tmp_path):
    path = write(tmp_path / "a.cxi", foreign.photons())
    before = path.read_bytes()

    def failing():
        yield foreign.photons(2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_cxi(path, failing(), 4, shape=(8, 10), dtype=np.uint16)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_folder_is_looked_at_first(tmp_path):
    def never():
        raise AssertionError("blocks were asked for")
        yield

    for path, message in {
        tmp_path / "nothing" / "a.cxi": "the folder .*nothing does not exist",
        tmp_path: "it is a folder",
        tmp_path / ("x" * 300): "cannot be written",
    }.items():
        with pytest.raises(SpiError, match=message):
            write_cxi(path, never(), 4, shape=(8, 10), dtype=np.uint16)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ids": ["a"]}, "'ids' has the shape (1,)"),
        ({"labels": np.zeros(7)}, "'labels' has the shape (7,)"),
        ({"labels": np.full(6, 3)}, "Labels must be"),
        ({"mask": np.zeros((8, 10))}, "float64"),
        ({"mask": np.zeros((8, 9), bool)}, "(8, 9)"),
        ({"mask_flags": np.zeros((8, 10), int)}, "int64"),
        ({"extra": {"data": np.zeros(6)}}, "'data' cannot be"),
        ({"extra": {"../x": np.zeros(6)}}, "'../x' cannot be"),
        ({"extra": {"x": np.zeros(5)}}, "(5,)"),
        ({"extra": {"x": np.array([None] * 6)}}, "object"),
        ({"compression": "zip"}, "zip"),
        ({"shape": (10, 8)}, "does not fit"),
    ],
)
def test_arguments_that_contradict_each_other(tmp_path, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        write(tmp_path / "a.cxi", foreign.photons(), **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("write", ["write_cxi(path, [frames], 500, shape=(64, 64), dtype='u2')",
                                   "write_emc(path, [frames], 500, 4096)"])  # fmt: skip
def test_a_full_disk(tmp_path, write):
    program = f"""
import os, resource, signal
from pathlib import Path
import numpy as np
from spi_lightning.errors import SpiError
from spi_lightning.patterns.export_cxi import write_cxi
from spi_lightning.patterns.export_dragonfly import write_emc
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
frames = np.random.default_rng(0).integers(0, 60000, (500, 64, 64)).astype("u2")
path = Path({str(tmp_path / "a.out")!r})
try:
    {write}
except SpiError as error:
    print("told:", error, list(path.parent.iterdir()), flush=True)
os._exit(0)  # HDF5 itself crashes at exit over the file that it could not close
"""
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "a.out could not be written (File too large)" in told.stdout, told.stderr
    assert told.stdout.rstrip().endswith("[]")


@pytest.mark.parametrize("announced", [5, 7])
def test_as_many_frames_as_announced(tmp_path, announced):
    with pytest.raises(ValueError, match=str(announced)):
        write_cxi(tmp_path / "a.cxi", in_blocks(foreign.photons(6)), announced, shape=(8, 10), dtype=np.uint16)
    assert list(tmp_path.iterdir()) == []


# --- the paper's own programs read it, and write their results into it -------------------------------------------


@pytest.fixture
def spheres(tmp_path):
    """40 patterns of spheres of 60 and 90 nm behind 0.5 m, 0.6 mm pixels, 0.775 nm, with a mask."""
    y, x = np.indices((64, 64), dtype=float)
    q = 2 * np.pi / 0.775 * 6e-4 / 0.5 * np.hypot(x - 31.5, y - 30.0)
    frames = []
    rng = np.random.default_rng(0)
    for i in range(40):
        u = np.maximum(q * (30.0 if i % 2 else 45.0), 1e-3)
        pattern = (3 * (np.sin(u) - u * np.cos(u)) / u**3) ** 2
        frames.append(rng.poisson(2e4 * pattern / pattern.mean() / 64))
    mask = np.hypot(x - 31.5, y - 30.0) > 3
    return write(
        tmp_path / "spheres.cxi", np.array(frames).astype(np.uint16), mask=mask,
        geometry=Geometry(1600.0, 0.5, 6e-4, (31.5, 30.0)), ids=[f"r{i % 2}:{i}" for i in range(40)],
        labels=np.arange(40) % 2, process={"program": "test"},
    )  # fmt: skip


def test_spi_processing_reads_filters_and_joins_it(spheres, tmp_path):
    cxidata = pytest.importorskip("spi_processing.cxidata")
    from spi_processing import combine, filtering

    assert cxidata.get_image_groups(str(spheres)) == [1]
    assert {"data", "mask", "image_center", "ids", "labels"} <= set(cxidata.get_names(str(spheres), 1))
    total, selected = filtering.filter_file(str(spheres), str(tmp_path / "singles.cxi"), "labels", 1, 1)
    assert (total, selected) == (40, 20)
    filtering.filter_file(str(spheres), str(tmp_path / "others.cxi"), "labels", 0, 0)
    singles = open_run(tmp_path / "singles.cxi")
    assert singles.ids.tolist() == [f"r1:{i}" for i in range(1, 40, 2)]
    assert (singles.labels == 1).all()
    assert singles.geometry == open_run(spheres).geometry
    np.testing.assert_array_equal(singles.mask, open_run(spheres).mask)
    combine.combine_files([str(tmp_path / "others.cxi"), str(tmp_path / "singles.cxi")], str(tmp_path / "all.cxi"))
    everything = open_run(tmp_path / "all.cxi")
    assert everything.geometry == singles.geometry
    assert sorted(everything.ids) == sorted(open_run(spheres).ids)
    order = np.argsort([int(i.partition(":")[2]) for i in everything.ids])
    np.testing.assert_array_equal(everything.read(order), open_run(spheres).read(range(40)))


@pytest.mark.filterwarnings("ignore")
def test_spi_processing_sizes_particles_in_it(spheres):
    particle_size = pytest.importorskip("spi_processing.particle_size")
    particle_size.compute_psd_data(str(spheres), radius=30)
    particle_size.estimate_size(str(spheres), 7.75, 0.5, 6e-4, r_min=4, size_min=400, size_max=1200)
    with h5py.File(spheres) as file:
        size = file["entry_1/image_1/psd/size"][()] / 10
    np.testing.assert_allclose(size, np.where(np.arange(40) % 2, 60, 90), rtol=0.06)
    assert open_run(spheres).geometry.centre == (31.5, 30.0)  # and we read what it added to


@pytest.mark.filterwarnings("ignore")
def test_spi_em_class_classifies_it(spheres, tmp_path, monkeypatch):
    em = pytest.importorskip("spi_em_class")
    monkeypatch.chdir(tmp_path)  # it leaves a log where it runs
    data = str(tmp_path / "em.h5")
    assert em.em_data.check_cxi_file(str(spheres))
    params = {
        **em.config.default_config(), "cxi_file": str(spheres), "num_class": 2, "num_rot": 4, "q_min": 4, "q_max": 20,
        "binning": 1,
    }  # fmt: skip
    em.config.save_config(data, params)
    np.random.seed(0)  # noqa: NPY002  # the program draws from the global generator
    em.Classifier(data).run(3)
    classes = em.em_data.load_iteration_data(data, 3)["classes"]
    em.em_data.save2cxi(str(spheres), classes, "em_class/classes")
    agreement = (classes == np.where(np.arange(40) % 2, 1, 2)).mean()
    assert max(agreement, 1 - agreement) > 0.9
    with h5py.File(spheres) as file:
        np.testing.assert_array_equal(file["entry_1/image_1/em_class/classes"], classes)
