"""Rows of an HDF5 dataset, read as fast as their compression allows."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import h5py
import numpy as np

from spi_lightning.cores import available_cores
from spi_lightning.errors import SpiError
from spi_lightning.patterns.chunks import Packing, fetch, unpack
from spi_lightning.patterns.hdf5 import H5_ERRORS
from spi_lightning.patterns.threads import side_by_side

_GROUP_BYTES = 1 << 21  # decoded by a thread at once: two milliseconds, beside which handing it over costs nothing

_Chunk = tuple[int, int, int, bytes | None]  # number; the first of the wanted rows in it, the end of these; packed


def read_rows(dataset: h5py.Dataset, rows: np.ndarray, out: np.ndarray, packing: Packing | None = None) -> None:
    """Read rows of a dataset's first axis, in file order, each chunk once, straight into ``out`` where possible.

    h5py's own fancy indexing does about 1,000 rows/s. Row by row with the library it is 5,000 of 192 x 96 in gzip;
    where :mod:`~spi_lightning.patterns.chunks` can decode them, some 20,000 for each core.

    Args:
        dataset: ``(N, ...)``.
        rows: ``(n,)`` integers in [0, N), in any order, repeated or not.
        out: C-contiguous, ``n`` rows with as many elements as the dataset's; values are converted to its dtype.
        packing: of the dataset, see :func:`~spi_lightning.patterns.chunks.packing_of`; None leaves it to the library.

    Raises:
        SpiError: a row cannot be read or decoded; names it.
    """
    wanted, first = np.unique(rows, return_index=True)
    left = np.arange(len(wanted))
    if packing is not None and _pays(packing, wanted, out):
        left = _read_chunks(dataset, packing, wanted, first, out)
    _read_by_library(dataset, wanted[left], first[left], out)
    if len(wanted) < len(rows):
        repeated = np.setdiff1d(np.arange(len(rows)), first, assume_unique=True)
        out[repeated] = out[first[np.searchsorted(wanted, rows[repeated])]]


def _pays(packing: Packing, wanted: np.ndarray, out: np.ndarray) -> bool:
    """Whether to decode ourselves. Not for part of a chunk: the library keeps it for whoever reads on."""
    if len(wanted) == 0 or packing.dtype.newbyteorder("=") != out.dtype or not out.flags.c_contiguous:
        return False
    return len(wanted) >= packing.frames or bool(wanted[0] // packing.frames != wanted[-1] // packing.frames)


# --- by ourselves ------------------------------------------------------------------------------------------------


def _read_chunks(
    dataset: h5py.Dataset, packing: Packing, wanted: np.ndarray, first: np.ndarray, out: np.ndarray
) -> np.ndarray:
    """Read sorted, distinct rows into the places ``first`` of ``out``; return which of them are left to the library."""
    frames = packing.frames

    def decode(group: list[_Chunk]) -> list[_Chunk]:
        for number, i, j, packed in group:
            if packed is None:
                continue
            places = first[i:j]
            in_order = j - i == frames and (j - i == 1 or (np.diff(places) == 1).all())
            start = int(places[0])
            decoded = out[start : start + frames] if in_order else np.empty((frames, *out.shape[1:]), out.dtype)
            try:
                unpack(packed, packing, decoded)
            except ValueError as error:
                raise _unreadable(dataset, int(wanted[i]), error) from error
            if not in_order:
                out[places] = decoded[wanted[i:j] - number * frames]
        return [chunk for chunk in group if chunk[-1] is None]

    left = [chunk for group in side_by_side(decode, _groups(dataset, packing, wanted, out)) for chunk in group]
    return np.concatenate([np.arange(0), *(np.arange(i, j) for _, i, j, _ in left)])


def _groups(dataset: h5py.Dataset, packing: Packing, wanted: np.ndarray, out: np.ndarray) -> Iterator[list[_Chunk]]:
    """Fetch the chunks of sorted, distinct rows, so many at a time as a thread should decode."""
    numbers, begins = np.unique(wanted // packing.frames, return_index=True)
    bytes_each = packing.frames * out[:1].nbytes
    size = min(_GROUP_BYTES // max(bytes_each, 1), len(numbers) // (2 * available_cores()))
    chunks = zip(numbers.tolist(), begins.tolist(), [*begins[1:].tolist(), len(wanted)], strict=True)
    while group := list(itertools.islice(chunks, max(size, 1))):
        yield [(number, i, j, fetch(dataset, packing, number)) for number, i, j in group]


# --- by the library ----------------------------------------------------------------------------------------------


def _read_by_library(dataset: h5py.Dataset, wanted: np.ndarray, first: np.ndarray, out: np.ndarray) -> None:
    """Read sorted, distinct rows into the places ``first`` of ``out``."""
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
        raise _unreadable(dataset, start, error) from error


def _unreadable(dataset: h5py.Dataset, row: int, error: Exception) -> SpiError:
    return SpiError(
        f"{dataset.file.filename}: row {row} of dataset '{dataset.name}' cannot be read ({error}). The file is "
        "damaged or incomplete: copy it again, or leave it out."
    )
