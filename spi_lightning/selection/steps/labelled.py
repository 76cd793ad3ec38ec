"""Keep the patterns that a person has called single hits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from spi_lightning.errors import SpiError
from spi_lightning.selection.step import Context, Verdict, dropped_where


@dataclass(frozen=True)
class Labelled:
    """Keep the patterns labelled as single hits: the manual selection, D_M of the paper."""

    looks: ClassVar[bool] = False

    def verdict(self, patterns: np.ndarray, context: Context) -> Verdict:
        """See :class:`~spi_lightning.selection.step.Step`."""
        labels = context.findings.labels
        if labels is None or not (labels >= 0).any():
            raise SpiError("no pattern of this run has a label.")
        known = labels[patterns]
        return dropped_where(
            {"without a label": known < 0, "labelled as no single hit": known == 0}, "labelled as single hit"
        )
