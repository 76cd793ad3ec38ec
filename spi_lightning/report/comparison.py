"""Two runs of the same training, value by value: identical, within a tolerance, or different.

What is compared: the tables that spi-train makes, and the stored scores. What is left out, and why:

- times, dates, process numbers, the command line: they are others every time;
- paths, and files that name them (``config.yaml``, ``provenance.json``, ``log.txt``, ``report.html``);
- figures: they show what the tables say, and matplotlib writes its version into them;
- checkpoints, ``ensemble/`` and ``selection.h5``: scores and tables show what they hold, and a checkpoint names its
  folder;
- tables of other programs, such as ``feature_baseline.csv``;
- columns and rows that only the later run has: a newer version says more.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from spi_lightning.records import finite_number

if TYPE_CHECKING:
    from spi_lightning.inference.scores import Scores

Rows = Sequence[Mapping[str, str]]

# The tables of a training, and the columns that tell their rows apart.
TABLES: dict[str, tuple[str, ...]] = {
    "cross_validation": ("by", "quantity"),
    "test": ("by", "quantity"),
    "selections": ("selection",),
    "overlap": ("selections",),
    "selection_steps": ("selection", "name"),
    "selection_reasons": ("selection", "reason"),
}
COUNTED = ("selection_reasons",)  # a reason for which nothing was dropped has no row there
NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


class Verdict(StrEnum):
    """What is to be said of a value."""

    IDENTICAL = "identical"
    WITHIN = "within tolerance"
    DIFFERS = "differs"
    MISSING = "missing"
    NOT_JUDGED = "not judged"

    @property
    def agrees(self) -> bool:
        """Whether two runs with this value agree."""
        return self not in (Verdict.DIFFERS, Verdict.MISSING)


@dataclass(frozen=True)
class Tolerance:
    """How far apart values may be where they cannot be identical.

    Attributes:
        absolute: numbers that are no counts, such as F1, contrast, IoU, the threshold; in their own unit.
        relative: the same, and counts, as a share of the value then; the larger bound counts.
        count: numbers of patterns.
        probability: mean absolute difference of the patterns' probabilities.
    """

    absolute: float
    relative: float
    count: int
    probability: float


@dataclass(frozen=True)
class Compared:
    """One value then and now.

    Attributes:
        table: its name, or the file of scores.
        row: what stands in the columns that tell rows apart.
        column: its name.
        before: as written; empty where there is none.
        now: likewise.
        difference: now minus before; None where they are no numbers.
        verdict: what is to be said.
    """

    table: str
    row: str
    column: str
    before: str
    now: str
    difference: float | None
    verdict: Verdict


def compare_values(before: str, now: str, tolerance: Tolerance | None) -> tuple[float | None, Verdict]:
    """Compare two cells of a table.

    Args:
        before: as written.
        now: as written.
        tolerance: None where nothing but the same text will do.

    Returns:
        Difference, None where one is no number; and the verdict. With a tolerance, text that is another is not judged:
        what the tables have of it repeats counts of other cells, or numbers EM classes, whose order means nothing.
    """
    if before == now:
        return (0.0 if finite_number(now) is not None else None), Verdict.IDENTICAL
    old, new = finite_number(before), finite_number(now)
    if old is None or new is None:
        one_is = (old is None) != (new is None) or not before or not now
        return None, Verdict.DIFFERS if tolerance is None or one_is else Verdict.NOT_JUDGED
    if tolerance is None:
        return new - old, Verdict.DIFFERS
    bound = tolerance.count if before.isdecimal() and now.isdecimal() else tolerance.absolute
    within = abs(new - old) <= max(bound, tolerance.relative * abs(old))
    return new - old, Verdict.WITHIN if within else Verdict.DIFFERS


def compare_tables(name: str, before: Rows, now: Rows, tolerance: Tolerance | None) -> list[Compared]:
    """Compare a table of :data:`TABLES`, cell by cell.

    Args:
        name: of the table.
        before: its rows, a text for each column.
        now: the rows of the other run.
        tolerance: None where nothing but the same text will do.

    Returns:
        A verdict for each value of ``before``, and for each row of a counted table that ``before`` lacks.
    """
    keys = TABLES[name]
    old, new = _by_key(before, keys), _by_key(now, keys)
    if name in COUNTED:
        columns = [column for column in (before or now)[0] if column not in keys] if before or now else []
        nothing = dict.fromkeys(columns, "0")
        for one, other in ((old, new), (new, old)):
            for key in one.keys() - other.keys():
                other[key] = {**{column: one[key][column] for column in keys}, **nothing}
    found = []
    for key, row in old.items():
        named = "; ".join(row.get(column, "") for column in keys)
        there = new.get(key)
        for column, value in row.items():
            if there is None or column not in there:
                found.append(Compared(name, named, column, value, "", None, Verdict.MISSING))
                continue
            difference, verdict = compare_values(value, there[column], tolerance)
            if column not in keys or verdict is not Verdict.IDENTICAL:
                found.append(Compared(name, named, column, value, there[column], difference, verdict))
    return found


def compare_scores(name: str, before: Scores, now: Scores, tolerance: Tolerance | None) -> list[Compared]:
    """Compare the probabilities of the same patterns.

    Args:
        name: of the file.
        before: scores of each network, ``(n, m)``, and their mean ``(n,)``, float32.
        now: those of the other run.
        tolerance: None where nothing but the same numbers will do.
    """
    import numpy as np

    if not np.array_equal(before.ids, now.ids) or before.models.shape != now.models.shape:
        counts = [f"{len(scores.ids)} patterns, {scores.models.shape[1]} networks" for scores in (before, now)]
        return [Compared(name, "probability", "patterns", counts[0], counts[1], None, Verdict.DIFFERS)]
    apart = np.abs(now.models.astype(np.float64) - before.models)
    mean_apart = np.abs(now.probabilities.astype(np.float64) - before.probabilities)
    largest, mean = float(apart.max(initial=0.0)), float(mean_apart.mean()) if len(mean_apart) else 0.0
    if max(largest, mean) == 0.0:
        verdicts = [Verdict.IDENTICAL] * 2
    elif tolerance is None:
        verdicts = [Verdict.DIFFERS] * 2
    else:  # a single pattern near the threshold says little
        verdicts = [Verdict.WITHIN if mean <= tolerance.probability else Verdict.DIFFERS, Verdict.NOT_JUDGED]
    found = [
        Compared(name, "probability", "mean difference", "", "", mean, verdicts[0]),
        Compared(name, "probability of any network", "largest difference", "", "", largest, verdicts[1]),
    ]
    old, new = (_text(scores.origin.threshold) for scores in (before, now))
    if old or new:
        found.append(Compared(name, "threshold", "threshold", old, new, *compare_values(old, new, tolerance)))
    return found


def agreement(found: Iterable[Compared]) -> Counter[Verdict]:
    """How many values got each verdict."""
    return Counter(value.verdict for value in found)


def _by_key(rows: Rows, keys: tuple[str, ...]) -> dict[tuple[str, ...], Mapping[str, str]]:
    """Rows by what tells them apart, without the numbers in it: a reason names a threshold, which may be another."""
    found: dict[tuple[str, ...], Mapping[str, str]] = {}
    seen: Counter[tuple[str, ...]] = Counter()
    for row in rows:
        names = [row.get(column, "") for column in keys]
        key = tuple(NUMBER.sub("#", name) if of == "reason" else name for of, name in zip(keys, names, strict=True))
        found[(*key, str(seen[key]))] = row
        seen[key] += 1
    return found


def _text(threshold: float | None) -> str:
    return "" if threshold is None else repr(threshold)
