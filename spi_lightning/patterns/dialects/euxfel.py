"""European XFEL: the virtual CXI files of extra-data, and assembled images in the same layout.

``entry_1/data_1`` is a soft link to ``entry_1/instrument_1/detector_1``; frames are identified by
``entry_1/experiment_identifier`` ("train:pulse") and ``entry_1/{trainId,pulseId}``. The mask holds the calibration's
own bits, of which each one makes a pixel bad, and is stored for every frame.
"""

from __future__ import annotations

import numpy as np

from spi_lightning.errors import SpiError
from spi_lightning.patterns.dialects import Candidate
from spi_lightning.patterns.dialects._cxi import cxi_geometry, joined_ids, strings
from spi_lightning.patterns.dialects._dense import check_frames, chosen_dataset, dense_segment, first_dataset
from spi_lightning.patterns.segment import Segment
from spi_lightning.patterns.storage import read_all

NAME = "European XFEL CXI"
PRIORITY = 20

_DATA = ("entry_1/data_1/data", "entry_1/instrument_1/detector_1/data")
_ANY_BIT = 0xFFFFFFFF


def probe(candidate: Candidate) -> bool:
    """Whether frames are known by train and pulse."""
    return candidate.has("entry_1/trainId") and candidate.has("entry_1/pulseId") and any(map(candidate.has, _DATA))


def segments(candidate: Candidate) -> list[Segment]:
    """The file's one stack, with ids "trainId:pulseId"."""
    dataset = chosen_dataset(candidate, *_DATA)
    check_frames(candidate, dataset)
    notes: list[str] = []
    geometry = cxi_geometry(candidate, notes, centres=["entry_1/image_1/image_center"])
    masks = [f"{name.rpartition('/')[0]}/mask" for name in (dataset.name, *_DATA)]
    return [
        dense_segment(
            candidate,
            dataset,
            dialect=NAME,
            own_ids=_train_and_pulse(candidate, int(dataset.shape[0])),
            geometry=geometry,
            mask=first_dataset(candidate, masks),
            default_bad_bits=_ANY_BIT,
            notes=tuple(notes),
        )
    ]


def _train_and_pulse(candidate: Candidate, n_frames: int) -> np.ndarray:
    ready = strings(candidate, "entry_1/experiment_identifier", n_frames)
    if ready is not None:
        return ready
    numbers = []
    for name in ("entry_1/trainId", "entry_1/pulseId"):
        dataset = candidate.dataset_at(name)
        if dataset is None or dataset.shape != (n_frames,) or dataset.dtype.kind not in "iu":
            found = "no dataset" if dataset is None else f"{dataset.shape}, {dataset.dtype}"
            raise SpiError(
                f"{candidate.path}: '{name}' is {found}, but there are {n_frames} frames: one integer a frame was "
                "expected. Make the file again with extra-data's write_virtual_cxi."
            )
        numbers.append(read_all(dataset))
    return joined_ids(*numbers)
