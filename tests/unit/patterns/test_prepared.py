"""Preparing in slices and in threads, against one plain formula for all frames at once."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from spi_lightning.errors import SpiError
from spi_lightning.patterns import open_run, prepared, threads
from spi_lightning.patterns.crop import Window
from spi_lightning.patterns.prepared import PreparedRun, Recipe

N, SHAPE = 60, (12, 10)


@pytest.fixture(autouse=True)
def three_threads(monkeypatch):
    monkeypatch.setattr(threads, "available_cores", lambda: 3)
    monkeypatch.setattr(threads, "_pool", None)


def stored(tmp_path, dtype, chunk=1):
    random = np.random.default_rng(0)
    frames = random.poisson(0.3, (N, *SHAPE)).astype(dtype)
    frames[7, 3, 4] = 100
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("data", data=frames, chunks=(chunk, *SHAPE), compression="gzip", shuffle=True)
    return open_run(tmp_path / "a.h5"), frames, random.random(SHAPE) < 0.8


def prepared_run(run, recipe, mask, dtype):
    window = recipe.window
    shape = (window.rows // recipe.binning, window.columns // recipe.binning)
    return PreparedRun(run, recipe, shape, np.dtype(dtype), run.geometry, mask, None, {})


@pytest.mark.parametrize("slice_frames", [1, 7, N])
@pytest.mark.parametrize("binning", [1, 2])
@pytest.mark.parametrize("result", ["u1", "u4"])
@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "u8", "i2", "i4", "i8", "f4", "f8"])
def test_counts_are_those_of_the_formula(tmp_path, monkeypatch, dtype, result, binning, slice_frames):
    run, frames, good = stored(tmp_path, dtype)
    monkeypatch.setattr(prepared, "_SLICE_BYTES", slice_frames * frames[0].nbytes)
    window, level = Window(1, -2, 8, 10), np.random.default_rng(1).integers(0, 2, SHAPE).astype(np.uint16)
    recipe = Recipe(good, window, level=level, binning=binning, broken=(3, 40))
    mask = np.random.default_rng(2).random((8 // binning, 10 // binning)) < 0.7
    counts = np.where(good, frames, 0).astype(np.int64)
    counts[[3, 40]] = 0
    counts = np.pad(np.maximum(counts - level, 0)[:, 1:9, :8], ((0, 0), (0, 0), (2, 0)))
    counts = counts.reshape(N, 8 // binning, binning, 10 // binning, binning).sum(axis=(2, 4)) * mask
    patterns = prepared_run(run, recipe, mask, result)
    order = np.random.default_rng(3).integers(0, N, 90)
    found = patterns.read(order)
    assert found.dtype == np.dtype(result)
    np.testing.assert_array_equal(found, counts[order])
    np.testing.assert_array_equal(np.concatenate([block for _, block in patterns.blocks(25)]), counts)


@pytest.mark.parametrize(("dtype", "value"), [("i2", -1), ("i4", -7), ("f4", -1), ("f4", 0.5), ("f4", np.nan)])
def test_what_is_no_count_is_named_whatever_the_slice(tmp_path, monkeypatch, dtype, value):
    run, frames, good = stored(tmp_path, dtype)
    row, column = np.argwhere(good)[5]
    frames[33, row, column] = frames[50, row, column] = value
    frames[2][~good] = value  # bad pixels may hold anything
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("data", data=frames, chunks=(1, *SHAPE), compression="gzip")
    monkeypatch.setattr(prepared, "_SLICE_BYTES", 4 * frames[0].nbytes)
    patterns = prepared_run(run, Recipe(good, Window(0, 0, *SHAPE)), good, "u2")
    with pytest.raises(SpiError, match=r"frame 33 .*pattern a:33"):
        patterns.read(range(N))
    assert patterns.read([2])[0][~good].max() == 0


def test_more_photons_than_the_type_holds(tmp_path):
    run, frames, _ = stored(tmp_path, "u2")
    frames[44, 1, 1] = 300
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("data", data=frames, chunks=(1, *SHAPE), compression="gzip")
    everything = np.ones(SHAPE, bool)
    with pytest.raises(SpiError, match=r"frame 44 .*300 photons in a pixel, more than uint8 holds"):
        list(prepared_run(run, Recipe(everything, Window(0, 0, *SHAPE)), everything, "u1").blocks())
