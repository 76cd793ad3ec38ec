"""The shape of the config of spi-reproduce."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from spi_lightning.config.earlier import RECORDS
from spi_lightning.config.sweep import RECORD
from spi_lightning.errors import SpiError, require
from spi_lightning.report.comparison import Tolerance

TRAINING = "training"  # inside of the folder of a reproduction: the run that is trained again
NEEDED = "config.yaml"


@dataclass(frozen=True)
class Moved:
    """Where files of a run are, which had other places when it was trained; null: where they were."""

    path: str | tuple[str, ...] | None
    detector: str | None
    mask_file: str | None
    labels: str | None
    truth: str | None


@dataclass(frozen=True)
class Tolerances(Tolerance):
    """The same, checked."""

    def __post_init__(self) -> None:
        for name in ("absolute", "relative", "count", "probability"):
            value = getattr(self, name)
            require(value >= 0, f"tolerance.{name}", value, "0 or more")


@dataclass(frozen=True)
class ReproduceConfig:
    """Config of spi-reproduce."""

    run: str | int
    into: str | int
    data: Moved
    device: str | None
    strict: bool
    agreement: Literal["auto", "identical", "tolerance"]
    tolerance: Tolerances
    recipe: str | None

    def __post_init__(self) -> None:
        # Looked at here, before Hydra makes folders in a place that was only mistyped.
        run = Path(str(self.run))
        if (run / RECORD).is_file():
            raise SpiError(
                f"run: {run} is a sweep. Give the folder of one of its jobs: run={run}/NAME; or of several, with -m "
                "and commas."
            )
        if not (run / NEEDED).is_file():
            raise SpiError(
                f"run: {run} is not the folder of a training: it has no {NEEDED}. Give one: run=RUN; config.yaml, "
                "provenance.json and tables/ are enough."
            )
        _check_place(Path(str(self.into)), run)


def _check_place(into: Path, run: Path) -> None:
    """Refuse to write where something else stands."""
    if into.resolve() == run.resolve():
        raise SpiError(f"into: {into} is the run itself, whose results are not touched. Give another into=FOLDER.")
    if into.is_dir():
        there = {path.name for path in into.iterdir() if ".partial-" not in path.name}
        if there - RECORDS - {TRAINING, "tables"} or ("tables" in there and TRAINING not in there):
            raise SpiError(f"into: {into} holds something else than a reproduction. Give another into=FOLDER.")
        return
    above = next(folder for folder in [into, *into.absolute().parents] if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise SpiError(f"into: the folder {into} cannot be made in {above}. Choose another: into=FOLDER.")
