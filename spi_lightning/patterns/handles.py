"""HDF5 files and datasets that a process keeps open between reads.

Handles do not survive fork or pickle: nothing here hands out a handle that outlives a call, and a forked child opens
its own.
"""

from __future__ import annotations

import math
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py

from spi_lightning.errors import SpiError
from spi_lightning.patterns.chunks import Packing, packing_of
from spi_lightning.patterns.hdf5 import damage_is_reported, open_h5, resolve
from spi_lightning.patterns.storage import check_storage

_MAX_HANDLES = 512  # files; systems allow 1024 or more
_MAX_DATASETS = 512
_MAX_CACHED = 4  # of them with a cache of decoded chunks, which may fill
_CHUNK_CACHE = 16 * 2**20  # bytes; a chunk of many frames is decoded once when they are read in order
_LARGEST_CHUNK = 128 * 2**20  # bytes; what is larger is decoded again for every block


@dataclass(frozen=True)
class Opened:
    """A dataset that is kept open, and how its chunks are packed; None where only the library can read them."""

    dataset: h5py.Dataset
    packing: Packing | None


_Key = tuple[int, str, int, int]  # process, path, inode, time of the last change
_handles: OrderedDict[_Key, h5py.File] = OrderedDict()
_datasets: OrderedDict[tuple[_Key, str], Opened] = OrderedDict()  # an open dataset keeps its chunk cache
_inherited: list[object] = []  # a parent's handles: kept, for releasing them would touch the parent's library state
_lock = threading.RLock()  # threads do not speed h5py up, so whole reads are serialised


@contextmanager
def shared_dataset(path: str | Path, name: str) -> Iterator[h5py.Dataset]:
    """The dataset of :func:`shared_frames` alone."""
    with shared_frames(path, name) as opened:
        yield opened.dataset


@contextmanager
def shared_frames(path: str | Path, name: str) -> Iterator[Opened]:
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
            _datasets[key, name] = _opened(_handles[key], path, name)
            _make_room()
        _datasets.move_to_end((key, name))
        yield _datasets[key, name]


def _opened(file: h5py.File, path: str | Path, name: str) -> Opened:
    dataset = resolve(file, name)
    if not isinstance(dataset, h5py.Dataset):
        raise SpiError(f"{path} was changed while in use: it has no dataset '{name}' any more. Start again.")
    check_storage(dataset)
    if dataset.chunks is None:
        return Opened(dataset, None)
    home, place = dataset.file, dataset.name
    chunk = math.prod(dataset.chunks) * dataset.dtype.itemsize
    cache = max(_CHUNK_CACHE, chunk if chunk <= _LARGEST_CHUNK else 0) if _many_frames_a_chunk(dataset) else 0
    with damage_is_reported(path, f"dataset '{name}'"):
        access = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
        slots, _, _ = access.get_chunk_cache()
        access.set_chunk_cache(slots, cache, 1.0)
        dataset.id.close()  # the settings of the first opening hold for all
        dataset = h5py.Dataset(h5py.h5d.open(home.id, place.encode(), access))
    return Opened(dataset, packing_of(dataset))


def _many_frames_a_chunk(dataset: h5py.Dataset) -> bool:
    return dataset.chunks is not None and dataset.chunks[0] > 1


def _make_room() -> None:
    """Close the datasets that were not used for longest."""
    while len(_datasets) > _MAX_DATASETS:
        _datasets.popitem(last=False)
    if _many_frames_a_chunk(_datasets[next(reversed(_datasets))].dataset):
        cached = [entry for entry, opened in _datasets.items() if _many_frames_a_chunk(opened.dataset)]
        for entry in cached[:-_MAX_CACHED]:
            del _datasets[entry]


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
