"""Keep patterns by the size of the particle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from spi_lightning.analysis.size import FLAGS
from spi_lightning.selection.step import Context, Verdict, between, check_range, dropped_where
from spi_lightning.selection.steps._measured import sizes_of


@dataclass(frozen=True)
class Size:
    """Keep the patterns of particles in a range of sizes, as fitted by ``callbacks.size``.

    Attributes:
        smallest: nm.
        largest: nm.
    """

    looks: ClassVar[bool] = True
    smallest: float | None = 55.0
    largest: float | None = 84.0

    def __post_init__(self) -> None:
        check_range(self.smallest, self.largest, ("smallest", "largest"))

    def verdict(self, patterns: np.ndarray, context: Context) -> Verdict:
        """See :class:`~spi_lightning.selection.step.Step`."""
        sizes, rows = sizes_of(patterns, context)
        flags = sizes.flag[rows].cpu().numpy()
        plain = between(sizes.diameter[rows].cpu().numpy(), self.smallest, self.largest, "size", "nm")
        flagged = {text: flags == flag for flag, text in enumerate(FLAGS) if text and (flags == flag).any()}
        outside = {text: plain.reason == place for place, text in enumerate(plain.reasons) if text}
        return dropped_where({**flagged, **outside}, plain.what)
