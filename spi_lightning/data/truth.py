"""Labels to judge by besides those that were trained on: the truth of a simulation, another person's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from spi_lightning.data.groups import files_of
from spi_lightning.patterns.frames import Frames
from spi_lightning.patterns.labels import read_labels


@dataclass(frozen=True)
class TruthSettings:
    """Where they are.

    Attributes:
        path: a file of labels, of any kind that the data's own labels may have; None: the files of the patterns.
        dataset: inside of an HDF5 file; None where path is None too: there are none.
        kind: what a file of labels holds; in the patterns' own files it is always a label a pattern.
    """

    path: str | None = None
    dataset: str | None = None
    kind: Literal["auto", "classes", "singles"] = "auto"


def read_truth(run: Frames, settings: TruthSettings) -> np.ndarray | None:
    """Labels in the order of the run, int8 ``(n,)``: 1 single hit, 0 other, -1 unknown; None where there are none.

    Raises:
        SpiError: as :func:`~spi_lightning.patterns.labels.read_labels`.
    """
    if settings.path is not None:
        return read_labels(settings.path, run.ids, dataset=settings.dataset, kind=settings.kind)
    if settings.dataset is None:
        return None
    files = np.array([str(file) for file in files_of(run)])
    labels = np.full(len(run), -1, np.int8)
    for file in dict.fromkeys(files.tolist()):
        of_file = files == file
        labels[of_file] = read_labels(file, run.ids[of_file], dataset=settings.dataset, kind="classes")
    return labels
