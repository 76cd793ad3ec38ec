from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from spi_lightning.errors import SpiError
from spi_lightning.patterns import open_run
from spi_lightning.patterns.export import export_cxi

from . import foreign

# --- files that do not go together -------------------------------------------------------------------------------


def test_shapes_must_agree(tmp_path):
    foreign.paper_cxi(tmp_path / "a.cxi", {1: foreign.photons()})
    foreign.paper_cxi(tmp_path / "b.cxi", {1: foreign.photons(2, (10, 8))})
    with pytest.raises(SpiError, match=r"b\.cxi .* \(10, 8\), .*a\.cxi .* \(8, 10\)"):
        open_run(tmp_path / "?.cxi")
    with h5py.File(tmp_path / "a.cxi", "a") as file:
        file["entry_1/image_2/data"] = foreign.photons(2, (10, 8))
    with pytest.raises(SpiError, match=r"data.dataset=/entry_1/image_1/data or data.dataset=(\S+)\.$") as told:
        open_run(tmp_path / "a.cxi")
    chosen = str(told.value).rpartition("data.dataset=")[2].rstrip(".")
    assert open_run(tmp_path / "a.cxi", dataset=chosen).shape == (10, 8)


def test_masks_that_differ_are_intersected(tmp_path):
    other = np.zeros((8, 10), np.uint8)
    other[:, 0] = 1
    foreign.paper_cxi(tmp_path / "a.cxi", {1: foreign.photons(2)}, mask=foreign.half_mask())
    foreign.paper_cxi(tmp_path / "b.cxi", {1: foreign.photons(2)}, mask=other)
    run = open_run(tmp_path / "?.cxi")
    np.testing.assert_array_equal(run.mask, (foreign.half_mask() == 0) & (other == 0))
    assert any("from 8 to 20 bad pixels" in note for note in run.notes)
    foreign.paper_cxi(tmp_path / "c.cxi", {1: foreign.photons(2)}, mask=1 - foreign.half_mask())
    with pytest.raises(SpiError, match=r"no good pixel.*mask_bits"):
        open_run(tmp_path / "?.cxi")


def test_silent_masks_are_pointed_out(tmp_path):
    foreign.paper_cxi(tmp_path / "a.cxi", {1: foreign.photons(2)})
    run = open_run(tmp_path / "a.cxi")
    assert run.mask.all()
    assert run.notes == [
        "The files have no mask: all pixels are taken as good. Give one with data.prepare.mask_file=FILE."
    ]
    foreign.paper_cxi(tmp_path / "b.cxi", {1: foreign.photons(2)}, mask=foreign.half_mask())
    notes = open_run(tmp_path / "?.cxi").notes
    assert any("no mask in " in note and "a.cxi" in note for note in notes)


def test_masks_are_shared(tmp_path):
    for name in "ab":
        foreign.paper_cxi(tmp_path / f"{name}.cxi", {1: foreign.photons(2)}, mask=foreign.half_mask())
    first, second = open_run(tmp_path / "?.cxi").segments
    assert first.mask is second.mask


@pytest.mark.parametrize(
    ("first", "second", "lost"),
    [
        ({"distance": 0.5}, {"distance": 0.5004}, None),
        ({"distance": 0.5}, {"distance": 0.502}, "distance"),
        ({"pixel": (3e-4, 3e-4)}, {"pixel": (6e-4, 6e-4)}, "pixel_size"),
        ({"energy": 1600 * foreign.EV}, {"energy": 1610 * foreign.EV}, "photon_energy"),
    ],
)
def test_geometry_is_kept_where_files_agree(tmp_path, first, second, lost):
    for name, values in {"a": first, "b": second}.items():
        foreign.add_instrument(foreign.paper_cxi(tmp_path / f"{name}.cxi", {1: foreign.photons(2)}), **values)
    foreign.paper_cxi(tmp_path / "silent.cxi", {1: foreign.photons(2)}, centre=None)
    run = open_run(tmp_path / "*.cxi")
    for name in ("distance", "pixel_size", "photon_energy"):
        assert (getattr(run.geometry, name) is None) == (name == lost)
    assert run.geometry.centre == (4.5, 3.5)
    found = [note for note in run.notes if "disagree" in note]
    assert len(found) == (0 if lost is None else 1)
    if lost:
        assert f"on {lost}" in found[0]
        assert "a.cxi" in found[0]
        assert "b.cxi" in found[0]


def test_centres_that_differ(tmp_path):
    foreign.paper_cxi(tmp_path / "a.cxi", {1: foreign.photons(2)}, centre=(4.0, 3.0, 0))
    foreign.paper_cxi(tmp_path / "b.cxi", {1: foreign.photons(2)}, centre=(4.4, 3.0, 0))
    assert open_run(tmp_path / "?.cxi").geometry.centre == (4.0, 3.0)
    foreign.paper_cxi(tmp_path / "c.cxi", {1: foreign.photons(2)}, centre=(4.0, 3.6, 0))
    run = open_run(tmp_path / "?.cxi")
    assert run.geometry.centre is None
    assert any("instrument.centre=VALUE" in note for note in run.notes)


def test_labels_of_some_files_only(tmp_path):
    foreign.paper_cxi(tmp_path / "a.cxi", {1: foreign.photons(2)}, labels=np.array([1, 0]))
    foreign.paper_cxi(tmp_path / "b.cxi", {1: foreign.photons(2)})
    run = open_run(tmp_path / "?.cxi")
    assert run.labels.tolist() == [1, 0, -1, -1]
    assert run.labels.dtype == np.int8
    assert open_run(tmp_path / "b.cxi").labels is None


def test_files_of_one_name_would_share_ids(tmp_path):
    for folder in "ab":
        (tmp_path / folder).mkdir()
        foreign.paper_cxi(tmp_path / folder / "run.cxi", {1: foreign.photons(2)})
    with pytest.raises(SpiError, match=r"'run:0'.*Rename"):
        open_run(tmp_path / "*" / "run.cxi")


def test_stored_ids(tmp_path):
    ids = np.array(["run7:4", "run7:µ"], dtype=object)
    foreign.paper_cxi(tmp_path / "a.cxi", {1: foreign.photons(2)}, ids=ids)
    assert open_run(tmp_path / "a.cxi").ids.tolist() == ["run7:4", "run7:µ"]
    foreign.paper_cxi(tmp_path / "b.cxi", {1: foreign.photons(2)}, ids=np.array([b"x", b"run7:4"]))
    with pytest.raises(SpiError, match=r"1 pattern ids occur more than once, for instance run7:4 in .*a\.cxi.*b\.cxi"):
        open_run(tmp_path / "?.cxi")
    foreign.paper_cxi(tmp_path / "c.cxi", {1: foreign.photons(2)}, ids=np.array([1, 2]))
    run = open_run(tmp_path / "c.cxi")
    assert run.ids.tolist() == ["c:0", "c:1"]
    assert any("is not text" in note for note in run.notes)
    foreign.paper_cxi(tmp_path / "d.cxi", {1: foreign.photons(2)}, ids=np.array([b"x"]))
    with pytest.raises(SpiError, match="one id a frame"):
        open_run(tmp_path / "d.cxi")
    foreign.paper_cxi(tmp_path / "e.cxi", {1: foreign.photons(2)}, ids=np.array([b"\xff\xfe", b"x"]))
    with pytest.raises(SpiError, match="UTF-8"):
        open_run(tmp_path / "e.cxi")


# --- files that cannot be read -----------------------------------------------------------------------------------


def test_paths_that_are_no_files(tmp_path):
    with pytest.raises(SpiError, match="does not exist"):
        open_run(tmp_path / "a.cxi")
    with pytest.raises(SpiError, match=r"is a folder.*\*\.cxi"):
        open_run(tmp_path)
    with pytest.raises(SpiError, match="No file matches"):
        open_run(tmp_path / "*.cxi")
    with pytest.raises(SpiError, match="no file was given"):
        open_run([])
    (tmp_path / "empty.cxi").touch()
    with pytest.raises(SpiError, match="0 bytes"):
        open_run(tmp_path / "empty.cxi")
    (tmp_path / "text.cxi").write_text("not HDF5\n")
    with pytest.raises(SpiError, match="not an HDF5"):
        open_run(tmp_path / "text.cxi")
    os.mkfifo(tmp_path / "pipe.cxi")
    with pytest.raises(SpiError, match="not a regular file"):
        open_run(tmp_path / "pipe.cxi")


def test_a_home_that_nobody_has():
    with pytest.raises(SpiError, match=r"~nosuchuser/a\.cxi does not exist"):
        open_run("~nosuchuser/a.cxi")


def test_file_names_that_are_no_numbers_or_no_text(tmp_path):
    foreign.paper_cxi(tmp_path / "²1.cxi", {1: foreign.photons(2)})
    foreign.paper_cxi(tmp_path / "³1.cxi", {1: foreign.photons(2, seed=1)})
    assert open_run(tmp_path / "*.cxi").ids.tolist() == ["²1:0", "²1:1", "³1:0", "³1:1"]
    path = tmp_path / os.fsdecode(b"run\xff.cxi")
    run = open_run(foreign.paper_cxi(path, {1: foreign.photons(2)}))
    assert run.ids.tolist() == ["run\\xff:0", "run\\xff:1"]
    assert len(run.fingerprint()) == 64
    export_cxi(run, [1], tmp_path / "out.cxi", program="p", command="c")
    assert open_run(tmp_path / "out.cxi").ids.tolist() == ["run\\xff:1"]


@pytest.mark.parametrize("bits", [-1, 2**32, 2**70])
def test_mask_bits_that_no_mask_has(tmp_path, bits):
    foreign.paper_cxi(tmp_path / "a.cxi", {1: foreign.photons(2)}, mask=foreign.half_mask())
    with pytest.raises(SpiError, match=r"data\.mask_bits is .*640"):
        open_run(tmp_path / "a.cxi", mask_bits=bits)


def test_a_damaged_row_is_named(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        made = file.create_dataset("data", data=foreign.photons(6), chunks=(1, 8, 10), compression="gzip")
        where = made.id.get_chunk_info(3)
    raw = bytearray(path.read_bytes())
    raw[where.byte_offset : where.byte_offset + where.size] = b"\xff" * where.size
    path.write_bytes(raw)
    run = open_run(path)
    assert run.read([0, 1, 2, 4]).shape == (4, 8, 10)
    for indices in ([3], range(6), [5, 3, 1]):
        with pytest.raises(SpiError, match=r"a\.h5: row 3 of dataset '/data' cannot be read"):
            run.read(indices)


def test_a_file_that_changes_while_in_use(tmp_path):
    path = foreign.paper_cxi(tmp_path / "a.cxi", {1: foreign.photons(6)})
    run = open_run(path)
    run.read([5])
    foreign.paper_cxi(tmp_path / "new.cxi", {1: foreign.photons(3, seed=9)})
    os.replace(tmp_path / "new.cxi", path)
    np.testing.assert_array_equal(run.read([1]), foreign.photons(3, seed=9)[[1]])
    with pytest.raises(SpiError, match="changed while in use"):
        run.read([5])
    path.unlink()
    with pytest.raises(SpiError, match="can no longer be read"):
        run.read([0])


def test_a_detector_file_that_nothing_needs_is_pointed_out(tmp_path: Path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["frames"] = np.zeros((2, 4, 4), np.uint8)
    run = open_run(tmp_path / "a.h5", detector="detector.h5")
    assert any("data.detector=detector.h5 is not used" in note for note in run.notes)
    assert not any("data.detector" in note for note in open_run(tmp_path / "a.h5").notes)
