"""What a reproduction came to: a table of every value, and the same in short."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from spi_lightning.provenance import write_text
from spi_lightning.report.circumstances import SAME, Circumstance
from spi_lightning.report.comparison import Compared, Verdict, agreement
from spi_lightning.report.layout import csv_text, markdown, printed

NAME = "reproduction"
MOST = 40  # lines of differences for people; the CSV has every value
CIRCUMSTANCES = ("Circumstance", "Then", "Now", "")
IN_SHORT = ("Table", "Values", "Identical", "Within", "Not judged", "Differ", "Largest difference")
EACH = ("Table", "Row", "Column", "Then", "Now", "Difference", "Verdict")


def conclusion(found: Sequence[Compared], exact: bool) -> str:
    """In a sentence, whether two runs agree."""
    counts = agreement(found)
    if counts[Verdict.IDENTICAL] == len(found):
        return f"Reproduced: all {len(found)} values are identical."
    wrong = sum(n for verdict, n in counts.items() if not verdict.agrees)
    asked = "identical values were expected" if exact else "within the tolerance"
    parts = [f"{n} {verdict}" for verdict in Verdict if (n := counts[verdict])]
    word = f"Does not agree ({asked})" if wrong else f"Reproduced {asked}"
    return f"{word}: of {len(found)} values {', '.join(parts)}."


def write_reproduction(
    folder: Path, found: Sequence[Compared], beside: Sequence[Circumstance], notes: Sequence[str], exact: bool
) -> None:
    """Write ``reproduction.csv``, a line a value, and ``reproduction.md``, with what is not identical alone.

    Args:
        folder: where; it must exist.
        found: the values.
        beside: the circumstances.
        notes: sentences.
        exact: whether nothing but identical values will do.
    """
    names = [field.name for field in dataclasses.fields(Compared)]
    write_text(folder / f"{NAME}.csv", csv_text(names, [dataclasses.asdict(value) for value in found]))
    other = [value for value in found if value.verdict is not Verdict.IDENTICAL]
    other.sort(key=lambda value: value.verdict.agrees)  # what does not agree comes first
    parts = ["## Reproduction", conclusion(found, exact), markdown(IN_SHORT, _in_short(found))]
    if other:
        parts += ["### What is not identical", markdown(EACH, [_line(value) for value in other[:MOST]], left=3)]
    if len(other) > MOST:
        parts.append(f"{len(other) - MOST} more are in {NAME}.csv.")
    told = [[each.name, each.then, each.now, each.verdict] for each in beside]
    parts += ["### Circumstances", markdown(CIRCUMSTANCES, told, left=4), *notes]
    write_text(folder / f"{NAME}.md", "\n\n".join(parts) + "\n")


def show_circumstances(beside: Sequence[Circumstance]) -> None:
    """Print what is not as it was."""
    from rich.console import Console

    other = [[each.name, each.then, each.now, each.verdict] for each in beside if each.verdict != SAME]
    if other:
        Console().print(printed("Not as it was", CIRCUMSTANCES, other, left=4))
    else:
        print("Versions, code, machine, threads and data are those of then.")


def show_reproduction(found: Sequence[Compared], exact: bool) -> None:
    """Print the comparison in short."""
    from rich.console import Console

    lines = [line[:-1] for line in _in_short(found)]  # on a terminal there is no room for more
    Console().print(printed("Reproduction", IN_SHORT[:-1], lines))
    print(conclusion(found, exact))


def _in_short(found: Sequence[Compared]) -> list[list[str]]:
    """A line a table."""
    lines = []
    for table in dict.fromkeys(value.table for value in found):
        values = [value for value in found if value.table == table]
        counts = agreement(values)
        wrong = sum(n for verdict, n in counts.items() if not verdict.agrees)
        told = (len(values), *(counts[verdict] for verdict in (Verdict.IDENTICAL, Verdict.WITHIN, Verdict.NOT_JUDGED)))
        apart = [value for value in values if value.difference]
        largest = max(apart, key=lambda value: abs(value.difference or 0.0), default=None)
        where = f"{largest.difference:+.4g} ({largest.row}: {largest.column})" if largest else ""
        lines.append([table, *map(str, told), str(wrong), where])
    return lines


def _line(value: Compared) -> list[str]:
    apart = "" if value.difference is None else f"{value.difference:+.4g}"
    return [value.table, value.row, value.column, _short(value.before), _short(value.now), apart, str(value.verdict)]


def _short(text: str) -> str:
    """Numbers with six digits; the CSV has all."""
    try:
        return text if text.isdecimal() else f"{float(text):.6g}"
    except ValueError:
        return text
