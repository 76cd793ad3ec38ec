"""The shape of spi-predict's config."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from spi_lightning.config.downstream import Callbacks, Selections, Steps, check_downstream
from spi_lightning.errors import SpiError, require
from spi_lightning.inference.cascade import CascadeSettings
from spi_lightning.inference.engine import Precision
from spi_lightning.inference.ensemble import check_mirrors, check_threshold
from spi_lightning.inference.mirroring import Mirror
from spi_lightning.instrument import Geometry, check_given


@dataclass(frozen=True)
class PredictData:
    """Which patterns to score. ``prepare`` is checked once the ensemble has said what stands for null."""

    path: str | tuple[str, ...]
    dataset: str | None
    detector: str | None
    mask_bits: int | None
    prepare: dict[str, Any]
    as_trained: bool = False


@dataclass(frozen=True)
class Export:
    """Which files of selected patterns to write."""

    cxi: bool
    emc: bool


@dataclass(frozen=True)
class PredictConfig:
    """Config of spi-predict."""

    ensemble: str
    run: str | int
    device: str
    batch: int | None
    threshold: float | None
    mirrors: tuple[Mirror, ...] | None
    precision: Precision
    cascade: CascadeSettings
    instrument: Geometry
    data: PredictData
    export: Export
    callbacks: Callbacks = field(default_factory=dict)  # configs of earlier versions have none of these
    steps: Steps = field(default_factory=dict)
    selections: Selections = field(default_factory=dict)
    moresh: str | None = None  # for selections=paper, which asks for it
    range: int = 16384
    parts: int | None = None
    part: int | None = None

    def __post_init__(self) -> None:
        require(self.batch is None or self.batch >= 1, "batch", self.batch, "1 or more patterns, or null")
        if self.threshold is not None:
            check_threshold(self.threshold)
        if self.mirrors is not None:
            check_mirrors(self.mirrors)
        check_given(self.instrument)
        require(self.range >= 1, "range", self.range, "1 or more patterns")
        require(self.parts is None or self.parts >= 1, "parts", self.parts, "1 or more jobs, or null")
        if self.part is not None and not 0 <= self.part < (self.parts or 0):
            several = (
                "parts is not given"
                if self.parts is None
                else f"with parts={self.parts} they go from 0 to {self.parts - 1}"
            )
            raise SpiError(
                f"part is {self.part}; {several}. Give the number of jobs and one of them, as in parts=4 part=0; or "
                "leave part=null for the whole run."
            )
        check_downstream(self.callbacks, self.steps, self.selections)
