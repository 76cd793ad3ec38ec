"""The shape of the config of spi-select and spi-report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from spi_lightning.config.downstream import Callbacks, Selections, Steps, check_downstream
from spi_lightning.config.sweep import RECORD
from spi_lightning.errors import SpiError
from spi_lightning.report.sweep_groups import check_metric


@dataclass(frozen=True)
class SelectExport:
    """Which files of each selection to write."""

    csv: bool
    cxi: bool
    emc: bool


@dataclass(frozen=True)
class Where:
    """Where the patterns are now; None: where they were."""

    path: str | tuple[str, ...] | None


@dataclass(frozen=True)
class SelectConfig:
    """Config of spi-select."""

    run: str | int
    data: Where
    ensemble: str | None
    device: str
    export: SelectExport
    callbacks: Callbacks
    steps: Steps
    selections: Selections
    moresh: str | None = None  # for selections=paper, which asks for it

    def __post_init__(self) -> None:
        # Looked for here, before Hydra makes folders in a place that was only mistyped.
        if not (Path(str(self.run)) / "scores.h5").is_file():
            raise SpiError(
                f"run: {self.run} has no scores.h5, as spi-train and spi-predict leave it. Give one: run=RUN."
            )
        check_downstream(self.callbacks, self.steps, self.selections)


@dataclass(frozen=True)
class ReportConfig:
    """Config of spi-report."""

    run: str | int
    metric: str

    def __post_init__(self) -> None:
        folder = Path(str(self.run))
        if not any((folder / name).is_file() for name in ("config.yaml", RECORD)):
            raise SpiError(
                f"run: {self.run} is not the folder of a run or a sweep: it has no config.yaml and no {RECORD}. Give "
                "one: run=RUN."
            )
        check_metric(self.metric)
