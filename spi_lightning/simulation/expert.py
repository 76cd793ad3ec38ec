"""The expert: a person who looks at patterns and calls some of them single hits.

Weak single hits are missed, and some patterns that are none are let in. What is a single hit is the truth of the
simulation; what the expert says is the label, and only that may be learnt from.
"""

from __future__ import annotations

import numpy as np

from spi_lightning.errors import SpiError


def expert_scores(
    rate: np.ndarray, half: np.ndarray, width: float, photons: np.ndarray, uniform: np.ndarray
) -> np.ndarray:
    """How surely the expert calls each pattern a single hit.

    The chance of a yes is rate/(1 + (half/photons)^(1/width)); the score is the logit of that chance less the logit
    of ``uniform``, so it is positive with just that chance, and another threshold shifts all chances alike.

    Args:
        rate: ``(n,)``, chance for a very bright pattern of this sort.
        half: ``(n,)``, photons at which that chance has fallen to half.
        width: decades over which it falls.
        photons: ``(n,)``, scattered photons on the detector.
        uniform: ``(n,)``, in (0, 1).

    Returns:
        ``(n,)`` float64; −inf where the chance is zero.
    """
    with np.errstate(divide="ignore", over="ignore"):
        dimness = np.maximum((half / photons) ** (1 / width), 1e-300)  # a very bright pattern is still not certain
        # The logit of rate/(1 + dimness), without the difference of nearly equal numbers.
        return np.log(rate) - np.log(1 - rate + dimness) - np.log(uniform / (1 - uniform))


def expert_labels(scores: np.ndarray, labelled: int | None) -> np.ndarray:
    """Labels of a whole run, ``(n,)`` int8: 1 what the expert calls a single hit, 0 the rest.

    Args:
        scores: as :func:`expert_scores` gives them.
        labelled: how many are called single hits: those with the highest scores. None: all with a positive score.

    Raises:
        SpiError: fewer patterns than ``labelled`` could be called single hits at all.
    """
    if labelled is None:
        return (scores > 0).astype(np.int8)
    possible = int((scores > -np.inf).sum())
    if possible < labelled:
        raise SpiError(
            f"simulate.expert.labelled asks for {labelled} labelled single hits, but only {possible} of the "
            f"{len(scores)} patterns could be called so at all. Lower it, or raise an ingredient's share or its "
            "expert_rate."
        )
    labels = np.zeros(len(scores), dtype=np.int8)
    labels[np.argsort(-scores, kind="stable")[:labelled]] = 1
    return labels
