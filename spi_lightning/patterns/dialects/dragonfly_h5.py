"""Dragonfly's photon lists in HDF5, with a detector file that says where the pixels are.

Root datasets ``num_pix`` (1,), and ``place_ones``, ``place_multi``, ``count_multi``: lists of int32, one a frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from spi_lightning.errors import SpiError
from spi_lightning.instrument import Geometry
from spi_lightning.patterns.dialects import Candidate
from spi_lightning.patterns.dialects._dragonfly import detector_for, detector_note
from spi_lightning.patterns.dialects.dragonfly_emc import add_photons
from spi_lightning.patterns.handles import shared_dataset
from spi_lightning.patterns.hdf5 import damage_is_reported
from spi_lightning.patterns.segment import Segment
from spi_lightning.patterns.storage import read_all

NAME = "Dragonfly photons"
PRIORITY = 75

_LISTS = ("place_ones", "place_multi", "count_multi")


@dataclass(frozen=True)
class PhotonLists:
    """The frames of Dragonfly's HDF5 photon lists as a :class:`~spi_lightning.patterns.segment.Source`."""

    path: Path
    n_pixels: int

    @property
    def chunk(self) -> int:
        """Lists are read one by one."""
        return 1

    def read(self, rows: np.ndarray, out: np.ndarray) -> None:
        """See :class:`~spi_lightning.patterns.segment.Source`; lists are expanded for the rows asked for only."""
        flat = out.reshape(len(rows), self.n_pixels)
        flat[...] = 0
        columns: list[list[np.ndarray]] = []
        for name in _LISTS:
            with shared_dataset(self.path, name) as dataset, damage_is_reported(self.path, f"a list in '{name}'"):
                columns.append([dataset[row] for row in rows.tolist()])
        for place, (ones, places, counts) in enumerate(zip(*columns, strict=True)):
            add_photons(flat[place], ones, places, counts, f"{self.path}: frame {rows[place]}")


def probe(candidate: Candidate) -> bool:
    """Whether the three lists are there."""
    return candidate.dataset is None and all(candidate.dataset_at(name) is not None for name in _LISTS)


def segments(candidate: Candidate) -> list[Segment]:
    """The file's frames."""
    lists = [dataset for name in _LISTS if (dataset := candidate.dataset_at(name)) is not None]
    for dataset in lists:
        items = h5py.check_vlen_dtype(dataset.dtype)
        of_integers = items is not None and np.dtype(items).kind in "iu"
        if dataset.shape != lists[0].shape or len(dataset.shape) != 1 or not of_integers:
            raise SpiError(
                f"{candidate.path}: '{dataset.name}' is {dataset.shape}, {dataset.dtype}; one list of integers a frame "
                f"was expected, as in '{lists[0].name}' {lists[0].shape}. Make the file again."
            )
    if lists[0].shape[0] == 0:
        raise SpiError(f"{candidate.path} holds no frames. Leave this file out.")
    n_pixels = _num_pix(candidate)
    detector = detector_for(candidate, n_pixels)
    return [
        Segment(
            path=candidate.path,
            dialect=NAME,
            dataset="",
            n_frames=int(lists[0].shape[0]),
            shape=detector.shape,
            dtype=np.dtype(np.int32),
            source=PhotonLists(candidate.path, n_pixels),
            id_prefix=candidate.path.stem,
            geometry=Geometry(centre=detector.centre),
            mask=detector.mask,
            notes=detector_note(candidate, detector),
        )
    ]


def _num_pix(candidate: Candidate) -> int:
    dataset = candidate.dataset_at("num_pix")
    if dataset is None or dataset.size != 1 or dataset.dtype.kind not in "iu":
        raise SpiError(f"{candidate.path} does not say how many pixels there are: 'num_pix' (one integer) is missing.")
    return int(np.ravel(read_all(dataset))[0])
