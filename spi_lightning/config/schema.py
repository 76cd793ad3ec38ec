"""The shape of each command's config: what keys there are and what may stand behind them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from spi_lightning.instrument import Geometry
from spi_lightning.patterns.settings import PrepareSettings
from spi_lightning.simulation.settings import Simulation


@dataclass(frozen=True)
class SimulateOutput:
    """What spi-simulate writes beside the truth, and how."""

    compression: Literal["gzip", "bitshuffle", "none"]
    dragonfly: bool  # also .emc photons and the detector file
    batch: int  # patterns in one resumable part


@dataclass(frozen=True)
class SimulateConfig:
    """Config of spi-simulate."""

    run: str
    device: str
    workers: int
    instrument: Geometry
    simulate: Simulation
    output: SimulateOutput


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

    run: str
    patterns: int
    instrument: Geometry
    data: Data
