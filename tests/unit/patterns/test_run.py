from __future__ import annotations

import multiprocessing
import os
import pickle
import subprocess
import sys

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spi_lightning.patterns import frames as frames_module
from spi_lightning.patterns import handles, open_run
from spi_lightning.patterns.handles import close_files

from . import foreign


@pytest.fixture
def three_files(tmp_path):
    """A run of run1, run2, run10 with 4, 3, 5 frames, of which one has two groups, and all its frames."""
    frames = [foreign.photons(n, seed=n) for n in (4, 3, 5)]
    foreign.paper_cxi(tmp_path / "run2.cxi", {1: frames[1]})
    foreign.paper_cxi(tmp_path / "run10.cxi", {1: frames[2][:2], 2: frames[2][2:]})
    foreign.paper_cxi(tmp_path / "run1.cxi", {1: frames[0]})
    return tmp_path / "run*.cxi", np.concatenate(frames)


def test_files_of_a_glob_in_natural_order(three_files):
    pattern, frames = three_files
    run = open_run(pattern)
    assert len(run) == 12
    assert run.ids.tolist() == [
        *(f"run1:{i}" for i in range(4)),
        *(f"run2:{i}" for i in range(3)),
        *(f"run10:image_1:{i}" for i in range(2)),
        *(f"run10:image_2:{i}" for i in range(3)),
    ]
    np.testing.assert_array_equal(run.read(np.arange(12)), frames)


def test_explicit_files_keep_their_order_and_count_once(three_files):
    pattern, _ = three_files
    folder = pattern.parent
    run = open_run([folder / "run10.cxi", str(pattern), folder / "run10.cxi"])
    assert [s.path.name for s in run.segments] == ["run10.cxi", "run10.cxi", "run1.cxi", "run2.cxi"]


def test_a_file_whose_name_looks_like_a_glob(tmp_path):
    path = foreign.paper_cxi(tmp_path / "run[1].cxi", {1: foreign.photons()})
    assert len(open_run(path)) == 6


@settings(max_examples=60, deadline=None)
@given(indices=st.lists(st.integers(0, 11), max_size=30))
def test_any_rows_in_any_order(tmp_path_factory, indices):
    folder = tmp_path_factory.getbasetemp() / "rows"
    if not folder.exists():
        folder.mkdir()
        frames = foreign.photons(12)
        for name, chunks in {"one": (1, 8, 10), "five": (5, 4, 10), "all": None}.items():
            with h5py.File(folder / f"{name}.h5", "w") as file:
                file.create_dataset("data", data=frames[:4] if name == "one" else frames, chunks=chunks)
    frames = foreign.photons(12)
    for name in ("five", "all"):
        np.testing.assert_array_equal(open_run(folder / f"{name}.h5").read(indices), frames[indices])
    joined = open_run([folder / "one.h5", folder / "five.h5"])
    expected = np.concatenate([frames[:4], frames])[[i + 2 for i in indices]]
    np.testing.assert_array_equal(joined.read([i + 2 for i in indices]), expected)


@settings(max_examples=40, deadline=None)
@given(size=st.integers(1, 15), start=st.integers(0, 13), stop=st.none() | st.integers(0, 15))
def test_blocks_cover_the_range_once(tmp_path_factory, size, start, stop):
    path = tmp_path_factory.getbasetemp() / "blocks.h5"
    frames = foreign.photons(12)
    if not path.exists():
        with h5py.File(path, "w") as file:
            file.create_dataset("data", data=frames, chunks=(4, 8, 10), compression="gzip")
    run = open_run(path)
    covered = []
    for first, block in run.blocks(size, start, stop):
        assert 1 <= len(block) <= size
        np.testing.assert_array_equal(block, frames[first : first + len(block)])
        covered += range(first, first + len(block))
    assert covered == list(range(start, 12 if stop is None else min(stop, 12)))


def test_blocks_end_where_chunks_end(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("data", data=foreign.photons(20), chunks=(4, 8, 10))
    run = open_run(tmp_path / "a.h5")
    assert [first for first, _ in run.blocks(6)] == [0, 4, 8, 12, 16]
    assert [first for first, _ in run.blocks(3)] == [0, 3, 4, 7, 8, 11, 12, 15, 16, 19]


@pytest.mark.parametrize("indices", [[12], [-1], [[0, 1]], [0.5], np.array([True] * 12)])
def test_indices_that_are_none(three_files, indices):
    with pytest.raises(IndexError):
        open_run(three_files[0]).read(indices)


def test_blocks_are_bounded_in_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(frames_module, "BLOCK_BYTES", 3 * 8 * 10 * 2)
    run = open_run(foreign.paper_cxi(tmp_path / "a.cxi", {1: foreign.photons(8)}))
    assert [len(block) for _, block in run.blocks()] == [3, 3, 2]


def test_no_rows_is_no_error(three_files):
    assert open_run(three_files[0]).read([]).shape == (0, 8, 10)


def test_types_are_joined(tmp_path):
    foreign.paper_cxi(tmp_path / "a.cxi", {1: foreign.photons(2, dtype=np.uint8)})
    foreign.paper_cxi(tmp_path / "b.cxi", {1: foreign.photons(2, dtype=np.int16)})
    run = open_run(tmp_path / "?.cxi")
    assert run.dtype == np.int16
    np.testing.assert_array_equal(run.read([3, 0, 2, 1]), foreign.photons(2)[[1, 0, 0, 1]])
    assert any("int16, uint8" in note for note in run.notes)


# --- processes ---------------------------------------------------------------------------------------------------


def _read_in_worker(run, index):
    return run.read([index])[0], os.getpid()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_read_with_handles_of_their_own(three_files, method):
    pattern, frames = three_files
    run = open_run(pattern)
    run.read(range(12))  # handles are open when the workers start
    with multiprocessing.get_context(method).Pool(2) as pool:
        results = pool.starmap(_read_in_worker, [(run, i) for i in range(12)])
    np.testing.assert_array_equal([frame for frame, _ in results], frames)
    assert os.getpid() not in {pid for _, pid in results}
    np.testing.assert_array_equal(run.read([3, 11]), frames[[3, 11]])


def test_a_run_survives_pickle_without_its_ids_or_handles(three_files):
    pattern, frames = three_files
    run = open_run(pattern)
    before = len(pickle.dumps(run))
    assert run.ids[0] == "run1:0"
    run.read([0])
    raw = pickle.dumps(run)
    assert len(raw) == before
    copy = pickle.loads(raw)
    np.testing.assert_array_equal(copy.read(range(12)), frames)
    np.testing.assert_array_equal(copy.ids, run.ids)
    assert copy.fingerprint() == run.fingerprint()


def test_handles_are_few(tmp_path, monkeypatch):
    monkeypatch.setattr(handles, "_MAX_HANDLES", 3)
    close_files()
    for i in range(6):
        foreign.paper_cxi(tmp_path / f"{i}.cxi", {1: foreign.photons(2, seed=i)})
    run = open_run(tmp_path / "*.cxi")
    order = np.random.default_rng(0).permutation(12)
    frames = np.concatenate([foreign.photons(2, seed=i) for i in range(6)])
    for i in order:
        np.testing.assert_array_equal(run.read([i])[0], frames[i])
    assert len(handles._handles) == 3
    close_files()
    assert len(handles._handles) == len(handles._datasets) == 0


def test_chunks_of_many_frames_are_decoded_once(tmp_path):
    for i in range(6):
        with h5py.File(tmp_path / f"{i}.h5", "w") as file:
            file.create_dataset("data", data=foreign.photons(8), chunks=(8, 8, 10) if i else (1, 8, 10))
    run = open_run(tmp_path / "*.h5")
    for i in range(48):
        run.read([i])
    kept = [opened.dataset for (key, _), opened in handles._datasets.items() if key[1].startswith(str(tmp_path))]
    caches = sorted(dataset.id.get_access_plist().get_chunk_cache()[1] for dataset in kept)
    assert len(caches) == 5
    assert caches[0] == 0  # frames that are chunks of their own need none
    assert caches[1:] == [2**24] * 4  # no more, for each may fill
    close_files()


# --- fingerprint -------------------------------------------------------------------------------------------------


def test_fingerprint_depends_on_what_it_says(tmp_path):
    frames = foreign.photons(100)

    def of(name="run", group=frames, **others):
        path = foreign.paper_cxi(tmp_path / f"{name}.cxi", {1: group}, **others)
        found = open_run(path).fingerprint()
        close_files()  # the next one has the same name
        return found

    changed = frames.copy()
    changed[-1, 3, 3] += 1
    first = of()
    assert len(first) == 64
    (tmp_path / "elsewhere").mkdir()
    moved = foreign.paper_cxi(tmp_path / "elsewhere" / "run.cxi", {1: frames}, labels=np.ones(100, int))
    assert open_run(moved).fingerprint() == first
    others = [of("run8"), of(group=frames[:99]), of(group=frames.astype(np.int32)), of(group=changed)]
    others.append(of(mask=foreign.half_mask()))
    assert len({first, *others}) == 6


def test_ids_of_many_frames_are_made_fast_and_only_when_asked_for(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["data"] = np.zeros((200_000, 2, 2), np.uint8)
    run = open_run(tmp_path / "a.h5")
    assert "ids" not in run.__dict__
    assert (len(run.ids), run.ids[-1]) == (200_000, "a:199999")


def test_reading_is_light(tmp_path):
    """No torch, and no plugin unless a file needs it: they cost seconds in every worker."""
    path = foreign.paper_cxi(tmp_path / "a.cxi", {1: foreign.photons()})
    program = (
        f"import sys; from spi_lightning.patterns import open_run; open_run({str(path)!r}).read([0]); "
        "print({'torch', 'scipy', 'hdf5plugin', 'pytorch_lightning'} & set(sys.modules))"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "set()"
