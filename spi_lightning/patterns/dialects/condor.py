"""Condor, the simulator: frames in ``entry_1/data_1``, the parameters of each frame in ``/detector`` and ``/source``.

``entry_1/data_1/data_fourier`` holds complex amplitudes and is left alone. Masks are stored for every frame. Condor's
mask bit 4096 means "artefact correction failed", which is bad; in CXI 1.6 it means "has signal", which is not.
"""

from __future__ import annotations

import numpy as np

from spi_lightning.instrument import HC_EV_NM, Geometry
from spi_lightning.patterns.dialects import Candidate
from spi_lightning.patterns.dialects._cxi import common_centre, first_number, photon_energy, plausible
from spi_lightning.patterns.dialects._dense import chosen_dataset, dense_segment
from spi_lightning.patterns.segment import DEFAULT_BAD_BITS, Segment
from spi_lightning.patterns.storage import read_all

NAME = "Condor CXI"
PRIORITY = 30

_DATA = "entry_1/data_1/data"
_CORRECTION_FAILED = 0x1000


def probe(candidate: Candidate) -> bool:
    """Whether there are frames where CXI has them, with Condor's amplitudes or its parameters at the root."""
    marks = ("entry_1/data_1/data_fourier", "detector/cx", "particles/particle_00")
    return candidate.dataset_at(_DATA) is not None and any(map(candidate.has, marks))


def segments(candidate: Candidate) -> list[Segment]:
    """The file's one stack."""
    dataset = chosen_dataset(candidate, _DATA)
    notes: list[str] = []
    return [
        dense_segment(
            candidate,
            dataset,
            dialect=NAME,
            geometry=_geometry(candidate, notes),
            mask=candidate.dataset_at("entry_1/data_1/mask"),
            default_bad_bits=DEFAULT_BAD_BITS | _CORRECTION_FAILED,
            notes=tuple(notes),
        )
    ]


def _geometry(candidate: Candidate, notes: list[str]) -> Geometry:
    distance = first_number(candidate, ["detector/distance"], notes)
    pixel = first_number(candidate, ["detector/pixel_size"], notes)
    energy = photon_energy(candidate, ["source/photon_energy_eV"], []) or photon_energy(
        candidate, ["source/photon_energy"], notes
    )
    if energy is None:
        _, wavelength = first_number(candidate, ["source/wavelength"], notes)
        energy = None if wavelength is None else HC_EV_NM / (wavelength * 1e9)
    return Geometry(
        photon_energy=energy,
        distance=plausible(candidate, "distance", distance, 100.0, "m", notes),
        pixel_size=plausible(candidate, "pixel size", pixel, 0.01, "m", notes),
        centre=_centre(candidate, notes),
    )


def _centre(candidate: Candidate, notes: list[str]) -> tuple[float, float] | None:
    axes = [candidate.dataset_at(f"detector/c{axis}") for axis in "xy"]
    if any(axis is None or axis.dtype.kind not in "iuf" or axis.shape in (None, (0,)) for axis in axes):
        return None
    x, y = (np.atleast_1d(read_all(axis)).astype(np.float64).ravel() for axis in axes if axis is not None)
    if len(x) != len(y):
        return None
    return common_centre(candidate, "detector/{cx,cy}", np.stack([x, y], axis=1), notes)
