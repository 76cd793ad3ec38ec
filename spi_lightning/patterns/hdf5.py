"""HDF5 for readers: files opened with errors that say what to do, and links followed with care.

Links may leave a file: an external link that points out of the file's own folder is refused, for it could bring any
file of this machine into the data. Where a dataset's values lie is looked after in
:mod:`~spi_lightning.patterns.storage`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from spi_lightning.errors import SpiError

H5_ERRORS = (OSError, RuntimeError, KeyError, ValueError)
"""What h5py raises where a file is damaged. Caught only around calls into h5py."""

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)  # what a network file system without locks says
_MAX_LINKS = 16  # soft and external links followed for one name


def open_h5(path: str | Path) -> h5py.File:
    """Open an HDF5 file for reading.

    Raises:
        SpiError: missing, a folder, empty, unreadable, not HDF5, truncated or damaged.
    """
    path = Path(path)
    check_file(path)
    try:
        try:
            return h5py.File(path, "r")
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            return h5py.File(path, "r", locking=False)
    except H5_ERRORS as error:
        reason = str(error)
        if "truncated" in reason:
            remedy = "The file is truncated: part of it is missing. Copy or download it again."
        elif not h5py.is_hdf5(path):
            remedy = "This is not an HDF5 (or CXI) file. Give the file that holds the patterns."
        else:
            remedy = "The file is damaged, or is being written at this moment. Copy it again or wait for its writer."
        raise SpiError(f"{path} cannot be opened as HDF5 ({reason}). {remedy}") from error


def check_file(path: Path) -> None:
    """Raise :class:`SpiError` unless ``path`` is a regular, non-empty file that this user may read."""
    try:
        if path.is_dir():
            raise SpiError(f"{path} is a folder. Name the files in it, for instance '{path}/*.cxi'.")
        if not path.exists():
            raise SpiError(f"{path} does not exist. Check the name, and the folder from which the command is run.")
        if not path.is_file():
            raise SpiError(f"{path} is not a regular file (a pipe or device?). Give a file of patterns.")
        if path.stat().st_size == 0:
            raise SpiError(f"{path} is empty (0 bytes). Copy or write it again.")
        with open(path, "rb"):
            pass
    except OSError as error:
        raise SpiError(f"{path} cannot be read: {error.strerror}. Check the permissions.") from error


@contextmanager
def damage_is_reported(path: str | Path, what: str) -> Iterator[None]:
    """Turn what h5py raises inside the block into a :class:`SpiError` that names ``path`` and ``what`` was read."""
    try:
        yield
    except H5_ERRORS as error:
        raise SpiError(
            f"{path}: {what} cannot be read ({error}). The file is damaged or incomplete: copy it again, or leave it "
            "out."
        ) from error


# --- links -------------------------------------------------------------------------------------------------------


def resolve(file: h5py.File, name: str) -> h5py.Group | h5py.Dataset | None:
    """Return what ``name`` leads to, or None where nothing is there. Soft links are followed, external ones checked.

    Raises:
        SpiError: an external link leaves the file's folder, links go round in circles, or what is there is damaged.
    """
    with damage_is_reported(file.filename, f"'{name}'"):
        found = _walk(file["/"], name, hops=0)
    if isinstance(found, h5py.Dataset) and (fault := _fault(found)):
        raise SpiError(
            f"{file.filename}: dataset '{name}' has a header that cannot be read ({fault}). It is damaged, or of a "
            "type that h5py does not know: copy the file again, or name another dataset."
        )
    return found


def _fault(dataset: h5py.Dataset) -> str | None:
    """Why a dataset's header cannot be read, or None. h5py reads it piece by piece, when first asked."""
    try:
        _ = (dataset.dtype, dataset.shape, dataset.chunks, dataset.is_virtual, dataset.external)
    except (*H5_ERRORS, TypeError) as error:  # TypeError: times, bit fields and others without a numpy equivalent
        return str(error)
    return None


def _walk(start: h5py.Group, name: str, hops: int) -> h5py.Group | h5py.Dataset | None:
    filename = start.file.filename
    if hops > _MAX_LINKS:
        raise SpiError(f"{filename}: links go round in circles at '{name}'. The file was put together wrongly.")
    here = start.file["/"] if name.startswith("/") else start
    for part in name.split("/"):
        if part in ("", "."):
            continue
        if not isinstance(here, h5py.Group):
            return None
        link = here.get(part, getlink=True)
        if isinstance(link, h5py.HardLink):
            here = here[part]
        elif isinstance(link, h5py.SoftLink):
            here = _walk(here, link.path, hops + 1)
        elif isinstance(link, h5py.ExternalLink):
            target = _linked_file(filename, link.filename, f"The external link '{here.name}/{part}'")
            here = _walk(open_h5(target)["/"], link.path, hops + 1)
        else:
            return None
    return here if isinstance(here, h5py.Group | h5py.Dataset) else None


def _linked_file(filename: str, target: str, what: str) -> Path:
    """The file that ``target`` means, seen from ``filename``; refused where it lies outside of that file's folder."""
    places = possible_places(filename, target)
    there = next(filter(os.path.exists, places), None)
    found = (there or places[-1]).resolve()
    folders = (Path(filename).parent.resolve(), Path(filename).resolve().parent)
    if not any(found.is_relative_to(folder) for folder in folders):
        raise SpiError(
            f"{filename}: {what} leads to '{target}', out of the file's own folder. Such links are refused, because "
            "they could bring any file of this machine into the data. Put both files into one folder and link by "
            "name, or give the other file itself."
        )
    if there is None:
        raise SpiError(
            f"{filename}: {target} does not exist, where {what[0].lower()}{what[1:]} leads. Put it beside this file."
        )
    return found


def possible_places(filename: str, target: str) -> list[Path]:
    """Where HDF5 looks for ``target``, which ``filename`` names, in its order: what is checked has to be what it opens.

    As it is, if absolute; else, or by its last part, beside the file, in the working folder, and beside the file that
    a symbolic link means.
    """
    name = os.path.basename(target) if os.path.isabs(target) else target
    beside = [Path(filename).parent / name, Path(name), Path(filename).resolve().parent / name]
    return [Path(target), *beside] if os.path.isabs(target) else beside


# --- listings ----------------------------------------------------------------------------------------------------


def list_datasets(file: h5py.File, limit: int = 1000) -> list[h5py.Dataset]:
    """The first ``limit`` datasets of a file by name, each once, refused links left out; storage is not checked."""
    found: list[h5py.Dataset] = []
    seen: set[h5py.Group] = set()
    groups = [file["/"]]
    with damage_is_reported(file.filename, "the list of its groups"):
        while groups and len(found) < limit:
            group = groups.pop(0)
            if group in seen:
                continue
            seen.add(group)
            for name in group:
                if not isinstance(name, str):
                    continue  # a damaged name
                link = group.get(name, getlink=True)
                if isinstance(link, h5py.HardLink):
                    entry = group[name]
                elif isinstance(link, h5py.ExternalLink):
                    try:
                        entry = _walk(group, name, hops=0)
                    except SpiError:
                        continue  # refused or missing; named when someone asks for it
                else:
                    continue
                if isinstance(entry, h5py.Dataset) and _fault(entry) is None:
                    found.append(entry)
                elif isinstance(entry, h5py.Group):
                    groups.append(entry)
    return found[:limit]


def describe(file: h5py.File, limit: int = 20) -> str:
    """What a file contains, for an error message: up to ``limit`` datasets with shape and dtype."""
    datasets = list_datasets(file, limit + 1)
    if not datasets:
        return "The file holds no dataset."
    lines = [f"  {d.name}  {d.shape}  {d.dtype}" for d in datasets[:limit]]
    return "The file holds:\n" + "\n".join(lines) + ("\n  ..." if len(datasets) > limit else "")
