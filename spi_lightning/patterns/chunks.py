"""Chunks of an HDF5 dataset as they lie in the file, decoded without the library.

The library decodes one chunk at a time with zlib, and holds a lock meanwhile. Nearly all files of the field are packed
with gzip, which ISA-L decodes three times as fast, and in as many threads as one likes. Whatever else a dataset is
packed with is left to the library.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import h5py
import numpy as np
from isal import isal_zlib

from spi_lightning.patterns.hdf5 import H5_ERRORS, damage_is_reported

_LARGEST = 1 << 24  # bytes of a decoded chunk, of which each thread holds two copies


@dataclass(frozen=True, eq=False)
class Packing:
    """How a dataset of whole frames in chunks is packed: with gzip, and nothing else but the shuffle filter.

    Attributes:
        frames: in a chunk.
        dtype: as stored, which may be of the other byte order.
        shuffled: whether the first bytes of all values come first, then the second bytes, and so on.
        written: bool, for each chunk; None where all were.
    """

    frames: int
    dtype: np.dtype
    shuffled: bool
    written: np.ndarray | None


def packing_of(dataset: h5py.Dataset) -> Packing | None:
    """How ``dataset`` is packed, or None where only the library can read it.

    Raises:
        SpiError: the dataset's header is damaged.
    """
    with damage_is_reported(dataset.file.filename, f"the layout of '{dataset.name}'"):
        creation, stored = dataset.id.get_create_plist(), dataset.id.get_type()
        if creation.get_layout() != h5py.h5d.CHUNKED or stored.get_class() not in (h5py.h5t.INTEGER, h5py.h5t.FLOAT):
            return None
        dtype, chunk = dataset.dtype, creation.get_chunk()
        filters = [creation.get_filter(i) for i in range(creation.get_nfilters())]
        if dtype.itemsize not in (1, 2, 4, 8) or stored != h5py.h5t.py_create(dtype):
            return None  # fewer bits than the bytes have, for instance
        if chunk[1:] != dataset.shape[1:] or math.prod(chunk) * dtype.itemsize > _LARGEST:
            return None
        n_chunks = -(-dataset.shape[0] // chunk[0])
        all_written = dataset.id.get_num_chunks() == n_chunks
    shuffled = len(filters) == 2 and filters[0][0] == h5py.h5z.FILTER_SHUFFLE and filters[0][2] == (dtype.itemsize,)
    if [number for number, *_ in filters[shuffled:]] != [h5py.h5z.FILTER_DEFLATE]:
        return None
    return Packing(chunk[0], dtype, shuffled, None if all_written else _written(dataset, n_chunks, chunk[0]))


def _written(dataset: h5py.Dataset, n_chunks: int, frames: int) -> np.ndarray:
    places: list[int] = []
    with damage_is_reported(dataset.file.filename, f"the index of '{dataset.name}'"):
        dataset.id.chunk_iter(lambda chunk: places.append(chunk.chunk_offset[0]))
    return np.isin(np.arange(n_chunks), np.array(places, np.uint64) // np.uint64(frames))


def fetch(dataset: h5py.Dataset, packing: Packing, number: int) -> bytes | None:
    """Chunk ``number`` as it lies in the file; None where the library has to read it, or to say why it cannot."""
    if packing.written is not None and not packing.written[number]:
        return None  # and asked for it, h5py makes room for whatever size its memory holds
    try:
        skipped, packed = dataset.id.read_direct_chunk((number * packing.frames, *[0] * (len(dataset.shape) - 1)))
    except (*H5_ERRORS, MemoryError):
        return None  # damaged, or of a size that cannot be
    return None if skipped else packed  # a writer may leave out filters for a chunk that they do not shrink


def unpack(packed: bytes, packing: Packing, out: np.ndarray) -> None:
    """Decode a chunk. Releases the GIL for nearly all of the time, and may be called from any thread.

    Args:
        packed: the chunk as it lies in the file.
        packing: how it is packed.
        out: C-contiguous, as large as the chunk, of the stored dtype in the machine's byte order.

    Raises:
        ValueError: the chunk is damaged or incomplete, or is not of the size of ``out``. (The library does not look at
            the size: it would hand out whatever its memory holds.)
    """
    stream = isal_zlib.decompressobj()
    try:
        values = stream.decompress(packed, out.nbytes + 1)  # never more, whatever the chunk claims to hold
    except isal_zlib.IsalError as error:  # type: ignore[misc]  # which its stubs call an instance
        raise ValueError(str(error)) from error
    if len(values) > out.nbytes:
        raise ValueError(f"its chunk decodes to more than the {out.nbytes} bytes that it should have")
    if not stream.eof:
        raise ValueError("the end of its chunk is missing")
    if len(values) < out.nbytes:
        raise ValueError(f"its chunk decodes to {len(values)} bytes instead of {out.nbytes}")
    flat = out.reshape(-1)
    if packing.shuffled:
        _unshuffle(np.frombuffer(values, np.uint8).reshape(packing.dtype.itemsize, -1), packing.dtype, flat)
    else:
        flat[:] = np.frombuffer(values, packing.dtype)


def _unshuffle(planes: np.ndarray, stored: np.dtype, out: np.ndarray) -> None:
    """Put values together from ``(itemsize, n)`` planes of their bytes.

    With shifts, which are three times as fast as a transposed copy; and planes of zeros, as the upper bytes of photon
    counts mostly are, cost next to nothing.
    """
    if stored != stored.newbyteorder("<"):
        planes = planes[::-1]
    words = out.view(f"u{stored.itemsize}")
    words[:] = planes[0]
    for k in range(1, len(planes)):
        if planes[k].any():
            words |= np.left_shift(planes[k], 8 * k, dtype=words.dtype)
