"""Reading patterns of 192 x 96 pixels from HDF5: random rows, in order, and as photon counts; against h5py.

Two gzip layouts, with one pattern in a chunk and with 64, and bitshuffle-lz4, which facilities write. The file is in
the page cache: what is measured is the decoding.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np

from benchmarks import record
from benchmarks.record import Row, fact_row, interleaved, rate_row
from benchmarks.remote import Remote
from spi_lightning.patterns import open_run
from spi_lightning.patterns.crop import Window
from spi_lightning.patterns.frames import Frames
from spi_lightning.patterns.prepared import PreparedRun, Recipe

SHAPE = (192, 96)
MEAN = 0.34  # photons a pixel, as in the paper
BLOCK = 256  # patterns, as prediction reads them
TARGET = 4.0  # times h5py's fancy indexing
LAYOUTS: dict[str, dict[str, Any]] = {
    "gzip, chunk of one": {"chunks": (1, *SHAPE), "compression": "gzip", "compression_opts": 4, "shuffle": True},
    "gzip, chunk of 64": {"chunks": (64, *SHAPE), "compression": "gzip", "compression_opts": 4, "shuffle": True},
    "bitshuffle-lz4, chunk of one": {"chunks": (1, *SHAPE), **hdf5plugin.Bitshuffle()},
}


def rows(quick: bool) -> list[Row]:
    """Rows of the table, for each layout."""
    found: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for number, layout in enumerate(LAYOUTS):
            path = written(Path(folder) / f"{number}.h5", layout, 512 if quick else 8192)
            found += _random(path, layout, quick)
            found += _in_order(path, layout, quick)
        found.append(_memory(Path(folder) / "0.h5"))
    return found


def written(path: Path, layout: str, n: int) -> Path:
    """A file of photon counts that fall off from the centre, and are as large in gzip as those of the paper."""
    random = np.random.default_rng(0)
    y, x = np.indices(SHAPE, dtype=np.float64)
    rate = np.exp(-np.hypot(y - SHAPE[0] / 2, x) / 12)
    rate *= MEAN / rate.mean()
    with h5py.File(path, "w") as file:
        made = file.create_dataset("data", (n, *SHAPE), np.uint16, **LAYOUTS[layout])
        for start in range(0, n, 64):
            made[start : start + 64] = random.poisson(rate, (64, *SHAPE))
    return path


def photons(path: Path) -> PreparedRun:
    """The file's patterns with a mask of bad pixels, otherwise as they are stored."""
    run = open_run(path)
    y, x = np.indices(SHAPE)
    mask = np.hypot(y - SHAPE[0] / 2, x) > 6  # a beam stop
    mask[:, 40:42] = False
    recipe = Recipe(mask, Window(0, 0, *SHAPE))
    return PreparedRun(run, recipe, SHAPE, np.dtype(np.uint16), run.geometry, mask, None, {})


def _random(path: Path, layout: str, quick: bool) -> list[Row]:
    run = open_run(path)
    chosen = np.random.default_rng(1).permutation(len(run))
    many = chosen if "64" not in layout else chosen[: len(run) // 8]
    # Fancy indexing is slow, and wants its rows in order. Other rows each time: h5py keeps those that it has decoded.
    # As many at a time for all: the more, the more of them share a chunk.
    at_once = 16 if quick else BLOCK
    few = itertools.cycle(np.sort(chosen.reshape(-1, at_once)))
    with h5py.File(path) as file:
        dataset = file["data"]
        row = np.empty(SHAPE, np.uint16)

        def one_by_one() -> None:
            for index in next(few).tolist():
                dataset.read_direct(row, np.s_[index])

        variants = {"fancy": lambda: dataset[next(few)], "row by row": one_by_one}
        variants["ours"] = lambda: _batches(run, many, at_once)
        seconds = interleaved(variants, 2 if quick else 7)
    ours = [len(many) / s for s in seconds["ours"]]
    what = f"random rows, {layout}"
    fancy, direct = ([len(next(few)) / s for s in seconds[name]] for name in ("fancy", "row by row"))
    return [
        rate_row(what, ours, "h5py fancy indexing", fancy, TARGET if "gzip" in layout else None),
        rate_row(what, ours, "h5py row by row", direct),
    ]


def _batches(run: Frames, chosen: np.ndarray, at_once: int) -> None:
    for start in range(0, len(chosen), at_once):
        run.read(chosen[start : start + at_once])


def _in_order(path: Path, layout: str, quick: bool) -> list[Row]:
    run, prepared = open_run(path), photons(path)
    with h5py.File(path) as file:
        dataset = file["data"]

        def slices() -> None:
            for start in range(0, len(run), BLOCK):
                dataset[start : start + BLOCK]

        seconds = interleaved(
            {"h5py": slices, "stored": in_order(run), "counts": in_order(prepared)}, 2 if quick else 7
        )
    theirs, stored, counts = ([len(run) / s for s in seconds[name]] for name in ("h5py", "stored", "counts"))
    return [
        rate_row(f"in order, {layout}", stored, "h5py slices", theirs),
        rate_row(f"photon counts with a mask, in order, {layout}", counts, "h5py slices, as stored", theirs),
    ]


def in_order(patterns: Frames) -> Callable[[], None]:
    """Reads all patterns, block by block."""

    def read() -> None:
        for _ in patterns.blocks(BLOCK):
            pass

    return read


def counts_in_order(path: Path) -> Callable[[], None]:
    """For a process of its own."""
    return in_order(photons(path))


def _memory(path: Path) -> Row:
    with Remote("benchmarks.reading:counts_in_order", path) as read:
        before = read.peak_memory()
        read()
        after = read.peak_memory()
    return fact_row(
        "peak memory of a process that reads photon counts in order",
        f"{after / 1e9:.2f} GB",
        note=f"{(after - before) / 1e9:.2f} GB more than before it read",
    )


if __name__ == "__main__":
    record.main(rows, "reading")
