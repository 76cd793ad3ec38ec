"""What a logger is: settings that open a tracked run, which is told numbers, and in the end all results."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from spi_lightning.config.sweep import RECORD
from spi_lightning.provenance import write_json
from spi_lightning.records import readable_mapping
from spi_lightning.tracking.exclusive import exclusive

State = Literal["complete", "failed", "stopped"]
IDS = "tracking.json"


@dataclass(frozen=True)
class Place:
    """Which run is tracked, and where it keeps files of its own.

    Attributes:
        run: folder of the whole training.
        fold: that is trained; None for the training as a whole, with its tables and figures.
    """

    run: Path
    fold: int | None = None

    @property
    def folder(self) -> Path:
        """Receives the run's id and its files."""
        return self.run if self.fold is None else self.run / "folds" / str(self.fold)

    @property
    def sweep(self) -> Path | None:
        """Folder of the sweep that the training is a job of; None where it stands alone."""
        return next((folder for folder in (self.run, self.run.parent) if (folder / RECORD).is_file()), None)

    @property
    def group(self) -> str:
        """What the runs that belong together have in common: the name of the sweep's folder, or of the training's."""
        return (self.sweep or self.run).name

    @property
    def name(self) -> str:
        """Of the run: that of its folder, and the fold."""
        return self.run.name if self.fold is None else f"{self.run.name}/fold {self.fold}"


@dataclass(frozen=True)
class About:
    """What is known of a run before it starts.

    Attributes:
        config: resolved.
        config_file: where it stands.
        facts: commit, fingerprints of data and labels, place of the checkpoint, by name.
    """

    config: dict[str, Any]
    config_file: Path
    facts: dict[str, Any]


@dataclass(frozen=True)
class Results:
    """What a finished training leaves.

    Attributes:
        metrics: numbers by names such as ``test/f1`` and ``contrast/singles + EM``; all finite.
        settings: those that tell it from others, by key.
        tables: CSV files, by name.
        figures: PNG files, by name.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    settings: dict[str, str | int | float | bool] = field(default_factory=dict)
    tables: dict[str, Path] = field(default_factory=dict)
    figures: dict[str, Path] = field(default_factory=dict)


class TrackedRun(Protocol):
    """An open run. What one of these raises ends its tracking, and nothing else."""

    def go_on_from(self, step: int) -> None:
        """Begin the curves after so many iterations; what was told of later ones by a killed process is told anew."""

    def log(self, values: Mapping[str, float], step: int, epoch: int) -> None:
        """Add finite numbers by name, after ``step`` iterations, in an epoch counted from 0."""

    def flush(self) -> None:
        """Put all that was told where a kill does not reach it."""

    def publish(self, results: Results) -> None:
        """Show the results, in place of earlier ones."""

    def close(self, state: State) -> None:
        """End the run."""


class Logger(Protocol):
    """What a config says of a logger. It must be picklable, and must import its library only when it opens a run."""

    package: ClassVar[str | None]
    """What has to be installed besides, which is also the name of the extra; None where nothing is missing."""

    def opened(self, place: Place, about: About) -> TrackedRun:
        """Begin a run, or go on with the one whose id is kept in the place's folder."""


def kept_id(folder: Path, name: str) -> str | None:
    """Id of the run that a logger has opened for a folder; None where there is none that can be read."""
    value = readable_mapping(folder / IDS).get(name)
    return None if value is None else str(value)


def keep_id(folder: Path, name: str, value: str) -> None:
    """Keep the id of a run in ``tracking.json`` of its folder."""
    with exclusive(folder / IDS):
        write_json(folder / IDS, readable_mapping(folder / IDS) | {name: value})


def plain_name(name: str) -> str:
    """A name of letters, digits and ``_ - . /`` alone, for loggers that take no others: ``contrast/singles_EM``."""
    return re.sub(r"[^A-Za-z0-9_./-]+", "_", name)
