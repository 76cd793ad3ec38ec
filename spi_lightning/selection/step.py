"""What every step of a selection has in common: it keeps some patterns, and says why it drops the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import numpy as np

from spi_lightning.errors import SpiError
from spi_lightning.selection.results import Findings


@dataclass(frozen=True, eq=False)
class Verdict:
    """What a step says of the patterns that came to it.

    Attributes:
        reason: uint8 ``(k,)``: why each is dropped, a place in ``reasons``; 0 where it is kept.
        reasons: sentences; the first is empty.
        what: the step with its values, such as ``size from 55 to 84 nm``.
        classes: which of :attr:`Findings.classes` it used; None for none.
    """

    reason: np.ndarray
    reasons: tuple[str, ...]
    what: str
    classes: int | None = None


@dataclass(eq=False)
class Context:
    """What steps may ask for.

    Attributes:
        findings: what is known so far.
        scores_of: scores ``(n,)`` of the same patterns by another run, given its folder or file, and its threshold.
        unseen: scores and labels ``(k,)`` on which a threshold may be chosen; None where nothing is labelled.
        classify: puts patterns into EM classes; returns their place in :attr:`Findings.classes`. None where EM is off.
    """

    findings: Findings
    scores_of: Callable[[str], tuple[np.ndarray, float | None]]
    unseen: tuple[np.ndarray, np.ndarray] | None = None
    classify: Callable[[np.ndarray, tuple[int, ...] | None], int] | None = field(default=None)


class Step(Protocol):
    """A step. Its fields are what the config says of it."""

    looks: ClassVar[bool]
    """Whether it needs more than scores and labels: what is measured on the patterns themselves."""

    def verdict(self, patterns: np.ndarray, context: Context) -> Verdict:
        """Which of the patterns, int64 ``(k,)`` ascending places in the run, to keep.

        Raises:
            SpiError: what it needs is not there.
        """


def dropped_where(conditions: dict[str, np.ndarray], what: str) -> Verdict:
    """A verdict that drops the patterns for which a condition holds, for the first reason that applies.

    Args:
        conditions: by reason, bool ``(k,)``.
        what: the step with its values.
    """
    reason = np.zeros(len(next(iter(conditions.values()))), np.uint8)
    for place, dropped in enumerate(conditions.values(), 1):
        reason[dropped & (reason == 0)] = place
    return Verdict(reason, ("", *conditions), what)


def between(values: np.ndarray, low: float | None, high: float | None, quantity: str, unit: str) -> Verdict:
    """A verdict that keeps the patterns with values ``(k,)`` in a closed range, and drops those without a value."""
    unit = f" {unit}" if unit else ""
    conditions = {f"{quantity} unknown": np.isnan(values)}
    with np.errstate(invalid="ignore"):
        if low is not None:
            conditions[f"{quantity} below {low:g}{unit}"] = values < low
        if high is not None:
            conditions[f"{quantity} above {high:g}{unit}"] = values > high
    if low is not None and high is not None:
        said = f"from {low:g} to {high:g}"
    else:
        said = f"at least {low:g}" if low is not None else f"at most {high:g}"
    return dropped_where(conditions, f"{quantity} {said}{unit}")


def check_range(low: float | None, high: float | None, names: tuple[str, str], lowest: float = 0.0) -> None:
    """Raise :class:`SpiError` unless at least one end of a range is given, and they are in order."""
    for name, value in zip(names, (low, high), strict=True):
        if value is not None and not lowest <= value < float("inf"):
            raise SpiError(f"{name} is {value!r}; it must be at least {lowest:g}, or null.")
    if low is None and high is None:
        raise SpiError(f"{names[0]} and {names[1]} are both null: give at least one of them.")
    if low is not None and high is not None and low > high:
        raise SpiError(f"{names[0]} is {low:g}, above {names[1]}, which is {high:g}. Exchange them.")
