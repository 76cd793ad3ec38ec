"""Keep the patterns in those EM classes that look like single hits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from spi_lightning.errors import SpiError, require
from spi_lightning.selection.step import Context, Verdict, dropped_where


@dataclass(frozen=True)
class EM:
    """Put the patterns that come to this step into classes, and keep those in the classes of single hits.

    Attributes:
        classes: numbers of the classes to keep, as an expert reads them off the page of class averages; None: those
            that ``callbacks.em`` chooses.
        agreement: share of the starts that must agree on a pattern's class.
    """

    looks: ClassVar[bool] = True
    classes: tuple[int, ...] | None = None
    agreement: float = 0.0

    def __post_init__(self) -> None:
        require(0 <= self.agreement <= 1, "agreement", self.agreement, "from 0 to 1")
        if self.classes is not None:
            require(all(number >= 0 for number in self.classes), "classes", list(self.classes), "numbers from 0 on")

    def verdict(self, patterns: np.ndarray, context: Context) -> Verdict:
        """See :class:`~spi_lightning.selection.step.Step`."""
        if context.classify is None:
            raise SpiError("EM is off: callbacks.em is null, or could not be prepared (see the notes).")
        place = context.classify(patterns, self.classes)
        found = context.findings.classes[place]
        chosen = np.append(found.chosen, False)[found.classes]  # class -1, at the end, is none
        conditions = {
            "no photons in the range of EM": found.classes < 0,
            "in an EM class that is not one of single hits": ~chosen,
            f"fewer than {self.agreement:.0%} of the EM starts agree on its class": found.agreement < self.agreement,
        }
        numbers = ", ".join(map(str, np.flatnonzero(found.chosen).tolist()))
        what = f"EM classes {numbers} of {len(found.chosen)}"
        if not found.chosen.any():
            what = f"none of {len(found.chosen)} EM classes is taken for single hits"
        verdict = dropped_where(conditions, what)
        return Verdict(verdict.reason, verdict.reasons, verdict.what, place)
