"""Rows of an HDF5 dataset, read as fast as their compression allows."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import h5py
import numpy as np

from spi_lightning.errors import SpiError
from spi_lightning.patterns.hdf5 import H5_ERRORS


def read_rows(dataset: h5py.Dataset, rows: np.ndarray, out: np.ndarray) -> None:
    """Read rows of a dataset's first axis, in file order, each chunk once, straight into ``out`` where possible.

    h5py's own fancy indexing does about 1,000 rows/s; this does what the decompression allows.

    Args:
        dataset: ``(N, ...)``.
        rows: ``(n,)`` integers in [0, N), in any order, repeated or not.
        out: C-contiguous, ``n`` rows with as many elements as the dataset's; HDF5 converts to its dtype.

    Raises:
        SpiError: a row cannot be read or decoded; names it.
    """
    wanted, first = np.unique(rows, return_index=True)
    chunk = max(1, dataset.chunks[0] if dataset.chunks else 1)
    for i, j in _spans(wanted, chunk):
        start, stop = int(wanted[i]), int(wanted[j - 1]) + 1
        places = first[i:j]
        if stop - start == j - i and (np.diff(places) == 1).all():
            _read_span(dataset, start, stop, out[places[0] : places[0] + j - i])
        else:
            buffer = np.empty((stop - start, *out.shape[1:]), out.dtype)
            _read_span(dataset, start, stop, buffer)
            out[places] = buffer[wanted[i:j] - start]
    if len(wanted) < len(rows):
        repeated = np.setdiff1d(np.arange(len(rows)), first, assume_unique=True)
        out[repeated] = out[first[np.searchsorted(wanted, rows[repeated])]]


def _spans(wanted: np.ndarray, chunk: int) -> Iterator[tuple[int, int]]:
    """Cut sorted, distinct rows into runs that one read fetches: neighbours, or rows of one chunk."""
    if len(wanted) == 0:
        return
    same = (np.diff(wanted) == 1) | (np.diff(wanted // chunk) == 0)
    cuts = [0, *(np.flatnonzero(~same) + 1).tolist(), len(wanted)]
    longest = max(256 // chunk, 1) * chunk  # bounds the buffer that unordered rows need
    for i, j in itertools.pairwise(cuts):
        while j - i > longest:
            end = int(np.searchsorted(wanted, (wanted[i] + longest) // chunk * chunk))
            yield i, end
            i = end
        yield i, j


def _read_span(dataset: h5py.Dataset, start: int, stop: int, out: np.ndarray) -> None:
    rank = len(dataset.shape)
    space = dataset.id.get_space()
    space.select_hyperslab((start, *[0] * (rank - 1)), (stop - start, *dataset.shape[1:]))
    try:
        dataset.id.read(h5py.h5s.create_simple(out.shape), space, out)
    except H5_ERRORS as error:
        if stop - start > 1:
            for row in range(start, stop):  # find the one that is damaged
                _read_span(dataset, row, row + 1, out[row - start : row - start + 1])
        raise SpiError(
            f"{dataset.file.filename}: row {start} of dataset '{dataset.name}' cannot be read ({error}). The file is "
            "damaged or incomplete: copy it again, or leave it out."
        ) from error
