"""CXI with ``entry_N/image_K``: the paper's own tools (spi-processing, spi-em-class), and what we write ourselves.

``image_K`` holds ``data (N, y, x)``, ``mask (y, x)`` (0 = good), ``image_center`` (x, y, z in pixels), in our own files
also ``ids`` and ``labels``. There may be several of them in a file.
"""

from __future__ import annotations

import re

import h5py

from spi_lightning.patterns.dialects import Candidate
from spi_lightning.patterns.dialects._cxi import cxi_geometry
from spi_lightning.patterns.dialects._dense import dense_segment, first_dataset, is_stack
from spi_lightning.patterns.segment import Segment

NAME = "CXI images"
PRIORITY = 10

_ENTRY, _IMAGE = re.compile(r"entry_\d+"), re.compile(r"image_(\d+)")


def probe(candidate: Candidate) -> bool:
    """Whether there is an ``image_K`` with a stack, or with the dataset that the user named."""
    groups = _groups(candidate)
    if candidate.dataset is None:
        return any(map(is_stack, groups.values()))
    return bool(_chosen(candidate, groups))


def segments(candidate: Candidate) -> list[Segment]:
    """One segment for each ``image_K``, in the order of K."""
    groups = _groups(candidate)
    stem = candidate.path.stem
    found = []
    for group, dataset in _chosen(candidate, groups).items():
        entry, _, image = group.rpartition("/")
        number = image.removeprefix("image_")
        places = [group, f"{group}/detector_{number}", f"{group}/detector_1"]
        notes: list[str] = []
        geometry = cxi_geometry(
            candidate,
            notes,
            detectors=[*places[1:], f"{entry}/instrument_1/detector_{number}", f"{entry}/instrument_1/detector_1"],
            sources=[f"{group}/source_1", f"{entry}/instrument_1/source_1"],
            centres=[f"{group}/image_center"],
        )
        several = len({path.partition("/")[0] for path in groups}) > 1  # entries: hardly ever
        name = group if several else image
        found.append(
            dense_segment(
                candidate,
                dataset,
                dialect=NAME,
                beside=group,
                # Of all groups, also empty ones, so that ids do not depend on what lies in the others.
                id_prefix=f"{stem}:{name}" if len(groups) > 1 else stem,
                geometry=geometry,
                mask=first_dataset(candidate, [f"{place}/mask" for place in places]),
                notes=tuple(notes),
            )
        )
    return found


def _groups(candidate: Candidate) -> dict[str, h5py.Dataset]:
    """Path of each ``image_K`` that has data, in the order of entry and K, with its data, of whatever kind."""
    found = []
    for entry in filter(_ENTRY.fullmatch, candidate.names("/")):
        for image in candidate.names(entry):
            number = _IMAGE.fullmatch(image)
            dataset = candidate.dataset_at(f"{entry}/{image}/data") if number else None
            if number and dataset is not None:
                found.append((entry, int(number[1]), f"{entry}/{image}", dataset))
    return {path: dataset for _, _, path, dataset in sorted(found, key=lambda f: f[:2])}


def _chosen(candidate: Candidate, groups: dict[str, h5py.Dataset]) -> dict[str, h5py.Dataset]:
    """All groups with frames, or the one to which the dataset that the user named belongs, with that as its data."""
    if candidate.dataset is None:
        stacks = {path: data for path, data in groups.items() if is_stack(data)}
        # A selection can leave a group without frames; it is an error only where there are no frames at all.
        return {path: data for path, data in stacks.items() if data.size != 0} or stacks
    wanted = candidate.dataset_at(candidate.dataset)
    if wanted is None:  # a group was named
        return {path: data for path, data in groups.items() if path == candidate.dataset.strip("/")}
    return {
        path: wanted for path, data in groups.items() if wanted == data or wanted.name.rpartition("/")[0] == f"/{path}"
    }
