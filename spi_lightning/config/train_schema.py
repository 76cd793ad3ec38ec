"""The shape of the config of spi-train and spi-evaluate."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from spi_lightning.config.downstream import Callbacks, Selections, Steps, check_downstream
from spi_lightning.config.schema import Data
from spi_lightning.config.targets import check_target
from spi_lightning.data.normalisation import Transform
from spi_lightning.data.sampler import SamplerSettings
from spi_lightning.data.splits import SplitSettings
from spi_lightning.data.truth import TruthSettings
from spi_lightning.errors import SpiError, require
from spi_lightning.inference.ensemble import check_mirrors
from spi_lightning.inference.mirroring import Mirror
from spi_lightning.inference.thresholds import ThresholdSettings
from spi_lightning.instrument import Geometry, check_given
from spi_lightning.training.settings import TrainerSettings
from spi_lightning.training.study import SearchSettings


@dataclass(frozen=True)
class NormalisationSettings:
    """How counts become what the network sees; mean and standard deviation are found from the training patterns."""

    transform: Transform


@dataclass(frozen=True)
class EnsembleSettings:
    """How the folds' models become one classifier."""

    mirrors: tuple[Mirror, ...]
    checkpoint: Literal["last", "best"]
    threshold: ThresholdSettings

    def __post_init__(self) -> None:
        check_mirrors(self.mirrors)


@dataclass(frozen=True)
class TrainConfig:
    """Config of spi-train."""

    run: str | int
    fold: int | None
    seed: int
    device: str
    workers: int
    folds_at_once: int | None
    instrument: Geometry
    data: Data
    split: SplitSettings
    normalisation: NormalisationSettings
    sampler: SamplerSettings
    augmentation: dict[str, Any]
    model: dict[str, Any]
    loss: dict[str, Any]
    optimizer: dict[str, Any]
    scheduler: dict[str, Any]
    trainer: TrainerSettings
    ensemble: EnsembleSettings
    truth: TruthSettings
    paper: Literal["MaxF1", "moreSH"] | None
    callbacks: Callbacks = field(default_factory=dict)  # configs of earlier versions have none of these
    steps: Steps = field(default_factory=dict)
    selections: Selections = field(default_factory=dict)
    moresh: str | None = None  # for selections=paper, which asks for it
    search: SearchSettings | None = None
    logger: dict[str, dict[str, Any] | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(self.workers >= 0, "workers", self.workers, "0 (none besides the main process) or more")
        at_once = self.folds_at_once
        require(at_once is None or at_once >= 1, "folds_at_once", at_once, "1 or more, or null for as many as pay")
        require(0 <= self.seed < 2**32, "seed", self.seed, "from 0 to 4294967295")
        check_given(self.instrument)
        if self.fold is not None and not 0 <= self.fold < self.split.folds:
            raise SpiError(
                f"fold is {self.fold}; with split.folds={self.split.folds} they go from 0 to {self.split.folds - 1}, "
                "and null trains them all."
            )
        size, devices = self.sampler.batch_size, self.trainer.devices
        if size % devices:
            raise SpiError(
                f"sampler.batch_size is {size}, which trainer.devices={devices} cannot share evenly. Choose a multiple "
                f"of {devices}, or another number of devices."
            )
        for name, block in self.logger.items():
            if block is not None:
                check_target(block, f"logger.{name}", "logger")
        for role in ("augmentation", "model", "loss", "optimizer", "scheduler"):
            check_target(getattr(self, role), role, role)
        check_downstream(self.callbacks, self.steps, self.selections)
