from __future__ import annotations

import h5py
import numpy as np
import pytest

from spi_lightning.errors import SpiError
from spi_lightning.patterns import dialects, open_run
from spi_lightning.patterns.handles import close_files

from . import foreign


def check_frames(run, frames):
    assert len(run) == len(frames)
    np.testing.assert_array_equal(run.read(range(len(frames))), frames)
    np.testing.assert_array_equal(np.concatenate([block for _, block in run.blocks(4)]), frames)


# --- the paper's own tools ---------------------------------------------------------------------------------------


def test_paper_one_group(tmp_path):
    frames = foreign.photons(dtype=np.int32)
    labels = np.array([1, 0, 0, 1, 0, -1], np.int8)
    path = foreign.paper_cxi(tmp_path / "run7.cxi", {1: frames}, mask=foreign.half_mask(), labels=labels)
    run = open_run(foreign.add_instrument(path))
    check_frames(run, frames)
    assert run.segments[0].dialect == "CXI images"
    assert run.dtype == np.int32
    assert run.ids.tolist() == [f"run7:{i}" for i in range(6)]
    np.testing.assert_array_equal(run.mask, foreign.half_mask() == 0)
    np.testing.assert_array_equal(run.labels, labels)
    assert run.geometry.centre == (4.5, 3.5)
    assert run.geometry.photon_energy == pytest.approx(1600)
    assert (run.geometry.distance, run.geometry.pixel_size) == (0.5, 3e-4)
    assert run.notes == []


def test_paper_groups_in_natural_order_with_their_own_ids(tmp_path):
    groups = {k: foreign.photons(2, seed=k) for k in (10, 2, 1)}
    run = open_run(foreign.paper_cxi(tmp_path / "a.cxi", groups))
    check_frames(run, np.concatenate([groups[1], groups[2], groups[10]]))
    assert run.ids.tolist() == [f"a:image_{k}:{i}" for k in (1, 2, 10) for i in range(2)]
    assert len(run.segments) == 3


@pytest.mark.parametrize("dataset", ["entry_1/image_2/data", "/entry_1/data_2/data", "entry_1/image_2"])
def test_paper_group_chosen_by_any_of_its_names(tmp_path, dataset):
    groups = {1: foreign.photons(2), 2: foreign.photons(3, seed=5)}
    path = foreign.paper_cxi(tmp_path / "a.cxi", groups, mask=foreign.half_mask())
    run = open_run(path, dataset=dataset)
    check_frames(run, groups[2])
    assert run.ids[0] == "a:image_2:0"  # as when the whole file is read
    assert not run.mask.all()
    with pytest.raises(SpiError, match="is no dataset"):
        open_run(path, dataset="entry_1")


def test_paper_group_without_frames_is_passed_over_unless_it_is_the_only_one(tmp_path):
    frames = foreign.photons(2)
    run = open_run(foreign.paper_cxi(tmp_path / "a.cxi", {1: frames[:0], 2: frames}))
    check_frames(run, frames)
    with pytest.raises(SpiError, match="holds no frames"):
        open_run(foreign.paper_cxi(tmp_path / "b.cxi", {1: frames[:0]}))


def test_ids_do_not_depend_on_what_lies_in_other_groups(tmp_path):
    frames = foreign.photons(2)
    ids = [
        open_run(foreign.paper_cxi(tmp_path / folder / "a.cxi", {1: frames, 2: other})).ids[:2].tolist()
        for folder, other in {"": frames, "empty": frames[:0]}.items()
        if (tmp_path / folder).mkdir(exist_ok=True) is None
    ]
    assert ids == [["a:image_1:0", "a:image_1:1"]] * 2


def test_an_image_group_without_a_stack_does_not_hide_the_frames(tmp_path):
    frames = foreign.photons()
    path = tmp_path / "a.cxi"
    with h5py.File(path, "w") as file:
        file["entry_1/image_1/data"] = frames.mean(axis=0)
        file["entry_1/data_1/data"] = frames
    check_frames(open_run(path), frames)
    with h5py.File(tmp_path / "b.cxi", "w") as file:
        file["entry_1/image_1/data"] = frames.mean(axis=0)
        file["entry_1/image_2/data"] = frames
    check_frames(open_run(tmp_path / "b.cxi"), frames)
    with pytest.raises(SpiError, match="a stack of patterns"):
        open_run(path, dataset="entry_1/image_1/data")


def test_data_behind_a_soft_link_in_the_image_group(tmp_path):
    frames = foreign.photons()
    path = tmp_path / "a.cxi"
    with h5py.File(path, "w") as file:
        file["entry_1/instrument_1/detector_1/data"] = frames
        file["entry_1/image_1/data"] = h5py.SoftLink("/entry_1/instrument_1/detector_1/data")
        file["entry_1/image_1/detector_1"] = h5py.SoftLink("../instrument_1/detector_1")
        file["entry_1/image_1/labels"] = np.ones(6)
        file["entry_1/image_1/detector_2"] = h5py.SoftLink("/entry_1/instrument_1/detector_1")
        file["entry_1/instrument_1/detector_1/distance"] = 0.25
    run = open_run(path)
    check_frames(run, frames)
    assert run.labels.tolist() == [1] * 6
    assert run.geometry.distance == 0.25


# --- psocake, Condor, photonConverter, panels --------------------------------------------------------------------


def test_psocake(tmp_path):
    frames = foreign.photons()
    run = open_run(foreign.psocake_cxi(tmp_path / "amo_0007.cxi", frames, mask=foreign.half_mask()))
    check_frames(run, frames)
    assert run.segments[0].dialect == "psocake CXI"
    assert run.dtype == np.float64
    assert run.ids[1] == "amo_0007:1"
    assert run.geometry.photon_energy == 1602.0  # not the electrons' 4012.7
    assert (run.geometry.distance, run.geometry.pixel_size) == (0.581, 75e-6)
    assert not run.mask[:2].any()
    assert any("pulse_energy" in note for note in run.notes)


def test_psocake_photons_beside_the_data_are_pointed_out_and_can_be_chosen(tmp_path):
    frames = foreign.photons()
    path = foreign.psocake_cxi(tmp_path / "a.cxi", frames * 8, counts=frames, joules=1500 * foreign.EV)
    run = open_run(path)
    check_frames(run, frames * 8)
    assert run.geometry.photon_energy == pytest.approx(1500)
    (hint,) = [note for note in run.notes if "photon counts" in note]
    chosen = open_run(path, dataset=hint.rpartition("data.dataset=")[2].rstrip("."))
    check_frames(chosen, frames)
    assert chosen.dtype == np.uint16
    assert chosen.geometry == run.geometry


def test_condor(tmp_path):
    frames = foreign.photons()
    masks = np.zeros(frames.shape, np.uint16)
    masks[:, 1, 1] = 512  # missing
    masks[0, 2, 2] = 2  # saturated in one frame
    masks[:, 3, 3] = 4096  # failed correction here, "has signal" in CXI 1.6
    masks[:, 4, 4] = 2048  # corrected
    run = open_run(foreign.condor_cxi(tmp_path / "condor.cxi", frames, masks))
    check_frames(run, frames)
    assert run.segments[0].dialect == "Condor CXI"
    assert [tuple(map(int, p)) for p in np.argwhere(~run.mask)] == [(1, 1), (3, 3)]
    assert run.geometry.photon_energy == pytest.approx(1239.841984)
    assert run.geometry.centre == (4.5, 3.5)
    assert (run.geometry.distance, run.geometry.pixel_size) == (2.4, 110e-6)
    with pytest.raises(SpiError, match="complex"):
        open_run(tmp_path / "condor.cxi", dataset="entry_1/data_1/data_fourier")


def test_photon_converter(tmp_path):
    frames = foreign.photons(2, (260, 257))
    run = open_run(foreign.photon_converter_h5(tmp_path / "a.h5", frames))
    check_frames(run, frames)
    assert any("0.586 m" in note for note in run.notes)
    path = foreign.photon_converter_h5(tmp_path / "b.h5", frames, ("pnccdBack", "pnccdFront"))
    with pytest.raises(SpiError, match="pnccdFront"):
        open_run(path)
    check_frames(open_run(path, dataset="photonConverter/pnccdFront/photonCount"), frames)


def test_panels_need_a_geometry(tmp_path):
    with pytest.raises(SpiError, match=r"unassembled detector panels.*psana"):
        open_run(foreign.multi_panel_cxi(tmp_path / "a.cxi"))


def test_any_other_cxi(tmp_path):
    frames = foreign.photons()
    path = tmp_path / "a.cxi"
    with h5py.File(path, "w") as file:
        file["entry_1/instrument_1/detector_1/data"] = frames
        file["entry_1/instrument_1/detector_1/mask"] = foreign.half_mask()
        file["entry_1/data_1/data"] = h5py.SoftLink("/entry_1/instrument_1/detector_1/data")
    run = open_run(path)
    check_frames(run, frames)
    assert run.segments[0].dialect == "CXI"
    assert not run.mask[:2].any()
    close_files()
    with h5py.File(path, "a") as file:
        file["entry_1/data_2/data"] = frames
    with pytest.raises(SpiError, match=r"several stacks(.|\n)*entry_1/data_2/data"):
        open_run(path)
    check_frames(open_run(path, dataset="entry_1/data_2/data"), frames)


# --- plain HDF5 --------------------------------------------------------------------------------------------------


def test_plain_hdf5(tmp_path):
    frames = foreign.photons(dtype=">i2")
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["deep/down/counts"] = frames
        file["deep/down/mask"] = foreign.half_mask()
        file["quaternions"] = np.zeros((6, 4))
        file["text"] = "hello"
    run = open_run(path)
    check_frames(run, frames)
    assert run.dtype == np.int16
    assert run.dtype.isnative
    assert not run.mask[:2].any()
    close_files()
    with h5py.File(path, "a") as file:
        file["other"] = frames
    with pytest.raises(SpiError, match=r"several stacks(.|\n)*/other(.|\n)*data.dataset=PATH"):
        open_run(path)
    check_frames(open_run(path, dataset="other"), frames)


def test_nothing_that_looks_like_patterns_lists_what_there_is(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["flat"] = np.zeros((4, 80))
        file["names"] = ["a", "b"]
    with pytest.raises(SpiError, match=r"/flat  \(4, 80\)  float64(.|\n)*data.dataset=PATH"):
        open_run(path)
    with pytest.raises(SpiError, match=r"no dataset 'nope'(.|\n)*/flat"):
        open_run(path, dataset="nope")
    with pytest.raises(SpiError, match=r"shape \(4, 80\)"):
        open_run(path, dataset="flat")
    with pytest.raises(SpiError, match="holds no numbers"):
        open_run(path, dataset="names")


def test_a_new_dialect_is_one_new_file(tmp_path, monkeypatch):
    (tmp_path / "texts.py").write_text(
        "NAME, PRIORITY = 'texts', 1\n"
        "def probe(candidate): return candidate.path.suffix == '.texts'\n"
        "def segments(candidate): raise ValueError('asked')\n"
    )
    monkeypatch.setattr(dialects, "__path__", [*dialects.__path__, str(tmp_path)])
    dialects.all_dialects.cache_clear()
    try:
        (tmp_path / "a.texts").write_text("x")
        with pytest.raises(ValueError, match="asked"):
            open_run(tmp_path / "a.texts")
    finally:
        dialects.all_dialects.cache_clear()


def test_dialects_are_complete():
    found = dialects.all_dialects()
    assert len({d.NAME for d in found}) == len({d.PRIORITY for d in found}) == len(found) == 9
    assert found[-1].NAME == "HDF5"  # it takes anything


@pytest.mark.parametrize(
    ("name", "n", "shape"),
    [
        ("pr772_amo86615_20_labelled.cxi", 20, (128, 128)),
        ("pr772_amo86615_10_adu.cxi", 10, (260, 257)),
        ("simex_2nip_1000_oriented.h5", 1000, (81, 81)),
    ],
)
def test_real_files(shared_data, name, n, shape):
    run = open_run(shared_data / name)
    assert (len(run), run.shape) == (n, shape)
    assert run.read([n - 1, 0]).shape == (2, *shape)
    if name.endswith(".cxi"):
        assert run.geometry.photon_energy == pytest.approx(1569.4, abs=0.1)
        assert run.geometry.distance == 0.581
        assert 0.9 < run.mask.mean() < 1
    if "labelled" in name:
        assert (run.labels == 1).sum() == 8
        assert run.geometry.centre == (63.5, 63.5)
