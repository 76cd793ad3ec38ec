"""What all folds of a run share, settled once and kept in the run folder."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from spi_lightning.config.check import checked
from spi_lightning.data.normalisation import Normalisation, Transform, fitted
from spi_lightning.data.split_file import read_splits, write_splits
from spi_lightning.data.splits import Splits, SplitSettings, make_splits
from spi_lightning.data.training_set import TrainingSet
from spi_lightning.errors import SpiError
from spi_lightning.patterns.frames import Frames
from spi_lightning.provenance import write_json


def settled_splits(folder: Path, run: Frames, settings: SplitSettings) -> Splits:
    """The division in ``folder/splits.json``, which is made where there is none.

    Folds that start at the same moment all make it, and all make the same.

    Raises:
        SpiError: the division that is there is of other data, or was made in another way.
    """
    path = folder / "splits.json"
    if not path.exists():
        write_splits(path, make_splits(run, settings))
    splits = read_splits(path, run)
    if splits.scheme != settings:
        raise SpiError(
            f"{path} was made in another way than these settings ask for: {splits.scheme}. Give another run=FOLDER, or "
            "split.* as it was."
        )
    return splits


def settled_normalisation(folder: Path, training_set: TrainingSet, transform: Transform) -> Normalisation:
    """The normalisation in ``folder/normalisation.json``, which is found from the training set where there is none."""
    path = folder / "normalisation.json"
    if not path.exists():
        write_json(path, asdict(fitted(training_set.blocks(), transform)))
    return read_normalisation(folder)


def read_normalisation(folder: Path) -> Normalisation:
    """The normalisation in ``folder/normalisation.json``.

    Raises:
        SpiError: there is none, or it is damaged.
    """
    path = folder / "normalisation.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SpiError(f"{path}: not a normalisation ({error}). Remove it; spi-train finds it anew.") from None
    return checked(Normalisation, values, str(path))
