"""Mask files that come beside the data: arrays in NumPy's format, text, HDF5 or CXI."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Literal

import h5py
import numpy as np

from spi_lightning.errors import SpiError
from spi_lightning.patterns.hdf5 import check_file, describe, open_h5, resolve
from spi_lightning.patterns.segment import DEFAULT_BAD_BITS, good_pixels
from spi_lightning.patterns.storage import read_all

MaskKind = Literal["auto", "good", "bad", "cxi"]

LARGEST = 1 << 30  # bytes; a mask of 16 megapixels in 8 bytes each is an eighth of it


def read_mask(source: str, shape: tuple[int, int], kind: MaskKind = "auto", bits: int | None = None) -> np.ndarray:
    """Good pixels according to a mask file.

    Args:
        source: ``FILE.npy``, ``FILE.txt`` (numbers in rows, separated by blanks or commas), or ``FILE:/dataset`` for
            HDF5 and CXI.
        shape: (rows, columns) of the frames.
        kind: ``good``: nonzero is good; ``bad``: nonzero is bad; ``cxi``: bits of CXI 1.6, of which 0x1000 (has signal)
            and others that speak of the light are not bad; ``auto``: cxi for numbers.
        bits: that make a pixel bad in a mask of bits;
            :data:`~spi_lightning.patterns.segment.DEFAULT_BAD_BITS` where None.

    Returns:
        bool ``(rows, columns)``, True = good.

    Raises:
        SpiError: no such file or dataset, another shape, values that are no mask, true/false values with ``auto``
            (both readings are common), or not one good pixel.
    """
    values = _read(source)
    if values.ndim > 2 and values.shape[:-2] == (1,) * (values.ndim - 2):
        values = values.reshape(values.shape[-2:])
    if values.shape != shape:
        raise SpiError(
            f"The mask {source} has the shape {values.shape}; the frames have {shape}. "
            "Give a mask for whole frames as they are stored, before crop and binning."
        )
    if values.dtype.kind not in "biuf":
        raise SpiError(f"The mask {source} holds values of type {values.dtype}; numbers were expected.")
    if values.dtype.kind == "b" and kind in ("auto", "cxi"):
        raise SpiError(
            f"The mask {source} holds true/false values, and true marks good pixels for some and bad ones for others. "
            "Say which: data.prepare.mask_kind=good or data.prepare.mask_kind=bad."
        )
    if values.dtype.kind == "f" and np.isnan(values).any():
        raise SpiError(f"The mask {source} holds NaN. Write it as whole numbers.")
    try:
        bad_bits = DEFAULT_BAD_BITS if bits is None else bits
        good = good_pixels(values, bad_bits) if kind in ("auto", "cxi") else (values != 0) == (kind == "good")
    except SpiError as error:
        raise SpiError(f"{source}: {error}") from error
    if not good.any():
        raise SpiError(
            f"The mask {source} leaves no good pixel (read as {'cxi' if kind == 'auto' else kind}). "
            f"Does it mark them the other way round? Try data.prepare.mask_kind={'bad' if kind == 'good' else 'good'}."
        )
    return good


def _read(source: str) -> np.ndarray:
    path, dataset = Path(os.path.expanduser(source)), None
    if not os.path.exists(path) and ":" in source:
        name, dataset = source.rsplit(":", 1)
        path = Path(os.path.expanduser(name))
    check_file(path)
    if path.stat().st_size > LARGEST and dataset is None:
        raise SpiError(f"{path} has {path.stat().st_size} bytes: too many for a mask. Give a file with one 2-D array.")
    if dataset is not None or h5py.is_hdf5(path):
        return _read_hdf5(path, dataset)
    if path.suffix == ".npy":
        try:
            with open(path, "rb") as file:  # np.load would take a zip for something else
                return np.lib.format.read_array(file, allow_pickle=False)
        except (ValueError, OSError, EOFError, MemoryError) as error:
            raise SpiError(
                f"{path} cannot be read as an array ({error}). Write the mask with numpy.save as numbers."
            ) from error
    return _read_text(path)


def _read_hdf5(path: Path, dataset: str | None) -> np.ndarray:
    with open_h5(path) as file:
        found = resolve(file, dataset) if dataset else None
        if not isinstance(found, h5py.Dataset):
            wanted = f"holds no dataset '{dataset}'" if dataset else "holds more than a mask"
            raise SpiError(
                f"{path} {wanted}. Name the mask's dataset: data.prepare.mask_file={path}:/DATASET. {describe(file)}"
            )
        if found.size * found.dtype.itemsize > LARGEST:
            raise SpiError(f"{path}: dataset '{dataset}' of shape {found.shape} is too large for a mask of one frame.")
        return np.asarray(read_all(found))


def _read_text(path: Path) -> np.ndarray:
    try:
        text = path.read_text(encoding="utf-8-sig")
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # NumPy only warns of a file without numbers
            return np.loadtxt(text.replace(",", " ").splitlines(), ndmin=2)
    except (ValueError, UserWarning) as error:  # the former includes text that is not UTF-8
        raise SpiError(
            f"{path} cannot be read as a mask ({error}). Give a .npy file, HDF5 as FILE:/dataset, or text with one "
            "number a pixel in rows."
        ) from error
