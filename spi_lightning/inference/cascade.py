"""Sparing most patterns the whole ensemble.

Single hits are rare, and most patterns are plainly none: one look, by the first network at one view, is enough to leave
them out. The others are scored by one network after the other at all views, until the mean cannot reach the threshold
whatever the remaining networks say. So every selected pattern has the ensemble's own score, and none is selected that
the ensemble would not select; what can happen is that the first look misses one. How low it has to be for that is
chosen in :mod:`~spi_lightning.inference.first_looks`.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
import torch

from spi_lightning.data.seeds import random_words, shifted
from spi_lightning.errors import require
from spi_lightning.inference.engine import Engine, Precision
from spi_lightning.inference.ensemble import Ensemble

# How far the logit of a first look may be off; 0.26 was the largest seen in bfloat16, of which float16 has 3 bits more.
MARGINS: dict[Precision, float] = {"float32": 0.0, "bfloat16": 0.5, "float16": 0.1}


@dataclass(frozen=True)
class CascadeSettings:
    """Whether and how patterns are left out by a first look.

    Attributes:
        enabled: one network first, all of them only where the pattern could be selected.
        missed: share of the selection that may be missed.
        audit: share of what was left out, drawn by chance, that is scored in full all the same, to see whether it was
            rightly left out.
    """

    enabled: bool = False
    missed: float = 0.001
    audit: float = 0.005

    def __post_init__(self) -> None:
        require(0 < self.missed < 1, "cascade.missed", self.missed, "between 0 and 1")
        require(0 <= self.audit <= 1, "cascade.audit", self.audit, "from 0 to 1")


@dataclass(frozen=True)
class CascadeTally:
    """What came of first looks; tallies of parts of a run can be added.

    Attributes:
        left_out: patterns.
        audited: of them, those that were scored in full all the same.
        missed: of the audited, those that the ensemble selects.
    """

    left_out: int = 0
    audited: int = 0
    missed: int = 0

    def __add__(self, other: CascadeTally) -> CascadeTally:
        return CascadeTally(self.left_out + other.left_out, self.audited + other.audited, self.missed + other.missed)


class Cascade:
    """First looks with a bound, and the tally of what came of them. A preview for ``score_run``.

    Attributes:
        bound: first looks below it leave a pattern out; lower than what was asked for where looks are less precise.
        enough: the threshold: networks are asked as long as a pattern can reach it.
        tally: so far.
    """

    def __init__(self, ensemble: Ensemble, bound: float, audit: float = 0.0, precision: Precision = "float32"):
        """Begin a tally.

        Args:
            ensemble: whose first network looks, at the first of its views.
            bound: see :func:`~spi_lightning.inference.first_looks.choose_bound`.
            audit: share of what is left out, drawn by chance, that is scored in full all the same.
            precision: of the first looks.
        """
        odds = bound / (1 - bound) * math.exp(-MARGINS[precision]) if bound < 1 else math.inf
        self.bound = odds / (1 + odds) if math.isfinite(odds) else 1.0
        self.tally = CascadeTally()
        self.enough, self._audit, self._networks = ensemble.threshold, audit, len(ensemble.networks)
        first = dataclasses.replace(ensemble, networks=ensemble.networks[:1], mirrors=ensemble.mirrors[:1])
        self._engine = Engine(first, precision)
        self._chances = np.empty(0)

    def look(self, counts: torch.Tensor) -> torch.Tensor:
        """See :class:`~spi_lightning.inference.predict.Preview`: NaN for all networks but the first."""
        first = self._engine.probabilities(counts)
        return torch.cat([first, first.new_full((len(first), self._networks - 1), torch.nan)], dim=1)

    def unsettled(self, models: np.ndarray, places: np.ndarray) -> np.ndarray:
        """See :class:`~spi_lightning.inference.predict.Preview`."""
        possible = ~(models[:, 0] < self.bound)  # what is no number is possible, too
        self.tally += CascadeTally(left_out=int((~possible).sum()))
        return possible | (self._drawn(places) < self._audit)

    def _drawn(self, places: np.ndarray) -> np.ndarray:
        """A number from 0 to 1 for each pattern, by its place alone: the same however a run is shared over jobs."""
        if (needed := int(places.max(initial=-1)) + 1) > len(self._chances):
            self._chances = shifted(random_words(0, 2 * needed), 11).numpy() * 2.0**-53
        return self._chances[places]

    def settled(self, before: np.ndarray, after: np.ndarray) -> None:
        """See :class:`~spi_lightning.inference.predict.Preview`."""
        audited = before[:, 0] < self.bound
        whole = after[audited].mean(axis=1, dtype=np.float64)  # NaN of those that could not be selected any more
        self.tally += CascadeTally(audited=int(audited.sum()), missed=int((whole >= self.enough).sum()))

    def facts(self, patterns: int) -> dict[str, float | int]:
        """What to tell of so many patterns: what was left out, and of that, what was audited and wrongly left out."""
        return {
            "cascade bound": round(self.bound, 6),
            "needed more than a first look": patterns - self.tally.left_out,
            "share": round(1 - self.tally.left_out / patterns, 4),
            "audited": self.tally.audited,
            "wrongly left out": self.tally.missed,
        }
