"""Whether scores can be read as probabilities: the share of single hits against the score, and two numbers for it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import norm

from spi_lightning.analysis.classification import LEVEL
from spi_lightning.report.curves import COLOURS, LARGEST_LOGIT, logit, logit_ticks


@dataclass(frozen=True, eq=False)
class Calibration:
    """Scores beside what the patterns are, in bins of one unit of log(p/(1 − p)); bins without a pattern are left out.

    Attributes:
        score: ``(b,)`` float64, mean score of each bin.
        share: ``(b,)`` float64, share of single hits.
        low: ``(b,)`` float64, lower end of its 95 % interval (Wilson 1927).
        high: ``(b,)`` float64, upper end.
        patterns: ``(b,)`` int64, in each bin.
        brier: mean squared difference of score and label (Brier 1950).
        error: expected calibration error, the mean of |share − score| over the bins, weighted by their patterns (Guo et
            al. 2017).
    """

    score: np.ndarray
    share: np.ndarray
    low: np.ndarray
    high: np.ndarray
    patterns: np.ndarray
    brier: float
    error: float


def calibrate(scores: np.ndarray, labels: np.ndarray) -> Calibration:
    """Compare scores with labels.

    The bins are equal in log(p/(1 − p)): single hits are rare, and in bins of equal width or of equal counts almost all
    patterns would say nothing but that the lowest scores are low.

    Args:
        scores: ``(n,)``, probabilities of a single hit; NaN is left out.
        labels: ``(n,)``: 1 single hit, 0 other, -1 unknown (left out).

    Returns:
        Without a labelled pattern, no bin, and NaN for the numbers.
    """
    known = (labels >= 0) & np.isfinite(scores)
    values, single = scores[known].astype(np.float64), (labels[known] == 1).astype(np.float64)
    places = np.floor(logit(values) + LARGEST_LOGIT).astype(np.int64)
    patterns = np.bincount(places, minlength=1)
    filled = patterns > 0
    patterns = patterns[filled]
    score = np.bincount(places, values)[filled] / patterns if len(values) else np.empty(0)
    share = np.bincount(places, single)[filled] / patterns if len(values) else np.empty(0)
    low, high = wilson(share, patterns)
    brier = float(np.mean((values - single) ** 2)) if len(values) else float("nan")
    error = float(np.average(np.abs(share - score), weights=patterns)) if len(values) else float("nan")
    return Calibration(score, share, low, high, patterns, brier, error)


def wilson(share: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the 95 % interval of a share (Wilson 1927, J. Am. Stat. Assoc. 22, 209).

    Args:
        share: ``(b,)``, observed.
        n: ``(b,)``, out of how many.
    """
    z = float(norm.ppf((1 + LEVEL) / 2))
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return np.clip(middle - half, 0, 1), np.clip(middle + half, 0, 1)


def calibration(scores: np.ndarray, labels: np.ndarray, title: str = "Calibration") -> Figure:
    """Share of single hits against mean score, both on a logit axis, over how many patterns have such a score.

    A share of 0 or 1 stands at the edge, as an open circle.

    Args:
        scores: ``(n,)``, probabilities of a single hit; NaN is left out.
        labels: ``(n,)``: 1 single hit, 0 other, -1 unknown (left out).
        title: of the figure.
    """
    found = calibrate(scores, labels)
    figure = Figure(figsize=(6.4, 6.4), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 1))
    edge = LARGEST_LOGIT
    upper.plot([-edge, edge], [-edge, edge], color="#888888", linewidth=0.8, linestyle="--", label="as the scores say")
    x, y = logit(found.score), logit(found.share)
    ends = np.stack([np.maximum(y - logit(found.low), 0), np.maximum(logit(found.high) - y, 0)])
    upper.errorbar(x, y, ends, fmt="none", ecolor=COLOURS[0], elinewidth=1.2, capsize=2.5)
    inside = (found.share > 0) & (found.share < 1)
    upper.plot(x[inside], y[inside], "o", color=COLOURS[0], label="share of single hits, 95 % interval")
    if not inside.all():
        upper.plot(x[~inside], y[~inside], "o", color=COLOURS[0], markerfacecolor="white", label="none or all of them")
    logit_ticks(upper.yaxis)
    upper.set(xlim=(-edge, edge), ylim=(-edge - 0.5, edge + 0.5), ylabel="share of single hits")
    upper.set_title(
        f"{title}: Brier score {found.brier:.4f}, expected calibration error {found.error:.4f}", fontsize=11
    )
    upper.legend(fontsize=8, loc="upper left")
    upper.grid(alpha=0.3)
    lower.bar(np.floor(x) + 0.5, found.patterns, 0.9, color=COLOURS[0], alpha=0.55, log=True)
    lower.set(xlabel="score: probability of a single hit", ylabel="patterns", ylim=(0.6, None))
    logit_ticks(lower.xaxis)
    lower.tick_params(axis="x", rotation=45)
    return figure
