"""Keep patterns by their number of photons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from spi_lightning.selection.step import Context, Verdict, between, check_range


@dataclass(frozen=True)
class Photons:
    """Keep the patterns with a number of photons in a range.

    Attributes:
        at_least: photons in the good pixels.
        at_most: likewise.
    """

    looks: ClassVar[bool] = True
    at_least: float | None = 1000.0
    at_most: float | None = None

    def __post_init__(self) -> None:
        check_range(self.at_least, self.at_most, ("at_least", "at_most"))

    def verdict(self, patterns: np.ndarray, context: Context) -> Verdict:
        """See :class:`~spi_lightning.selection.step.Step`."""
        findings = context.findings
        return between(findings.photons[findings.rows(patterns)], self.at_least, self.at_most, "photons", "")
