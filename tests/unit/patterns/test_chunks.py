"""Chunks that are decoded without the library, against the library."""

from __future__ import annotations

import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spi_lightning.errors import SpiError
from spi_lightning.patterns import chunks, open_run
from spi_lightning.patterns import rows as rows_module
from spi_lightning.patterns.chunks import packing_of
from spi_lightning.patterns.handles import close_files
from spi_lightning.patterns.rows import read_rows

from . import foreign

SHAPE = (6, 5)


def in_memory() -> h5py.File:
    return h5py.File("memory.h5", "w", driver="core", backing_store=False)


def read(dataset: h5py.Dataset, rows: np.ndarray) -> np.ndarray:
    out = np.empty((len(rows), *dataset.shape[-2:]), dataset.dtype.newbyteorder("="))
    read_rows(dataset, np.asarray(rows), out, packing_of(dataset))
    return out


def values(dtype: str, n: int, seed: int = 0) -> np.ndarray:
    """Any bits, so that no byte plane is empty; but for whole frames of small counts, where most are."""
    random = np.random.default_rng(seed)
    anything = np.frombuffer(random.bytes(n * 30 * np.dtype(dtype).itemsize), dtype).reshape(n, *SHAPE)
    return np.where(random.random((n, 1, 1)) < 0.5, anything, random.poisson(0.3, (n, *SHAPE)).astype(dtype))


@settings(max_examples=150, deadline=None)
@given(
    dtype=st.sampled_from(["u1", "i1", "<u2", ">u2", "<i2", ">i4", "<u4", "<f2", "<f4", ">f4", "<i8", ">f8", "<f8"]),
    n=st.integers(1, 23),
    frames=st.integers(1, 9),
    middle=st.booleans(),
    shuffle=st.booleans(),
    level=st.integers(0, 9),
    data=st.data(),
)
def test_rows_are_those_of_the_library(dtype, n, frames, middle, shuffle, level, data):
    written = data.draw(st.lists(st.integers(0, n - 1), unique=True), label="written")
    rows = data.draw(st.lists(st.integers(0, n - 1), max_size=40), label="rows")
    axes = (1, *SHAPE) if middle else SHAPE
    with in_memory() as file:
        dataset = file.create_dataset(
            "data",
            (n, *axes),
            dtype,
            chunks=(min(frames, n), *axes),
            shuffle=shuffle,
            compression="gzip",
            compression_opts=level,
            fillvalue=7,
        )
        for row in written:  # chunks that none is in are never written
            dataset[row] = values(dtype, n)[row]
        assert packing_of(dataset) is not None
        expected = dataset[()].reshape(n, *SHAPE)[rows].astype(np.dtype(dtype).newbyteorder("="))
        assert read(dataset, np.array(rows, np.int64)).tobytes() == expected.tobytes()  # NaN included


def test_whole_chunks_do_not_go_through_the_library(monkeypatch):
    with in_memory() as file:
        frames = values("<u2", 20)
        single = file.create_dataset("single", data=frames, chunks=(1, *SHAPE), compression="gzip")
        many = file.create_dataset("many", data=frames, chunks=(4, *SHAPE), compression="gzip", shuffle=True)
        asked = []
        monkeypatch.setattr(rows_module, "_read_span", lambda dataset, start, stop, out: asked.append((start, stop)))
        for dataset, rows in [(single, [3]), (single, np.arange(20)), (many, np.arange(4, 12)), (many, [1, 19])]:
            np.testing.assert_array_equal(read(dataset, rows), frames[rows])
        assert asked == []
        read(many, [5, 6])  # part of a chunk: the library keeps it for the next
        assert asked == [(5, 7)]


FILTERS = {"compression": "gzip", "chunks": (1, *SHAPE)}
LEFT = {
    "contiguous": {},
    "not packed": {"chunks": (1, *SHAPE)},
    "parts of frames": {**FILTERS, "chunks": (1, 3, 5)},
    "larger than a frame": {**FILTERS, "chunks": (1, 7, 5), "maxshape": (8, 9, 5)},
    "lzf": {**FILTERS, "compression": "lzf"},
    "checksum": {**FILTERS, "fletcher32": True},
    "fewer bits": {**FILTERS, "scaleoffset": 0},
    "only shuffled": {"chunks": (1, *SHAPE), "shuffle": True},
}


@pytest.mark.parametrize("layout", LEFT)
def test_what_is_left_to_the_library(layout):
    with in_memory() as file:
        frames = values("<u2", 8)
        dataset = file.create_dataset("data", data=frames, **LEFT[layout])
        assert packing_of(dataset) is None
        np.testing.assert_array_equal(read(dataset, [5, 0, 5]), frames[[5, 0, 5]])


def test_types_that_are_left_to_the_library():
    with in_memory() as file:
        for name, dtype in {"bool": "?", "complex": "c8", "long": "longdouble"}.items():
            assert packing_of(file.create_dataset(name, (2, *SHAPE), dtype, **FILTERS)) is None
        twelve = h5py.h5t.STD_U16LE.copy()
        twelve.set_precision(12)
        creation = file.create_dataset("like", (2, *SHAPE), "u2", **FILTERS).id.get_create_plist()
        made = h5py.h5d.create(file.id, b"twelve", twelve, h5py.h5s.create_simple((2, *SHAPE)), creation)
        assert packing_of(h5py.Dataset(made)) is None


def test_chunks_that_are_too_large_for_every_thread_to_hold(monkeypatch):
    with in_memory() as file:
        dataset = file.create_dataset("data", data=values("<u2", 8), chunks=(4, *SHAPE), compression="gzip")
        monkeypatch.setattr(chunks, "_LARGEST", 240)
        assert packing_of(dataset) is not None
        monkeypatch.setattr(chunks, "_LARGEST", 239)
        assert packing_of(dataset) is None


def test_another_dtype_is_converted_by_the_library():
    with in_memory() as file:
        frames = np.random.default_rng(0).poisson(1, (4, *SHAPE)).astype("u2")
        dataset = file.create_dataset("data", data=frames, **FILTERS)
        out = np.empty(frames.shape, np.float32)
        read_rows(dataset, np.arange(4), out, packing_of(dataset))
        np.testing.assert_array_equal(out, frames)


@pytest.mark.parametrize("skipped", [0b01, 0b10, 0b11])
def test_chunks_whose_writer_left_filters_out(skipped):
    frames = values("<u2", 6)
    with in_memory() as file:
        dataset = file.create_dataset("data", data=frames, shuffle=True, **FILTERS)
        raw = frames[2].tobytes()
        if not skipped & 0b01:
            raw = np.frombuffer(raw, np.uint8).reshape(-1, 2).T.tobytes()
        dataset.id.write_direct_chunk((2, 0, 0), raw if skipped & 0b10 else zlib.compress(raw), skipped)
        np.testing.assert_array_equal(read(dataset, [4, 2, 1]), frames[[4, 2, 1]])


def test_a_file_with_something_before_it(tmp_path):
    frames = foreign.photons(6, dtype=np.uint16)
    with h5py.File(tmp_path / "a.h5", "w", userblock_size=512) as file:
        file.create_dataset("data", data=frames, chunks=(1, 8, 10), compression="gzip")
    np.testing.assert_array_equal(open_run(tmp_path / "a.h5").read([5, 1, 3]), frames[[5, 1, 3]])


# --- damage ------------------------------------------------------------------------------------------------------

WHOLE = zlib.compress(bytes(range(1, 241)) + bytes(240))  # of a chunk of 8 frames of 60 bytes
DAMAGED = {
    "no gzip": (b"\xff" * 40, "Error -5"),
    "nothing": (b"\0", "the end of its chunk is missing|Error"),
    "no end": (WHOLE[:-6], "the end of its chunk is missing"),
    "no checksum": (WHOLE[:-1], "the end of its chunk is missing"),
    "another checksum": (WHOLE[:-1] + bytes([WHOLE[-1] ^ 1]), "checksum"),
    "too short": (zlib.compress(bytes(479)), "decodes to 479 bytes instead of 480"),
    "too long": (zlib.compress(bytes(481)), "decodes to more than the 480 bytes"),
    "a bomb": (zlib.compress(bytes(1 << 26), 9), "decodes to more than the 480 bytes"),
}


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("kind", DAMAGED)
def test_damage_is_named(tmp_path, kind, shuffle):
    packed, reason = DAMAGED[kind]
    frames = values("<u2", 24)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("data", data=frames, chunks=(8, *SHAPE), compression="gzip", shuffle=shuffle)
        dataset.id.write_direct_chunk((8, 0, 0), packed)
    run = open_run(tmp_path / "a.h5")
    sound = [*range(8), *range(16, 24)]
    np.testing.assert_array_equal(run.read(sound), frames[sound])
    for rows, named in ([np.arange(24), 8], [[20, 11, 9], 9]):
        with pytest.raises(SpiError, match=rf"a\.h5: row {named} of dataset '/data' cannot be read \(.*({reason})"):
            run.read(rows)


@settings(max_examples=200, deadline=None)
@given(bits=st.lists(st.integers(0, 8 * len(WHOLE) - 1), min_size=1, max_size=3, unique=True), cut=st.integers(0, 4))
def test_damage_is_never_read_as_data(bits, cut):
    damaged = bytearray(WHOLE)
    for bit in bits:
        damaged[bit // 8] ^= 1 << bit % 8
    with in_memory() as file:
        dataset = file.create_dataset("data", (16, *SHAPE), "<u2", chunks=(8, *SHAPE), compression="gzip")
        dataset.id.write_direct_chunk((0, 0, 0), bytes(damaged[: len(damaged) - cut]))
        try:
            found = read(dataset, np.arange(16))
        except SpiError:
            return
        assert found[:8].tobytes() == zlib.decompress(WHOLE)  # a bit that says how it was packed
        assert not found[8:].any()


# --- blocks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_blocks_decode_each_chunk_once(tmp_path: Path, monkeypatch, chunk):
    frames = foreign.photons(100, dtype=np.uint16)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("data", data=frames, chunks=(chunk, 8, 10), compression="gzip")
    fetched: list[int] = []
    before = rows_module.fetch
    monkeypatch.setattr(rows_module, "fetch", lambda d, p, number: (fetched.append(number), before(d, p, number))[1])
    blocks = list(open_run(tmp_path / "a.h5").blocks(20))
    np.testing.assert_array_equal(np.concatenate([block for _, block in blocks]), frames)
    assert [first for first, _ in blocks] == np.cumsum([0, *(len(block) for _, block in blocks[:-1])]).tolist()
    assert max(len(block) for _, block in blocks) <= 20
    assert len(set(fetched)) == len(fetched) >= 100 // chunk  # what is left at the end may be the library's
    close_files()
