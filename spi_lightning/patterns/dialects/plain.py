"""Any HDF5 file: the dataset that the user names, or the only stack of patterns in the file."""

from __future__ import annotations

import h5py

from spi_lightning.errors import SpiError
from spi_lightning.patterns.dialects import Candidate
from spi_lightning.patterns.dialects._dense import check_frames, chosen_dataset, dense_segment, is_stack
from spi_lightning.patterns.hdf5 import list_datasets
from spi_lightning.patterns.segment import Segment

NAME = "HDF5"
PRIORITY = 1000  # last: it takes anything

_BESIDE = ("mask", "gain", "data_error")  # stacks that accompany patterns


def probe(candidate: Candidate) -> bool:
    """Whether a dataset was named, or a stack is found."""
    return candidate.file is not None and (candidate.dataset is not None or bool(_stacks(candidate)))


def segments(candidate: Candidate) -> list[Segment]:
    """The one stack; a ``mask`` beside it is used if it fits."""
    assert candidate.file is not None
    stacks = _stacks(candidate) if candidate.dataset is None else []
    if len(stacks) > 1:
        listed = "\n".join(f"  {d.name}  {d.shape}  {d.dtype}" for d in stacks[:20])
        raise SpiError(
            f"{candidate.path} holds several stacks that could be the patterns:\n{listed}\nChoose one with "
            "data.dataset=PATH."
        )
    dataset = stacks[0] if stacks else chosen_dataset(candidate)
    check_frames(candidate, dataset)
    mask = candidate.dataset_at(f"{dataset.name.rpartition('/')[0]}/mask")
    notes: tuple[str, ...] = ()
    if mask is not None:
        notes = (f"{candidate.path}: '{mask.name}' beside the data was taken as the mask, as CXI has it: 0 = good.",)
    return [dense_segment(candidate, dataset, dialect=NAME, mask=mask, notes=notes)]


def _stacks(candidate: Candidate) -> list[h5py.Dataset]:
    assert candidate.file is not None
    stacks = [dataset for dataset in list_datasets(candidate.file) if is_stack(dataset)]
    return [dataset for dataset in stacks if dataset.name.rpartition("/")[2] not in _BESIDE]
