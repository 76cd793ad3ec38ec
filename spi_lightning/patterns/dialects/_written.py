"""Frames that were announced but never written: HDF5 hands out zeros for them, without a word."""

from __future__ import annotations

import functools
import math

import h5py
import numpy as np

from spi_lightning.errors import SpiError
from spi_lightning.patterns.hdf5 import damage_is_reported


def written_frames(dataset: h5py.Dataset, notes: list[str]) -> int:
    """How many frames a stack holds.

    Where the program that wrote the file broke off, those are the frames before that; where there are holes, all.

    Args:
        dataset: ``(N, ...)``, N > 0.
        notes: what a user should know is added here.

    Raises:
        SpiError: most frames are missing.
    """
    filename, n_frames = dataset.file.filename, int(dataset.shape[0])
    where = f"{filename}: dataset '{dataset.name}'"
    if dataset.is_virtual:
        return n_frames
    with damage_is_reported(filename, f"the layout of '{dataset.name}'"):
        if not dataset.chunks:
            share = dataset.id.get_storage_size() / (dataset.size * dataset.dtype.itemsize)
        else:
            in_row = math.prod(-(-n // c) for n, c in zip(dataset.shape[1:], dataset.chunks[1:], strict=True))
            n_rows = -(-n_frames // dataset.chunks[0])
            if dataset.id.get_num_chunks() == in_row * n_rows:
                return n_frames
            rows: list[int] = []  # of each chunk that is there; a file may announce any number of them
            dataset.id.chunk_iter(functools.partial(_note_row, rows, dataset.chunks[0]))
            numbers, counts = np.unique(np.array(rows, dtype=np.uint64), return_counts=True)
            whole = numbers[(counts == in_row) & (numbers < n_rows)]  # a damaged file may say anything
            leading = int((whole == np.arange(len(whole))).sum()) * dataset.chunks[0]
            share = len(whole) / n_rows
            if leading and leading == len(whole) * dataset.chunks[0]:
                notes.append(
                    f"{where} announces {n_frames} frames, but the program that wrote it broke off: the {leading} that "
                    "were written are used."
                )
                return leading
    if share < 0.5:
        raise SpiError(
            f"{where} announces {n_frames} frames, but only {share:.0%} of them were ever written. Did the program "
            "that wrote it break off? Write the file again."
        )
    if share < 1:
        notes.append(f"{where}: {1 - share:.1%} of the frames were never written and are read as zeros.")
    return n_frames


def _note_row(rows: list[int], frames_a_chunk: int, chunk: h5py.h5d.StoreInfo) -> None:
    rows.append(chunk.chunk_offset[0] // frames_a_chunk)
