"""Choosing the probability from which on a pattern is called a single hit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from spi_lightning.errors import SpiError, require

Rule = Literal["fixed", "max_f1", "precision", "recall"]


@dataclass(frozen=True)
class ThresholdSettings:
    """How a threshold is chosen.

    Attributes:
        rule: fixed: ``value`` is the threshold (the paper: 0.5). max_f1: the largest F1. precision: the lowest
            threshold with a precision of ``value`` at least. recall: the highest one with a recall of ``value``.
        value: the threshold, precision or recall; None for max_f1, which needs none.
    """

    rule: Rule = "fixed"
    value: float | None = 0.5

    def __post_init__(self) -> None:
        require(
            self.rule in ("fixed", "max_f1", "precision", "recall"),
            "threshold.rule",
            self.rule,
            "fixed, max_f1, precision or recall",
        )
        if self.rule == "max_f1":
            require(self.value is None, "threshold.value", self.value, "null where threshold.rule=max_f1")
        else:
            fits = self.value is not None and math.isfinite(self.value) and 0 <= self.value <= 1
            positive = self.rule == "fixed" or bool(self.value)
            require(
                fits and positive,
                "threshold.value",
                self.value,
                f"{'from 0' if self.rule == 'fixed' else 'above 0'} to 1 where threshold.rule={self.rule}",
            )


@dataclass(frozen=True)
class Cuts:
    """What every possible threshold would select; each distinct score is one.

    Attributes:
        thresholds: ``(k,)``, descending, of the scores' dtype.
        selected: ``(k,)`` int64, patterns with a score of the threshold or more.
        hits: ``(k,)`` int64, single hits among them.
    """

    thresholds: np.ndarray
    selected: np.ndarray
    hits: np.ndarray


def all_cuts(scores: np.ndarray, labels: np.ndarray) -> Cuts:
    """Count exactly, for every distinct score, what it would select as a threshold; equal scores stay together.

    Args:
        scores: ``(n,)`` float, finite, n ≥ 1.
        labels: ``(n,)``, 1 single hit, 0 other.
    """
    order = np.argsort(-scores, kind="stable")
    falling = scores[order]
    last = np.flatnonzero(np.append(np.diff(falling) != 0, True))  # of the patterns that share a score
    return Cuts(falling[last], last + 1, np.cumsum(labels[order] == 1, dtype=np.int64)[last])


def choose_threshold(scores: np.ndarray, labels: np.ndarray, settings: ThresholdSettings) -> float:
    """The threshold that a rule asks for; patterns with ``score >= threshold`` are selected.

    Thresholds are taken from the scores themselves. Where several have the same largest F1, it is the highest, which
    selects the fewest patterns.

    Args:
        scores: ``(n,)`` float, probability of a single hit. They should come from patterns that the networks were not
            trained on: out-of-fold scores.
        labels: ``(n,)``, 1 single hit, 0 other, -1 unknown (left out).
        settings: the rule.

    Raises:
        SpiError: the rule needs labels, but there is no single hit among them; or no threshold is precise enough.
        ValueError: scores and labels do not belong together, or a score is not finite.
    """
    if scores.ndim != 1 or scores.shape != labels.shape or not np.isfinite(scores).all():
        raise ValueError(f"Expected (n,) finite scores and (n,) labels; got {scores.shape} and {labels.shape}.")
    value = settings.value
    if settings.rule == "fixed" and value is not None:
        return value
    known = labels >= 0
    singles = int((labels == 1).sum())
    if singles == 0:
        raise SpiError(
            f"threshold.rule={settings.rule} needs labelled single hits; among {int(known.sum())} labelled patterns "
            "there is none. Give labels that have some, or choose threshold.rule=fixed."
        )
    cuts = all_cuts(scores[known], labels[known])
    if value is None:  # max_f1
        return float(cuts.thresholds[np.argmax(2 * cuts.hits / (singles + cuts.selected))])
    if settings.rule == "recall":
        return float(cuts.thresholds[np.argmax(cuts.hits / singles >= value)])
    precision = cuts.hits / cuts.selected
    enough = np.flatnonzero(precision >= value)
    if not len(enough):
        best = int(np.argmax(precision))
        raise SpiError(
            f"threshold.value: no threshold reaches a precision of {value:g}. The highest is "
            f"{precision[best]:.3f}, with a recall of {cuts.hits[best] / singles:.3f}. Ask for less, or choose "
            "threshold.rule=max_f1."
        )
    return float(cuts.thresholds[enough[-1]])
