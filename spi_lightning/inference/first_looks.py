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
    """

    first: tuple[float, ...]
    full: tuple[float, ...]
    network: tuple[int, ...]

    def __post_init__(self) -> None:
        n = len(self.first)
        for name in ("full", "network"):
            found = len(getattr(self, name))
            require(found == n, f"first_looks.{name}", f"{found} numbers", f"{n}, as many as first")
        require(all(map(math.isfinite, self.first)), "first_looks.first", "other numbers", "finite logits")
        require(all(0 <= p <= 1 for p in self.full), "first_looks.full", "other numbers", "probabilities, from 0 to 1")


def candidates(unseen: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Patterns of the training that might be selected; of many, a fair sample.

    Args:
        unseen: ``(n,)`` probabilities by networks that had not seen the patterns.
        labels: ``(n,)``, 1 single hit, 0 other.

    Returns:
        Their places, ascending int64 ``(k,)``.
    """
    places = np.flatnonzero((unseen >= FLOOR) | (labels == 1))
    if len(places) > MOST:
        places = np.sort(np.random.default_rng(0).choice(places, MOST, replace=False))
    return places


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
    from scipy.stats import nct, norm

    if threshold < FLOOR:
        raise SpiError(
            f"A cascade needs a threshold of {FLOOR:g} or more; it is {threshold:g}, at which a first look spares "
            "little. Choose cascade.enabled=false."
        )
    selected = np.asarray(looks.full) >= threshold
    logits, networks = np.asarray(looks.first)[selected], np.asarray(looks.network, dtype=np.int64)[selected]
    own = logits[networks == network]
    freedom = len(logits) - len(np.unique(networks))
    if len(own) < FEWEST or freedom < FEWEST:
        raise SpiError(
            f"A cascade needs {FEWEST} patterns of the training that reach the threshold of {threshold:g}, to learn "
            f"what the first network's look at them is like; there are {len(own)} that it had not seen. Choose a lower "
            "threshold, or cascade.enabled=false."
        )
    means = {number: logits[networks == number].mean() for number in np.unique(networks).tolist()}
    strayed = logits - np.array([means[number] for number in networks.tolist()])
    sd = math.sqrt(float(np.square(strayed).sum()) / freedom)
    factor = nct.ppf(CONFIDENCE, freedom, norm.isf(missed) * math.sqrt(len(own))) / math.sqrt(len(own))
    lowest = float(own.mean() + min(-factor * sd, strayed.min()))
    return min(1 / (1 + math.exp(min(-lowest, 700.0))), threshold)
