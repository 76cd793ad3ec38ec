"""Below which probability of a first look a pattern cannot be a single hit.

The bound is chosen on patterns of the training whose first look is by a network that had not seen them. Taken as
selected are those that reach the threshold by that network's mean over the views, or by the whole ensemble, whose other
networks have seen them: so both what networks learn by heart and what they get wrong on new patterns counts.

The logits of these first looks are taken for normal, with a mean of each network's own and a common standard deviation.
The bound is the one-sided tolerance limit of the network that will look: with a confidence of 95 %, no more than the
allowed share of its looks lies below (M. G. Natrella, Experimental Statistics, NBS Handbook 91, 1963, section 2-3.2;
with the degrees of freedom of the pooled standard deviation). Where a look strays further, that is taken instead.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from spi_lightning.errors import SpiError, require

CONFIDENCE = 0.95
FEWEST = 5  # selected patterns of the network that looks, and degrees of freedom, from which a bound can be told
FLOOR = 0.05  # as low as a threshold may be: at lower ones a first look spares little
MOST = 2000  # patterns that are kept, drawn by chance, lest looking at them takes long


@dataclass(frozen=True)
class FirstLooks:
    """What the choice of a bound needs: patterns of the training that might be selected.

    Attributes:
        first: of each, the logit of a single hit at one view by the network that had not seen it.
        full: the probability by which it is selected or not.
        network: the number of the network that looked.
        floor: the lowest threshold for which these are all that might be selected.
    """

    first: tuple[float, ...]
    full: tuple[float, ...]
    network: tuple[int, ...]
    floor: float

    def __post_init__(self) -> None:
        n = len(self.first)
        for name in ("full", "network"):
            found = len(getattr(self, name))
            require(found == n, f"first_looks.{name}", f"{found} numbers", f"{n}, as many as first")
        require(all(map(math.isfinite, self.first)), "first_looks.first", "other numbers", "finite logits")
        require(0 <= self.floor <= 1, "first_looks.floor", self.floor, "a probability, from 0 to 1")
        require(all(0 <= p <= 1 for p in self.full), "first_looks.full", "other numbers", "probabilities, from 0 to 1")


def candidates(unseen: np.ndarray, labels: np.ndarray, threshold: float) -> tuple[np.ndarray, float]:
    """Patterns of the training that might be selected; of many, a fair sample.

    Args:
        unseen: ``(n,)`` probabilities by networks that had not seen the patterns.
        labels: ``(n,)``, 1 single hit, 0 other.
        threshold: of the ensemble.

    Returns:
        Their places, ascending int64 ``(k,)``; and the ``floor`` of :class:`FirstLooks`.
    """
    floor = max(FLOOR, threshold / 4)  # what a network gives less, the ensemble does not give so much more
    places = np.flatnonzero((unseen >= floor) | (labels == 1))
    if len(places) > MOST:
        places = np.sort(np.random.default_rng(0).choice(places, MOST, replace=False))
    return places, floor


def choose_bound(looks: FirstLooks, threshold: float, missed: float = 0.001, network: int = 0) -> float:
    """The probability of the first look below which a pattern is left out.

    Args:
        looks: see :class:`FirstLooks`.
        threshold: from which on the ensemble selects.
        missed: share of the selection that may be missed.
        network: that will look.

    Returns:
        A probability, the threshold at most.

    Raises:
        SpiError: the threshold is too low for a cascade, or too few patterns reach it.
    """
    if threshold < looks.floor:
        raise SpiError(
            f"A cascade of this ensemble needs a threshold of {looks.floor:.3g} or more; it is {threshold:g}. Choose "
            "another one with spi-evaluate, or cascade.enabled=false."
        )
    selected = np.asarray(looks.full) >= threshold
    logits, networks = np.asarray(looks.first)[selected], np.asarray(looks.network, dtype=np.int64)[selected]
    of_each = {number: logits[networks == number] for number in np.unique(networks).tolist()}
    freedom = len(logits) - len(of_each)
    # A network that has too few of its own is taken to be like any of the others.
    like = [network] if len(of_each.get(network, ())) >= FEWEST else list(of_each)
    own = [of_each[number] for number in like if len(of_each[number]) >= FEWEST]
    if not own or freedom < FEWEST:
        raise SpiError(
            f"A cascade needs {FEWEST} patterns of the training, unseen by one of the networks, that reach the "
            f"threshold of {threshold:g}, to learn what a first look at them is like; there are {len(logits)} for all "
            "networks together. Choose a lower threshold, or cascade.enabled=false."
        )
    strayed = np.concatenate([some - some.mean() for some in of_each.values()])
    sd = math.sqrt(float(np.square(strayed).sum()) / freedom)
    lowest = min(float(some.mean() + min(-_factor(len(some), freedom, missed) * sd, strayed.min())) for some in own)
    return min(1 / (1 + math.exp(min(-lowest, 700.0))), threshold)


def _factor(n: int, freedom: int, missed: float) -> float:
    """Of the standard deviation below a mean of ``n``, for the one-sided tolerance limit."""
    from scipy.stats import nct, norm

    return float(nct.ppf(CONFIDENCE, freedom, norm.isf(missed) * math.sqrt(n))) / math.sqrt(n)
