"""What a user may choose about the training loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from spi_lightning.errors import require

Precision = Literal["32-true", "16-mixed", "bf16-mixed"]


@dataclass(frozen=True)
class TrainerSettings:
    """How long to train, how often to validate, with what arithmetic.

    Attributes:
        epochs: of as many iterations each as the sampler says.
        validate_every: epochs; checkpoints are written as often.
        precision: as Lightning calls it.
        compile: compile the network's training.
        gradient_clip: longest gradient; None leaves it as it is.
        threads: of computation on a CPU, of each process; 0: the cores, shared out among the folds at once.
        log_every: iterations; the loss of a batch and the learning rate are told to loggers as often.
        devices: that share each batch of a fold: GPUs, or processes on a CPU.
    """

    epochs: int
    validate_every: int
    precision: Precision
    compile: bool
    gradient_clip: float | None
    threads: int
    log_every: int = 50  # configs of earlier versions do not say it
    devices: int = 1  # as all trainings of earlier versions

    def __post_init__(self) -> None:
        require(self.epochs >= 1, "trainer.epochs", self.epochs, "1 or more")
        fits = 1 <= self.validate_every <= self.epochs
        require(
            fits, "trainer.validate_every", self.validate_every, f"from 1 to trainer.epochs, which is {self.epochs}"
        )
        clip = self.gradient_clip
        require(clip is None or clip > 0, "trainer.gradient_clip", clip, "positive, or null")
        require(self.log_every >= 1, "trainer.log_every", self.log_every, "1 or more iterations")
        require(self.threads >= 0, "trainer.threads", self.threads, "0 (one a core) or more")
        require(self.devices >= 1, "trainer.devices", self.devices, "1 or more")
