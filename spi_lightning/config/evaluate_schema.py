"""The shape of the config of spi-evaluate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from spi_lightning.data.truth import TruthSettings
from spi_lightning.errors import SpiError
from spi_lightning.inference.thresholds import ThresholdSettings


@dataclass(frozen=True)
class EvaluateConfig:
    """Config of spi-evaluate."""

    run: str | int
    device: str
    threshold: float | ThresholdSettings | None
    truth: TruthSettings | None

    def __post_init__(self) -> None:
        # Looked for here, before Hydra makes folders in a place that was only mistyped.
        if not (Path(str(self.run)) / "splits.json").is_file():
            raise SpiError(
                f"run: {self.run} is not the folder of a training: it has no splits.json. Give one: run=RUN."
            )
