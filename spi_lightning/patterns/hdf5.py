"""HDF5 for readers: files opened with errors that say what to do, links followed with care, handles kept safely.

Two things need care in files that others wrote. Links may leave the file: an external link (or external raw storage)
that points out of the file's own folder is refused, for it could bring any file of this machine into the data. And
handles do not survive fork or pickle: nothing here hands out a handle that outlives a call; :func:`shared_dataset`
keeps some open for the process that opened them, and a forked child opens its own.
"""

from __future__ import annotations

import errno
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from spi_lightning.errors import SpiError

H5_ERRORS = (OSError, RuntimeError, KeyError, ValueError)
"""What h5py raises where a file is damaged. Caught only around calls into h5py."""

_CHUNK_CACHE = 16 * 2**20  # bytes; a dataset with many frames in a chunk is decoded once when read in order
_MAX_HANDLES = 128
_MAX_DATASETS = 4
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)  # what a network file system without locks says
_MAX_LINKS = 16  # soft and external links followed for one name


def open_h5(path: str | Path) -> h5py.File:
    """Open an HDF5 file for reading.

    Raises:
        SpiError: missing, a folder, empty, unreadable, not HDF5, truncated or damaged.
    """
    path = Path(path)
    check_file(path)
    options = {"mode": "r", "rdcc_nbytes": _CHUNK_CACHE, "rdcc_w0": 1.0}
    try:
        try:
            return h5py.File(path, **options)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            return h5py.File(path, locking=False, **options)
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


# --- handles -----------------------------------------------------------------------------------------------------

_Key = tuple[int, str, int, int]  # process, path, inode, time of the last change
_handles: OrderedDict[_Key, h5py.File] = OrderedDict()
_datasets: OrderedDict[tuple[_Key, str], h5py.Dataset] = OrderedDict()  # an open dataset keeps its chunk cache
_inherited: list[object] = []  # a parent's handles: kept, for releasing them would touch the parent's library state
_lock = threading.RLock()  # threads do not speed h5py up, so whole reads are serialised


@contextmanager
def shared_dataset(path: str | Path, name: str) -> Iterator[h5py.Dataset]:
    """Lend this process's open dataset for the length of the block (one thread at a time).

    A file that was replaced or written to since it was opened is opened anew.

    Raises:
        SpiError: the file or the dataset is not there any more, or cannot be opened.
    """
    try:
        status = os.stat(path)
    except OSError as error:
        raise SpiError(f"{path} can no longer be read: {error.strerror}. Was it moved while in use?") from error
    key = (os.getpid(), str(path), status.st_ino, status.st_mtime_ns)
    with _lock:
        if key not in _handles:
            for stale in [k for k in _handles if k[:2] == key[:2]]:
                _close(stale)
            _handles[key] = open_h5(path)
        _handles.move_to_end(key)
        if len(_handles) > _MAX_HANDLES:
            _close(next(iter(_handles)))
        if (key, name) not in _datasets:
            dataset = resolve(_handles[key], name)
            if not isinstance(dataset, h5py.Dataset):
                raise SpiError(f"{path} was changed while in use: it has no dataset '{name}' any more. Start again.")
            _datasets[key, name] = dataset
        _datasets.move_to_end((key, name))
        if len(_datasets) > _MAX_DATASETS:
            _datasets.popitem(last=False)
        yield _datasets[key, name]


def close_files() -> None:
    """Close every handle that this process keeps; the next read opens what it needs again.

    A file that is held for reading cannot be opened for writing in the same process.
    """
    with _lock:
        for key in list(_handles):
            _close(key)


def _close(key: _Key) -> None:
    for entry in [entry for entry in _datasets if entry[0] == key]:
        del _datasets[entry]
    _handles.pop(key).close()


def _after_fork() -> None:
    global _lock
    _lock = threading.RLock()  # another thread of the parent may have held the old one
    _inherited.extend([*_datasets.values(), *_handles.values()])
    _datasets.clear()
    _handles.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


# --- links and listings ------------------------------------------------------------------------------------------


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
            target = _inside_folder(filename, link.filename, f"The external link '{here.name}/{part}'")
            here = _walk(open_h5(target)["/"], link.path, hops + 1)
        else:
            return None
    return here if isinstance(here, h5py.Group | h5py.Dataset) else None


def _inside_folder(filename: str, target: str, what: str) -> Path:
    """The file that ``target`` means, seen from ``filename``; refused where it lies outside of that file's folder."""
    folder = Path(filename).resolve().parent
    found = (Path(filename).parent / target).resolve()
    if not found.is_relative_to(folder):
        raise SpiError(
            f"{filename}: {what} leads to '{target}', out of the file's own folder. Such links are refused, because "
            "they could bring any file of this machine into the data. Put both files into one folder and link by "
            "name, or give the other file itself."
        )
    return found


def check_storage(dataset: h5py.Dataset) -> None:
    """Make sure that the dataset's values can be had: filters installed, virtual sources present, raw files near by.

    Raises:
        SpiError: otherwise; names the filter or the files.
    """
    filename, where = dataset.file.filename, f"{dataset.file.filename}: dataset '{dataset.name}'"
    with damage_is_reported(filename, f"the layout of '{dataset.name}'"):
        creation = dataset.id.get_create_plist()
        filters = [creation.get_filter(i) for i in range(creation.get_nfilters())]
        raw_files = [entry[0] for entry in dataset.external or []]
        sources = {source.file_name for source in dataset.virtual_sources()} if dataset.is_virtual else set()
    for number, _, _, label in filters:
        if not h5py.h5z.filter_avail(number):
            import hdf5plugin  # noqa: F401  # registers bitshuffle and others; only when needed, for it takes 0.1 s
        if not h5py.h5z.filter_avail(number):
            raise SpiError(
                f"{where} is compressed with the HDF5 filter {number} ({label.decode(errors='replace') or 'unnamed'}), "
                "which is not installed here. Rewrite the file with gzip, for instance with h5repack -f GZIP=4."
            )
    for raw in raw_files:
        _inside_folder(filename, os.fsdecode(raw), f"Dataset '{dataset.name}' keeps its values in another file; it")
    # Virtual sources may lie anywhere: facilities keep them elsewhere, and they hold arrays only. But HDF5 says
    # nothing when one is missing: it hands out the fill value as if it were data.
    missing = [
        source
        for source in sorted(sources)
        if source != "." and "%" not in source and not (Path(filename).parent / source).exists()
    ]
    if missing:
        raise SpiError(
            f"{where} is virtual, and {len(missing)} of the {len(sources)} files that hold its values are missing, "
            f"for instance {missing[0]}. Bring them back to where they were, or make the virtual file again."
        )


def list_datasets(file: h5py.File, limit: int = 1000) -> list[h5py.Dataset]:
    """The first ``limit`` datasets of a file in natural order of their names, each once, refused links left out."""
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
