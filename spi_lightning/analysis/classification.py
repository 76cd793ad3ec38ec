"""How good scores are: confusion counts, precision, recall, F1, average precision, AUROC, and intervals for them.

Labels are 1 (single hit), 0 (other) and -1 (unknown); patterns of unknown label take no part. A pattern is predicted
to be a single hit where its score is at or above the threshold. What is 0/0 is NaN: neither a good nor a bad value.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy.integrate import trapezoid
from scipy.optimize import brentq
from scipy.stats import norm

LEVEL = 0.95  # of the intervals
COUNT_DRAWS = 10_000
RANK_DRAWS = 1_000
_CELLS_AT_ONCE = 1 << 22  # of the resampled histograms: some 100 MB for a moment


class Confusion(NamedTuple):
    """Numbers of patterns, int64 ``(...)``: predicted single hits that are (true) or are not (false), and the rest."""

    true_positives: torch.Tensor
    false_positives: torch.Tensor
    false_negatives: torch.Tensor
    true_negatives: torch.Tensor

    @property
    def predicted(self) -> torch.Tensor:
        """Predicted single hits."""
        return self.true_positives + self.false_positives


class Estimate(NamedTuple):
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float


class Curve(NamedTuple):
    """Precision and recall ``(k,)`` float64 at each threshold ``(k,)``, the highest first."""

    thresholds: torch.Tensor
    precision: torch.Tensor
    recall: torch.Tensor


def confusion(scores: torch.Tensor, labels: torch.Tensor, threshold: float) -> Confusion:
    """Count right and wrong predictions.

    Args:
        scores: ``(..., n)`` floating point, probabilities of a single hit.
        labels: ``(..., n)`` or ``(n,)``, any integer type.
        threshold: a pattern with this score or a higher one is predicted to be a single hit.

    Raises:
        ValueError: a score is no probability, or shapes do not agree.
    """
    _check(scores, labels)
    selected = scores >= threshold
    single, other = labels == 1, labels == 0
    pairs = ((selected, single), (selected, other), (~selected, single), (~selected, other))
    return Confusion(*((chosen & kind).sum(-1) for chosen, kind in pairs))


def precision(counts: Confusion) -> torch.Tensor:
    """TP/(TP + FP), ``(...)`` float64; NaN where nothing is predicted to be a single hit."""
    return counts.true_positives.double() / counts.predicted


def recall(counts: Confusion) -> torch.Tensor:
    """TP/(TP + FN), ``(...)`` float64; NaN where there is no single hit."""
    return counts.true_positives.double() / (counts.true_positives + counts.false_negatives)


def f1(counts: Confusion) -> torch.Tensor:
    """2 TP/(2 TP + FP + FN), ``(...)`` float64; NaN where single hits are neither there nor predicted."""
    twice = 2 * counts.true_positives.double()
    return twice / (twice + counts.false_positives + counts.false_negatives)


def average_precision(scores: torch.Tensor, labels: torch.Tensor) -> float:
    """Precision averaged over the steps of recall, without interpolation, as scikit-learn and torchmetrics have it.

    Args:
        scores: ``(n,)``, probabilities of a single hit.
        labels: ``(n,)``.

    Returns:
        In (0, 1]; NaN without a single hit.
    """
    return float(_average_precision(*_histogram(scores, labels)))


def auroc(scores: torch.Tensor, labels: torch.Tensor) -> float:
    """Chance that a single hit has a higher score than another pattern, a tie counting half: the area under the ROC.

    Args:
        scores: ``(n,)``, probabilities of a single hit.
        labels: ``(n,)``.

    Returns:
        In [0, 1]; NaN where one of the classes is missing.
    """
    return float(_auroc(*_histogram(scores, labels)))


def precision_recall_curve(scores: torch.Tensor, labels: torch.Tensor) -> Curve:
    """Precision and recall at every threshold that makes a difference.

    Args:
        scores: ``(n,)``, probabilities of a single hit.
        labels: ``(n,)``.
    """
    _check(scores, labels)
    known = labels >= 0
    thresholds, rank = scores[known].unique(return_inverse=True)
    single = (labels[known] == 1).to(torch.int64)
    hits = torch.zeros_like(rank, dtype=torch.int64)[: len(thresholds)].index_add(0, rank, single)
    selected = torch.bincount(rank, minlength=len(thresholds)).flip(0).cumsum(0)
    true = hits.flip(0).cumsum(0)
    return Curve(thresholds.flip(0), true.double() / selected, true.double() / single.sum())


def count_estimates(counts: Confusion, draws: int = COUNT_DRAWS, seed: int = 0) -> dict[str, Estimate]:
    """Precision, recall and F1 with their 95 % intervals, by the percentile bootstrap over patterns.

    Drawing n patterns with replacement makes the four counts multinomial, so they are drawn directly.

    Args:
        counts: of one prediction.
        draws: resampled data sets.
        seed: of the resampling.

    Returns:
        By the names ``f1``, ``precision``, ``recall``. Draws in which a quantity is 0/0 are left out of its interval.
    """
    observed = np.array([int(count) for count in counts])
    shares = observed / max(1, observed.sum())
    drawn = np.random.default_rng(seed).multinomial(observed.sum(), shares, size=draws)
    resampled = Confusion(*torch.from_numpy(drawn).unbind(1))
    quantities = {"f1": f1, "precision": precision, "recall": recall}
    return {name: _estimate(float(of(counts)), of(resampled)) for name, of in quantities.items()}


def rank_estimates(
    scores: torch.Tensor, labels: torch.Tensor, draws: int = RANK_DRAWS, seed: int = 0
) -> dict[str, Estimate]:
    """Average precision and AUROC with their 95 % intervals, by the percentile bootstrap.

    Single hits and others are drawn with replacement separately, so each draw has as many of both as the data. Only
    the scores of the single hits split the others into groups that matter; how many of a draw fall into each is
    multinomial, so no draw handles all n patterns: 171,183 patterns take half a second.
    Where all single hits stand above all others, every draw says 1: the interval of the AUROC then begins at
    :func:`lowest_auroc`, that of the average precision remains too narrow.

    Args:
        scores: ``(n,)``, probabilities of a single hit.
        labels: ``(n,)``.
        draws: resampled data sets.
        seed: of the resampling.

    Returns:
        By the names ``average_precision``, ``auroc``.
    """
    hits, others = _histogram(scores, labels)
    generator = np.random.default_rng(seed)
    size = max(1, min(draws, _CELLS_AT_ONCE // max(1, len(others))))
    parts: list[tuple[torch.Tensor, torch.Tensor]] = []
    for start in range(0, draws, size):
        drawn = [_resampled(counts, min(size, draws - start), generator) for counts in (hits, others)]
        parts.append((_average_precision(*drawn), _auroc(*drawn)))
    precisions, areas = (torch.cat(values) for values in zip(*parts, strict=True))
    area = _estimate(float(_auroc(hits, others)), areas)
    if area.value == 1:
        area = area._replace(low=lowest_auroc(int(hits.sum()), int(others.sum())))
    return {"average_precision": _estimate(float(_average_precision(hits, others)), precisions), "auroc": area}


def lowest_auroc(singles: int, others: int) -> float:
    """The lowest AUROC that a sample without an error still allows: lower end of a 95 % interval.

    It is the AUROC with which so many scores, normally distributed with the same width in both classes, are ranked
    without an error in 2.5 % of samples.

    Args:
        singles: number of single hits, 1 or more.
        others: number of other patterns, 1 or more.
    """
    x = np.linspace(-9, 9, 4001)  # lowest score of a single hit, in widths above their mean
    lowest = singles * norm.pdf(x) * norm.sf(x) ** (singles - 1)

    def too_often(distance: float) -> float:
        return float(trapezoid(lowest * norm.cdf(x + distance) ** others, x)) - (1 - LEVEL) / 2

    return float(norm.cdf(brentq(too_often, -20, 20) / np.sqrt(2)))


def _check(scores: torch.Tensor, labels: torch.Tensor) -> None:
    if scores.shape[-1:] != labels.shape[-1:]:
        raise ValueError(f"There are scores {tuple(scores.shape)}, but labels {tuple(labels.shape)}.")
    wrong = ~((scores >= 0) & (scores <= 1))  # NaN too
    if wrong.any():
        raise ValueError(f"{int(wrong.sum())} of {wrong.numel()} scores are no probabilities: {scores[wrong][0]:g}.")


def _histogram(scores: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """All that a ranking's quality depends on, with ``L`` different scores of single hits, in ascending order.

    Returns:
        Single hits at each of these scores, ``(L,)``, and others by turns below, at, between … and above them,
        ``(2L + 1,)``; float64 on the CPU.
    """
    _check(scores, labels)
    levels, hits = scores[labels == 1].unique(return_counts=True)
    rest = scores[labels == 0]
    place = torch.searchsorted(levels, rest) + torch.searchsorted(levels, rest, right=True)
    others = torch.bincount(place, minlength=2 * len(levels) + 1)
    return hits.double().cpu(), others.double().cpu()


def _resampled(counts: torch.Tensor, draws: int, generator: np.random.Generator) -> torch.Tensor:
    """Histograms ``(draws, cells)`` of as many patterns drawn with replacement."""
    total = int(counts.sum())
    if total == 0:
        return counts.expand(draws, -1)
    shares = counts.numpy() / total
    return torch.from_numpy(generator.multinomial(total, shares, size=draws)).double()


def _average_precision(hits: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    true = hits.flip(-1).cumsum(-1).flip(-1)
    false = others.flip(-1).cumsum(-1).flip(-1)[..., 1::2]
    steps = torch.where(hits > 0, hits * true / (true + false), 0.0)
    return steps.sum(-1) / hits.sum(-1)


def _auroc(hits: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    below = others.cumsum(-1)[..., 0:-1:2]
    won = (hits * (below + others[..., 1::2] / 2)).sum(-1)
    return won / (hits.sum(-1) * others.sum(-1))


def _estimate(value: float, drawn: torch.Tensor) -> Estimate:
    tail = (1 - LEVEL) / 2
    low, high = torch.nanquantile(drawn, torch.tensor([tail, 1 - tail], dtype=drawn.dtype)).tolist()
    return Estimate(value, low, high)
