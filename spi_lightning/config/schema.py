"""The shape of each command's config: what keys there are and what may stand behind them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from spi_lightning.errors import SpiError, require
from spi_lightning.instrument import Geometry, check_given
from spi_lightning.patterns.settings import PrepareSettings
from spi_lightning.simulation.settings import Simulation


@dataclass(frozen=True)
class SimulateOutput:
    """What spi-simulate writes beside the truth, and how."""

    compression: Literal["gzip", "bitshuffle", "none"]
    dragonfly: bool  # also .emc photons and the detector file
    batch: int  # patterns in one resumable part

    def __post_init__(self) -> None:
        require(self.batch >= 1, "output.batch", self.batch, "1 or more patterns")


@dataclass(frozen=True)
class SimulateConfig:
    """Config of spi-simulate."""

    run: str | int
    device: str
    workers: int
    instrument: Geometry
    simulate: Simulation
    output: SimulateOutput

    def __post_init__(self) -> None:
        require(self.workers >= 0, "workers", self.workers, "0 (one a core) or more")
        check_given(self.instrument)
        if self.output.dragonfly and self.simulate.detector.adu_per_photon is not None:
            raise SpiError(
                "output.dragonfly=true asks for photons, but simulate.detector.adu_per_photon makes raw frames. "
                "Leave one of them out."
            )


@dataclass(frozen=True)
class Data:
    """Which patterns to read, and what to do to them."""

    path: str | tuple[str, ...]
    dataset: str | None
    detector: str | None
    mask_bits: int | None
    prepare: PrepareSettings


@dataclass(frozen=True)
class InspectConfig:
    """Config of spi-inspect."""

    run: str | int
    patterns: int
    instrument: Geometry
    data: Data

    def __post_init__(self) -> None:
        require(self.patterns >= 1, "patterns", self.patterns, "1 or more, for the contact sheet")
        check_given(self.instrument)
