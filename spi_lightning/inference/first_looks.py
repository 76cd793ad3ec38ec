"""Below which probability of a first look a pattern cannot be a single hit.

The bound is chosen on patterns of the training whose first look is by a network that had not seen them. Taken as
selected are those that reach the threshold by that network's mean over the views, or by the whole ensemble, whose other
networks have seen them: so both what networks learn by heart and what they get wrong on new patterns counts. The logits
of these first looks are taken for normal, and the bound is their one-sided tolerance limit: with a confidence of 95 %,
no more than the allowed share lies below it (M. G. Natrella, Experimental Statistics, NBS Handbook 91, 1963, section
2-3.2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from spi_lightning.errors import SpiError, require

CONFIDENCE = 0.95
FEWEST = 10  # selected patterns from which a bound can be told
FLOOR = 0.05  # as low as a threshold may be: at lower ones a first look spares little
MOST = 1000  # patterns that are kept, besides the labelled single hits
TINY = 1e-6  # probabilities are taken as this far from 0 and 1 at least; float32 ends near there


@dataclass(frozen=True)
class FirstLooks:
    """What the choice of a bound needs: patterns of the training that might be selected.

    Attributes:
        first: of each, the probability of one view by a network that had not seen it.
        full: the probability by which it is selected or not.
        floor: the lowest threshold for which these are all that might be selected.
    """

    first: tuple[float, ...]
    full: tuple[float, ...]
    floor: float

    def __post_init__(self) -> None:
        fits = len(self.first) == len(self.full)
        require(fits, "first_looks.full", f"{len(self.full)} numbers", f"{len(self.first)}, as many as first")
        values = [*self.first, *self.full, self.floor]
        require(all(0 <= value <= 1 for value in values), "first_looks", "other numbers", "probabilities, from 0 to 1")


def candidates(unseen: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, float]:
    """Patterns of the training that might be selected.

    Args:
        unseen: ``(n,)`` probabilities by networks that had not seen the patterns.
        labels: ``(n,)``, 1 single hit, 0 other.

    Returns:
        Their places, ascending int64 ``(k,)``; and the ``floor`` of :class:`FirstLooks`.
    """
    order = np.argsort(-unseen, kind="stable")
    order = order[unseen[order] >= FLOOR]
    floor = float(unseen[order[MOST]]) if len(order) > MOST else FLOOR
    return np.union1d(order[:MOST], np.flatnonzero(labels == 1)), floor


def choose_bound(looks: FirstLooks, threshold: float, missed: float = 0.001) -> float:
    """The probability of the first look below which a pattern is left out.

    Args:
        looks: see :class:`FirstLooks`.
        threshold: from which on the ensemble selects.
        missed: share of the selection that may be missed.

    Returns:
        A probability, the threshold at most.

    Raises:
        SpiError: the threshold is lower than what the looks were kept for, or too few patterns reach it.
    """
    from scipy.stats import nct, norm

    if threshold < looks.floor:
        raise SpiError(
            f"A cascade of this ensemble needs a threshold of {looks.floor:.3g} or more; it is {threshold:g}, at which "
            "a first look spares little. Choose cascade.enabled=false."
        )
    selected = np.asarray(looks.full) >= threshold
    first = np.clip(np.asarray(looks.first)[selected], TINY, 1 - TINY)
    n = len(first)
    if n < FEWEST:
        raise SpiError(
            f"A cascade needs {FEWEST} patterns of the training that reach the threshold of {threshold:g}, to learn "
            f"what first looks at them are like; there are {n}. Choose a lower threshold, or cascade.enabled=false."
        )
    logits = np.log(first / (1 - first))
    factor = nct.ppf(CONFIDENCE, n - 1, norm.isf(missed) * math.sqrt(n)) / math.sqrt(n)
    lowest = min(logits.min(), logits.mean() - factor * logits.std(ddof=1))
    return min(float(1 / (1 + np.exp(-lowest))), threshold)
