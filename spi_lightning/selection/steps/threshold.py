"""Keep patterns by their score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from spi_lightning.errors import SpiError
from spi_lightning.inference.thresholds import Rule, ThresholdSettings, choose_threshold
from spi_lightning.selection.step import Context, Verdict, dropped_where


@dataclass(frozen=True)
class Threshold:
    """Keep the patterns whose score reaches a threshold.

    Attributes:
        rule: how it is chosen, as in ``ensemble.threshold``; None: the run's own threshold.
        value: the threshold, or the wanted precision or recall.
        scores: run folder, or scores.h5, of another run on the same patterns; None: this run's.
    """

    looks: ClassVar[bool] = False
    rule: Rule | None = None
    value: float | None = None
    scores: str | None = None

    def __post_init__(self) -> None:
        if self.rule is not None:
            ThresholdSettings(self.rule, self.value)
        elif self.value is not None:
            raise SpiError("value is given, but rule is null: give rule=fixed, precision or recall with it.")
        if self.rule not in (None, "fixed") and self.scores is not None:
            raise SpiError(
                f"rule is {self.rule}, which is chosen on this run's own scores; for those of another run give "
                "rule=fixed with a value, or null for the threshold of that run."
            )

    def verdict(self, patterns: np.ndarray, context: Context) -> Verdict:
        """See :class:`~spi_lightning.selection.step.Step`."""
        findings = context.findings
        scores, own = findings.scores, findings.threshold
        if self.scores is not None:
            scores, own = context.scores_of(self.scores)
        threshold = self._chosen(own, context)
        values = scores[patterns]
        with np.errstate(invalid="ignore"):
            conditions = {"not scored": np.isnan(values), f"score below {threshold:.4g}": values < threshold}
        return dropped_where(conditions, f"score at least {threshold:.4g}")

    def _chosen(self, own: float | None, context: Context) -> float:
        if self.rule is None:
            if own is None:
                raise SpiError("the scores have no threshold of their own. Give rule=fixed and a value.")
            return own
        if self.rule == "fixed":
            return float(self.value or 0)
        if context.unseen is None:
            raise SpiError(
                f"rule={self.rule} needs labels, and no scored pattern is labelled. Give rule=fixed and a value."
            )
        return choose_threshold(*context.unseen, ThresholdSettings(self.rule, self.value))
