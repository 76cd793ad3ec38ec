"""Photon counts → what a network sees."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch

from spi_lightning.errors import SpiError, require

Transform = Literal["none", "sqrt", "log"]


@dataclass(frozen=True)
class Normalisation:
    """Zero mean and unit standard deviation over the training patterns, after an optional transform of the counts.

    The paper's has no transform, mean 0.342 and standard deviation 2.336 photons a pixel.

    Attributes:
        transform: none: photons; sqrt: their square root, whose noise is alike for every count; log: log(1 + photons).
        mean: of the transformed counts, over all pixels (masked ones hold 0).
        sd: their standard deviation.
    """

    transform: Transform
    mean: float
    sd: float

    def __post_init__(self) -> None:
        require(math.isfinite(self.mean), "normalisation.mean", self.mean, "finite")
        require(math.isfinite(self.sd) and self.sd > 0, "normalisation.sd", self.sd, "positive")

    @property
    def zero(self) -> float:
        """What a pixel without photons becomes; borders, cutouts and masked pixels are filled with it."""
        return -self.mean / self.sd

    def __call__(self, counts: torch.Tensor) -> torch.Tensor:
        """Counts of any shape and number type → float32 of the same shape."""
        return (_transformed(counts.to(torch.float32), self.transform) - self.mean) / self.sd


def fitted(blocks: Iterable[torch.Tensor], transform: Transform = "none") -> Normalisation:
    """The normalisation of these patterns.

    Args:
        blocks: counts ``(n, rows, columns)`` of any number type, some at a time.
        transform: of the counts.

    Raises:
        SpiError: there is no pattern, or all pixels are alike.
    """
    pixels, total, squares = 0, 0.0, 0.0
    for block in blocks:
        values = _transformed(block.to(torch.float32), transform).to(torch.float64)
        pixels += values.numel()
        total += float(values.sum())
        squares += float(values.square().sum())
    if pixels == 0:
        raise SpiError("There is no training pattern to normalise by.")
    mean = total / pixels
    variance = squares / pixels - mean**2
    if not variance > 1e-12:
        raise SpiError(f"All pixels of the training patterns hold the same value ({mean:g}): nothing to learn from.")
    return Normalisation(transform, mean, math.sqrt(variance))


def _transformed(counts: torch.Tensor, transform: Transform) -> torch.Tensor:
    if transform == "sqrt":
        return counts.sqrt()
    return counts.log1p() if transform == "log" else counts
