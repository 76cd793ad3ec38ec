"""Learning rate over the epochs, as a factor on the optimizer's own."""

from __future__ import annotations

import math
from dataclasses import dataclass

from spi_lightning.errors import require


@dataclass(frozen=True)
class Poly:
    """(1 - epoch / epochs)^power: the paper's schedule, as nnU-Net has it.

    Attributes:
        power: 0.9 in the authors' code.
        warmup: epochs over which the rate rises linearly from 0; then it follows the curve.
    """

    power: float = 0.9
    warmup: int = 0

    def __post_init__(self) -> None:
        require(self.power >= 0, "power", self.power, "0 or more")
        require(self.warmup >= 0, "warmup", self.warmup, "0 or more epochs")

    def factor(self, epoch: int, epochs: int) -> float:
        """Factor in this epoch, counted from 0, of ``epochs``."""
        return _warmth(epoch, self.warmup) * (1 - min(epoch, epochs) / epochs) ** self.power


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from 1 to ``lowest``: I. Loshchilov & F. Hutter, ICLR (2017), without restarts.

    Attributes:
        lowest: factor after the last epoch.
        warmup: as for :class:`Poly`.
    """

    lowest: float = 0.0
    warmup: int = 0

    def __post_init__(self) -> None:
        require(0 <= self.lowest <= 1, "lowest", self.lowest, "between 0 and 1")
        require(self.warmup >= 0, "warmup", self.warmup, "0 or more epochs")

    def factor(self, epoch: int, epochs: int) -> float:
        """Factor in this epoch, counted from 0, of ``epochs``."""
        share = (1 + math.cos(math.pi * min(epoch, epochs) / epochs)) / 2
        return _warmth(epoch, self.warmup) * (self.lowest + (1 - self.lowest) * share)


def _warmth(epoch: int, warmup: int) -> float:
    return min(1.0, (epoch + 1) / (warmup + 1))
