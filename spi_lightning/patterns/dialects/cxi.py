"""Any other CXI file: ``entry_N/data_M/data``, or ``entry_N/instrument_K/detector_M/data``, frames on the first axis.

Files with several detector panels between frames and pixels (LCLS, European XFEL) are recognised here too, and refused
with the advice to assemble them.
"""

from __future__ import annotations

import re

import h5py

from spi_lightning.errors import SpiError
from spi_lightning.patterns.dialects import Candidate
from spi_lightning.patterns.dialects._cxi import cxi_geometry
from spi_lightning.patterns.dialects._dense import check_frames, dense_segment, first_dataset, is_stack
from spi_lightning.patterns.segment import Segment

NAME = "CXI"
PRIORITY = 50

_PARTS = (re.compile(r"entry_\d+"), re.compile(r"(data|instrument)_\d+"), re.compile(r"detector_\d+"))


def probe(candidate: Candidate) -> bool:
    """Whether a stack lies where CXI has it."""
    return bool(_stacks(candidate))


def segments(candidate: Candidate) -> list[Segment]:
    """The file's one stack."""
    stacks = _stacks(candidate)
    if len(stacks) > 1:
        listed = "\n".join(f"  {name}  {d.shape}  {d.dtype}" for name, d in stacks.items())
        raise SpiError(f"{candidate.path} holds several stacks:\n{listed}\nChoose one with data.dataset=PATH.")
    (name, dataset), *_ = stacks.items()
    check_frames(candidate, dataset)
    entry, _, rest = name.partition("/")
    group = name.rpartition("/")[0]
    number = group.rpartition("_")[2]
    detectors = list(dict.fromkeys([f"{entry}/instrument_1/detector_{number}", f"{entry}/instrument_1/detector_1"]))
    if rest.startswith("instrument_"):
        detectors = list(dict.fromkeys([group, *detectors]))
    notes: list[str] = []
    geometry = cxi_geometry(
        candidate,
        notes,
        detectors=detectors,
        sources=[f"{entry}/instrument_1/source_1"],
        centres=[f"{group}/image_center", f"{entry}/image_1/image_center"],
    )
    masks = [f"{group}/mask", *(f"{detector}/mask" for detector in detectors)]
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


def _stacks(candidate: Candidate) -> dict[str, h5py.Dataset]:
    """Stacks by name: ``data_M`` before ``detector_M``, links to the same data only once; or the one that was named."""
    if candidate.dataset is not None:
        name = candidate.dataset.strip("/")
        chosen = candidate.dataset_at(name)
        return {name: chosen} if chosen is not None and _PARTS[0].fullmatch(name.partition("/")[0]) else {}
    groups = []
    for entry in filter(_PARTS[0].fullmatch, candidate.names("/")):
        for part in filter(_PARTS[1].fullmatch, candidate.names(entry)):
            if part.startswith("data_"):
                groups.append((0, f"{entry}/{part}"))
            else:
                inner = candidate.names(f"{entry}/{part}")
                groups += [(1, f"{entry}/{part}/{detector}") for detector in filter(_PARTS[2].fullmatch, inner)]
    found: dict[str, h5py.Dataset] = {}
    for _, group in sorted(groups):
        dataset = candidate.dataset_at(f"{group}/data")
        if dataset is not None and is_stack(dataset) and dataset not in found.values():
            found[f"{group}/data"] = dataset
    return found
