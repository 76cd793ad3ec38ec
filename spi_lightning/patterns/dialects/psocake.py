"""psocake (LCLS): frames in ``entry_1/data_1/data``, a soft link to ``instrument_1/detector_1/data``.

Its ``entry_1/experimental_identifier`` is misspelt, and tells it from other CXI files. Distance, pixel size and energy
are stored for every frame. ``source_1/pulse_energy`` really holds the energy of the electron beam in MeV: not read.
"""

from __future__ import annotations

from spi_lightning.instrument import Geometry
from spi_lightning.patterns.dialects import Candidate
from spi_lightning.patterns.dialects._cxi import cxi_geometry, photon_energy
from spi_lightning.patterns.dialects._dense import chosen_dataset, dense_segment, first_dataset
from spi_lightning.patterns.segment import Segment

NAME = "psocake CXI"
PRIORITY = 40

_DETECTOR = "entry_1/instrument_1/detector_1"
_DATA = ("entry_1/data_1/data", f"{_DETECTOR}/data", f"{_DETECTOR}/photons")


def probe(candidate: Candidate) -> bool:
    """Whether psocake's marks are there."""
    marks = ("entry_1/experimental_identifier", "entry_1/result_1/nHits", "entry_1/result_1/nPeaksAll", "psana/input")
    return any(map(candidate.has, marks)) and any(candidate.dataset_at(name) is not None for name in _DATA)


def segments(candidate: Candidate) -> list[Segment]:
    """The file's one stack."""
    dataset = chosen_dataset(candidate, *_DATA)
    notes: list[str] = []
    geometry = cxi_geometry(candidate, notes)
    if geometry.photon_energy is None:
        energy = photon_energy(candidate, ["LCLS/photon_energy_eV"], [])  # that this one is in eV needs no note
        geometry = geometry.filled_from(Geometry(photon_energy=energy))
    if candidate.has("entry_1/instrument_1/source_1/pulse_energy"):
        notes.append(
            f"{candidate.path}: psocake's 'source_1/pulse_energy' is the energy of the electron beam in MeV; not used."
        )
    photons = candidate.dataset_at(f"{_DETECTOR}/photons")
    if photons is not None and photons != dataset:
        notes.append(f"{candidate.path} also holds photon counts; use them with data.dataset={_DETECTOR}/photons.")
    masks = ("entry_1/data_1/mask", f"{_DETECTOR}/mask")
    return [
        dense_segment(
            candidate,
            dataset,
            dialect=NAME,
            geometry=geometry,
            mask=first_dataset(candidate, masks),
            notes=tuple(notes),
        )
    ]
