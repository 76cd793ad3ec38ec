"""Keep patterns by the fluence that hit the particle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from spi_lightning.selection.step import Context, Verdict, between, check_range
from spi_lightning.selection.steps._measured import sizes_of


@dataclass(frozen=True)
class Fluence:
    """Keep the patterns with a fluence in a range, relative to the median of the patterns that come to this step.

    A sphere scatters forward as the fluence times the square of its volume: the fluence follows from the scale and the
    diameter of the fit of ``callbacks.size``, for particles of like density.

    Attributes:
        at_least: in medians.
        at_most: in medians.
    """

    looks: ClassVar[bool] = True
    at_least: float | None = 0.1
    at_most: float | None = None

    def __post_init__(self) -> None:
        check_range(self.at_least, self.at_most, ("at_least", "at_most"))

    def verdict(self, patterns: np.ndarray, context: Context) -> Verdict:
        """See :class:`~spi_lightning.selection.step.Step`."""
        sizes, rows = sizes_of(patterns, context)
        fluence = (sizes.scale[rows] / sizes.diameter[rows].pow(6)).cpu().numpy()
        known = fluence[np.isfinite(fluence)]
        median = float(np.median(known)) if len(known) else np.nan
        return between(fluence / median, self.at_least, self.at_most, "relative fluence", "")
