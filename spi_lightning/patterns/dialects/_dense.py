"""What the dialects that keep whole frames in HDF5 share: from a dataset to a checked segment, masks, ids, labels."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import h5py
import numpy as np

from spi_lightning.errors import SpiError
from spi_lightning.instrument import Geometry
from spi_lightning.patterns.dialects import Candidate
from spi_lightning.patterns.dialects._written import written_frames
from spi_lightning.patterns.hdf5 import damage_is_reported, describe
from spi_lightning.patterns.segment import DEFAULT_BAD_BITS, DenseHdf5, Segment, good_pixels
from spi_lightning.patterns.storage import check_storage, read_all

_SATURATED = 0x2
_MASK_BYTES = 64 * 2**20  # of a per-frame mask that are held at once


def is_stack(dataset: h5py.Dataset) -> bool:
    """Whether a dataset can hold a stack of patterns: numbers, frames first, two axes longer than one pixel last."""
    shape = dataset.shape
    return dataset.dtype.kind in "iuf" and shape is not None and len(shape) >= 3 and min(shape[-2:]) > 1


def is_multi_panel(dataset: h5py.Dataset) -> bool:
    """Whether there are further axes (panels) between the frames and the pixels."""
    return is_stack(dataset) and any(length != 1 for length in dataset.shape[1:-2])


def dense_segment(
    candidate: Candidate,
    dataset: h5py.Dataset,
    *,
    dialect: str,
    beside: str | None = None,
    id_prefix: str | None = None,
    own_ids: np.ndarray | None = None,
    geometry: Geometry | None = None,
    mask: h5py.Dataset | None = None,
    default_bad_bits: int = DEFAULT_BAD_BITS,
    notes: tuple[str, ...] = (),
) -> Segment:
    """Check a dataset of whole frames and describe it; labels and ids beside it are read.

    Args:
        candidate: the file.
        dataset: ``(N, y, x)``, or with axes of length 1 between.
        dialect: its name.
        beside: group in which ``ids`` and ``labels`` may be; the dataset's own where None.
        id_prefix: the file's stem where None.
        own_ids: ids from the file, ``(N,)`` bytes; else an ``ids`` dataset beside the data is used, else the prefix.
        geometry: what the file says.
        mask: ``(y, x)``, or one a frame ``(N, y, x)``, or None.
        default_bad_bits: bits that make a pixel bad unless the user says otherwise.
        notes: what is known already.

    Raises:
        SpiError: the dataset cannot hold patterns, or the mask does not fit it.
    """
    check_frames(candidate, dataset)
    check_storage(dataset)
    n_frames, shape = int(dataset.shape[0]), (int(dataset.shape[-2]), int(dataset.shape[-1]))
    said = list(notes)
    written = written_frames(dataset, said)
    beside = dataset.name.rpartition("/")[0] if beside is None else beside
    if own_ids is None:
        own_ids = _ids(candidate, f"{beside}/ids", n_frames, said)
    labels = _labels(candidate, f"{beside}/labels", n_frames, said)
    good = None
    if mask is not None:
        bits = candidate.mask_bits
        good = _stack_mask(candidate, mask, (n_frames, *shape), bits, default_bad_bits, said)
    return Segment(
        path=candidate.path,
        dialect=dialect,
        dataset=dataset.name,
        n_frames=written,
        shape=shape,
        dtype=dataset.dtype.newbyteorder("="),
        source=DenseHdf5(Path(dataset.file.filename), dataset.name, dataset.chunks[0] if dataset.chunks else 1),
        id_prefix=candidate.path.stem if id_prefix is None else id_prefix,
        own_ids=None if own_ids is None else own_ids[:written],
        geometry=geometry or Geometry(),
        mask=good,
        labels=None if labels is None else labels[:written],
        notes=tuple(said),
    )


def chosen_dataset(candidate: Candidate, *usual: str) -> h5py.Dataset:
    """The dataset that the user named, or the first of the dialect's usual ones that is there.

    Raises:
        SpiError: what was named is no dataset.
    """
    names = [candidate.dataset] if candidate.dataset is not None else usual
    for name in names:
        if (dataset := candidate.dataset_at(name)) is not None:
            return dataset
    assert candidate.file is not None
    raise SpiError(
        f"{candidate.path}: '{names[0]}' is no dataset. {describe(candidate.file)}\nName the patterns' dataset with "
        "data.dataset=PATH."
    )


def first_dataset(candidate: Candidate, names: Iterable[str]) -> h5py.Dataset | None:
    """The first of several datasets that is there."""
    return next((dataset for name in names if (dataset := candidate.dataset_at(name)) is not None), None)


def check_frames(candidate: Candidate, dataset: h5py.Dataset) -> None:
    """Raise :class:`SpiError` unless the dataset is a non-empty stack of images of real numbers."""
    where = f"{candidate.path}: dataset '{dataset.name}'"
    shape = dataset.shape
    another = "Name the patterns' dataset with data.dataset=PATH."
    if dataset.dtype.kind == "c" or (dataset.dtype.names is not None and len(dataset.dtype.names) == 2):
        raise SpiError(
            f"{where} holds complex numbers ({dataset.dtype}): amplitudes, not the counts or intensities that are "
            f"needed here. {another}"
        )
    if dataset.dtype.kind not in "iuf":
        raise SpiError(f"{where} holds no numbers (dtype {dataset.dtype}). {another}")
    if is_multi_panel(dataset):
        raise SpiError(
            f"{where} of shape {shape} holds unassembled detector panels: the axes between frames and pixels are "
            f"panels. Only a detector geometry can turn them into images, and none is in the file. Assemble them "
            f"first (extra-geom at the European XFEL, psana at LCLS), write (frames, rows, columns), and give that."
        )
    if shape is None or len(shape) < 3:
        assert candidate.file is not None
        raise SpiError(
            f"{where} has the shape {shape}; a stack of patterns (frames, rows, columns) is needed. "
            f"{describe(candidate.file)}\n{another}"
        )
    if shape[0] == 0:
        raise SpiError(f"{where} of shape {shape} holds no frames: the run is empty. Leave this file out.")
    if min(shape[-2:]) < 2:
        raise SpiError(f"{where} of shape {shape} holds no images: rows and columns must be 2 at least. {another}")


def _stack_mask(
    candidate: Candidate,
    mask: h5py.Dataset,
    frames: tuple[int, int, int],
    bits: int | None,
    default_bits: int,
    notes: list[str],
) -> np.ndarray:
    """Read the mask of a stack, ``(rows, columns)`` bool, True = good.

    A mask a frame becomes one mask for all: bad where bad in any frame, read through from the first to the last. Two
    things belong to a frame and not to the pixel and are left out of that: saturation (unless the user named the bits),
    and frames that are bad everywhere, which is how missing frames are marked.
    """
    where = f"{candidate.path}: mask '{mask.name}'"
    n_frames, *size = frames
    shape = mask.shape
    check_storage(mask)
    one = shape is not None and len(shape) >= 2 and list(shape[-2:]) == size and all(k == 1 for k in shape[:-2])
    per_frame = shape is not None and shape[:1] == (n_frames,) and list(shape[-2:]) == size and len(shape) >= 3
    if not one and not (per_frame and all(k == 1 for k in (shape or ())[1:-2])):
        raise SpiError(
            f"{where} has the shape {shape}, but the frames are {tuple(size)}. Expected {tuple(size)}, or one mask a "
            f"frame {frames}. Correct or delete the mask in the file, or name another dataset with data.dataset=PATH."
        )
    try:
        with damage_is_reported(candidate.path, f"mask '{mask.name}'"):
            if one:
                flags = read_all(mask).reshape(size)
                good = good_pixels(flags, default_bits if bits is None else bits)
                overlooked = int(((flags != 0) & good).sum()) if bits is None else 0
                if overlooked:
                    notes.append(
                        f"{where}: {overlooked} pixels carry only flags that are no fault of the pixel and are used. "
                        "Set data.mask_bits to leave them out."
                    )
                return good
            return _common_mask(mask, size, default_bits & ~_SATURATED if bits is None else bits, where, notes)
    except SpiError as error:
        raise SpiError(f"{where}: {error}") from error


def _common_mask(mask: h5py.Dataset, size: list[int], bits: int, where: str, notes: list[str]) -> np.ndarray:
    good = np.ones(size, dtype=bool)
    n_frames, skipped, differing = mask.shape[0], 0, False
    unit = mask.chunks[0] if mask.chunks else 1
    step = max(1, _MASK_BYTES // (size[0] * size[1] * 8) // unit) * unit
    previous: np.ndarray | None = None
    for start in range(0, n_frames, step):
        block = mask[start : start + step]
        block = good_pixels(block.reshape(len(block), *size), bits)
        present = block.any(axis=(1, 2))
        skipped += int((~present).sum())
        for frame in block[present]:
            differing = differing or (previous is not None and not np.array_equal(previous, frame))
            previous = frame
        good &= block[present].all(axis=0)
    if differing:
        notes.append(f"{where}: masks differ between frames; pixels that are bad in any frame are left out of all.")
    if skipped:
        notes.append(f"{where}: {skipped} of {n_frames} frames are masked entirely (missing?): not counted.")
    return good


def text_rows(dataset: h5py.Dataset) -> np.ndarray | None:
    """A 1-D dataset of strings as UTF-8 bytes ``(n,)`` (dtype S), or None where it does not hold strings.

    Raises:
        SpiError: they cannot be read, or are not UTF-8.
    """
    if dataset.dtype.kind == "S":
        values = np.asarray(read_all(dataset), dtype=f"S{max(1, dataset.dtype.itemsize)}")
    elif h5py.check_string_dtype(dataset.dtype) is not None:
        texts = [v if isinstance(v, bytes) else str(v).encode(errors="surrogateescape") for v in read_all(dataset)]
        values = np.array(texts, dtype=f"S{max([1, *map(len, texts)])}")
    else:
        return None
    try:
        np.char.decode(values, "utf-8")
    except UnicodeDecodeError as error:
        raise SpiError(
            f"{dataset.file.filename}: '{dataset.name}' is not UTF-8 text ({error}). Correct or delete it."
        ) from error
    return values


def _ids(candidate: Candidate, name: str, n_frames: int, notes: list[str]) -> np.ndarray | None:
    dataset = candidate.dataset_at(name)
    if dataset is None:
        return None
    if dataset.shape != (n_frames,):
        raise SpiError(
            f"{candidate.path}: '{name}' has the shape {dataset.shape}, but there are {n_frames} frames. Expected one "
            "id a frame: correct or delete it."
        )
    values = text_rows(dataset)
    if values is None:
        notes.append(f"{candidate.path}: '{name}' ({dataset.dtype}) is not text and was not used; ids are made anew.")
    return values


def _labels(candidate: Candidate, name: str, n_frames: int, notes: list[str]) -> np.ndarray | None:
    """Labels beside the data: 1 single hit, 0 other, -1 unknown."""
    dataset = candidate.dataset_at(name)
    if dataset is None:
        return None
    ignored = f"{candidate.path}: '{name}' was not used"
    remedy = "If these are labels, convert them (1 single hit, 0 other, -1 unknown) or give a file of labels."
    if dataset.shape != (n_frames,) or dataset.dtype.kind not in "biuf":
        notes.append(f"{ignored}: its shape {dataset.shape}, dtype {dataset.dtype} are not a number a frame. {remedy}")
        return None
    values = read_all(dataset).astype(np.float64)
    values[np.isnan(values)] = -1
    if not np.isin(values, (-1, 0, 1)).all():
        odd = values[~np.isin(values, (-1, 0, 1))][0]
        notes.append(f"{ignored}: it holds {odd:g}. {remedy}")
        return None
    return values.astype(np.int8)
