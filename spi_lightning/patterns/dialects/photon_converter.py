"""The photon-converted LCLS data of CXIDB 58 on which Dragonfly's tutorial is built.

``photonConverter/<detector>/photonCount (N, y, x)``. The files say nothing of mask and instrument.
"""

from __future__ import annotations

from spi_lightning.errors import SpiError
from spi_lightning.patterns.dialects import Candidate
from spi_lightning.patterns.dialects._dense import chosen_dataset, dense_segment
from spi_lightning.patterns.segment import Segment

NAME = "photonConverter"
PRIORITY = 60

_TUTORIAL = ((260, 257), "For CXIDB 58 Dragonfly's tutorial gives 0.586 m, 0.775 nm (1600 eV) and 0.3 mm pixels.")


def probe(candidate: Candidate) -> bool:
    """Whether there is a photonConverter group with photons."""
    return bool(_names(candidate))


def segments(candidate: Candidate) -> list[Segment]:
    """The stack of the one detector, or of the one that the user chose."""
    names = _names(candidate)
    if len(names) > 1 and candidate.dataset is None:
        raise SpiError(f"{candidate.path} holds several detectors: {names}. Choose one with data.dataset=PATH.")
    dataset = chosen_dataset(candidate, *names)
    notes = (f"{candidate.path}: {_TUTORIAL[1]}",) if (dataset.shape or ())[1:] == _TUTORIAL[0] else ()
    return [dense_segment(candidate, dataset, dialect=NAME, notes=notes)]


def _names(candidate: Candidate) -> list[str]:
    names = [f"photonConverter/{detector}/photonCount" for detector in candidate.names("photonConverter")]
    return [name for name in names if candidate.dataset_at(name) is not None]
