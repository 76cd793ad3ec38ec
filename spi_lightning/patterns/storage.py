"""Where the values of a dataset lie, and reading them only from there.

A dataset may lead out of its file, and could so bring any file of this machine into the data. Virtual datasets may lead
anywhere, as they do at facilities, but what they lead to must be HDF5. Values that lie as raw bytes in another file are
refused wherever they are met, in the dataset itself or behind a virtual one. So :func:`read_all` or
:func:`check_storage` comes before every read, of frames and of what lies beside them alike.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from spi_lightning.errors import SpiError
from spi_lightning.patterns.hdf5 import damage_is_reported, open_h5, possible_places, resolve

_MAX_DEPTH = 16  # virtual datasets behind each other


def read_all(dataset: h5py.Dataset) -> Any:
    """All values of a dataset, as h5py gives them.

    Raises:
        SpiError: see :func:`check_storage`; or the values are damaged.
    """
    check_storage(dataset)
    with damage_is_reported(dataset.file.filename, f"dataset '{dataset.name}'"):
        return dataset[()]


def check_storage(dataset: h5py.Dataset) -> None:
    """Make sure that a dataset's values can be had, and are in HDF5: nothing may be read before.

    Filters must be installed. No value may lie as raw bytes in another file. Where the dataset is virtual, all that it
    leads to must be there, for HDF5 says nothing where it is not and hands out zeros, and must itself be sound.

    Raises:
        SpiError: otherwise; names the filter, the file or the dataset.
    """
    _check_storage(dataset, 0, set())


def _check_storage(dataset: h5py.Dataset, depth: int, done: set[tuple[str, str]]) -> None:
    filename, where = dataset.file.filename, f"{dataset.file.filename}: dataset '{dataset.name}'"
    with damage_is_reported(filename, f"the layout of '{dataset.name}'"):
        creation = dataset.id.get_create_plist()
        filters = [creation.get_filter(i) for i in range(creation.get_nfilters())]
        raw_files = [os.fsdecode(entry[0]) for entry in dataset.external or []]
        mappings = dataset.virtual_sources() if dataset.is_virtual else []
    for number, _, _, label in filters:
        if not h5py.h5z.filter_avail(number):
            import hdf5plugin  # noqa: F401  # registers bitshuffle and others; only when needed, for it takes 0.1 s
        if not h5py.h5z.filter_avail(number):
            raise SpiError(
                f"{where} is compressed with the HDF5 filter {number} ({label.decode(errors='replace') or 'unnamed'}), "
                "which is not installed here. Rewrite the file with gzip, for instance with h5repack -f GZIP=4."
            )
    if raw_files:
        raise SpiError(
            f"{where} keeps its values as raw bytes in another file, {raw_files[0]}. That is refused, because it could "
            "bring any file of this machine into the data. Write the values into the HDF5 file itself."
        )
    if mappings:
        if depth > _MAX_DEPTH:
            raise SpiError(f"{where}: virtual datasets go round in circles. The file was put together wrongly.")
        _check_sources(dataset, mappings, depth, done)


def _check_sources(dataset: h5py.Dataset, mappings: list[Any], depth: int, done: set[tuple[str, str]]) -> None:
    """Follow a virtual dataset to all that it is made of."""
    filename, where = dataset.file.filename, f"{dataset.file.filename}: dataset '{dataset.name}' is virtual"
    again = "Bring the data back to where they were, or make the virtual file again."
    wanted: dict[str, dict[str, list[Any]]] = {}
    for mapping in mappings:
        if "%b" in mapping.file_name.replace("%%", "") + " " + mapping.dset_name.replace("%%", ""):
            raise SpiError(
                f"{where} with a pattern for names, '{mapping.file_name}:{mapping.dset_name}': what it leads to cannot "
                "be checked. Make the virtual file with the names themselves, or copy the data into one file."
            )
        names = wanted.setdefault(mapping.file_name.replace("%%", "%"), {})
        names.setdefault(mapping.dset_name.replace("%%", "%"), []).append(mapping)
    found = {name: filename if name == "." else _first_there(filename, name) for name in wanted}
    if missing := sorted(name for name, path in found.items() if path is None):
        raise SpiError(
            f"{where}, and {len(missing)} of the {len(wanted)} files that hold its values are missing, for instance "
            f"{missing[0]}. {again}"
        )
    for name, path in found.items():
        with open_h5(str(path)) as file:
            for inner, parts in wanted[name].items():
                source = resolve(file, inner)
                if not isinstance(source, h5py.Dataset):
                    raise SpiError(f"{where}, but {path} has no dataset '{inner}', which holds its values. {again}")
                if not all(_fits(part, source) for part in parts):
                    raise SpiError(
                        f"{where} and does not fit '{inner}' of {path}, whose shape is {source.shape} now. {again}"
                    )
                if (key := (source.file.filename, source.name)) not in done:
                    _check_storage(source, depth + 1, done)
                    done.add(key)
    try:
        mapped = sum(mapping.vspace.get_select_npoints() for mapping in mappings)
    except RuntimeError:
        return  # one without an end: the dataset is as large as what it leads to
    if mapped < dataset.size and not _marks_missing(np.asarray(dataset.fillvalue)):
        raise SpiError(
            f"{where}, and only {mapped} of its {dataset.size} values are anywhere: the rest would read as "
            f"{dataset.fillvalue}, as if it were data. {again}"
        )


def _first_there(filename: str, target: str) -> Path | None:
    return next(filter(os.path.exists, possible_places(filename, target)), None)


def _fits(mapping: Any, source: h5py.Dataset) -> bool:
    """Whether what a virtual dataset asks for is inside of its source."""
    shape = source.shape or ()
    try:
        if mapping.src_space.get_select_type() == h5py.h5s.SEL_ALL:
            return mapping.vspace.get_select_npoints() <= source.size
        _, last = mapping.src_space.get_select_bounds()
    except (RuntimeError, ValueError):
        return True  # a selection without an end, or of nothing
    return len(last) == len(shape) and all(i < n for i, n in zip(last, shape, strict=True))


def _marks_missing(fill: np.ndarray) -> bool:
    """Whether nobody takes the fill value for a measured one: NaN, or all bits set, as extra-data does in masks."""
    return bool(np.isnan(fill)) if fill.dtype.kind == "f" else fill.dtype.kind == "u" and fill == ~fill.dtype.type(0)
