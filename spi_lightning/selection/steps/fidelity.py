"""Keep patterns by how clearly one size fits better than all others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from spi_lightning.errors import require
from spi_lightning.selection.step import Context, Verdict, between
from spi_lightning.selection.steps._measured import sizes_of


@dataclass(frozen=True)
class Fidelity:
    """Keep the patterns with a high fidelity: the misfit of the second-best size over that of the best.

    Attributes:
        at_least: from 1 on.
    """

    looks: ClassVar[bool] = True
    at_least: float = 1.05

    def __post_init__(self) -> None:
        require(1 <= self.at_least < float("inf"), "at_least", self.at_least, "1 or more")

    def verdict(self, patterns: np.ndarray, context: Context) -> Verdict:
        """See :class:`~spi_lightning.selection.step.Step`."""
        sizes, rows = sizes_of(patterns, context)
        return between(sizes.fidelity[rows].cpu().numpy(), self.at_least, None, "fidelity", "")
