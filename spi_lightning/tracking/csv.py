"""Curves and final numbers in a file beside the results, for any program that reads tables."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from spi_lightning.provenance import write_text
from spi_lightning.records import rows_of
from spi_lightning.tracking.run import About, Place, Results, State

COLUMNS = ("step", "epoch", "name", "value")


@dataclass(frozen=True)
class CSV:
    """Write ``metrics.csv``, a number a line: of every fold its curves, of the training its final numbers.

    Lightning's own CSVLogger is not used: it begins a new file when a training goes on.
    """

    package: ClassVar[str | None] = None

    def opened(self, place: Place, about: About) -> _File:
        """Go on in ``metrics.csv`` of the folder."""
        return _File(place.folder / "metrics.csv")


class _File:
    def __init__(self, path: Path):
        self._path = path

    def go_on_from(self, step: int) -> None:
        kept = [row for row in rows_of(self._path) if _whole(row) and int(row["step"]) <= step]
        self._write([tuple(row[column] for column in COLUMNS) for row in kept])

    def log(self, values: Mapping[str, float], step: int, epoch: int) -> None:
        with open(self._path, "a", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows(
                (step, epoch, name, value) for name, value in values.items()
            )

    def flush(self) -> None:
        """Every line is written when it is told."""

    def publish(self, results: Results) -> None:
        self._write([("", "", name, str(value)) for name, value in results.metrics.items()])

    def close(self, state: State) -> None:
        """Nothing is open."""

    def _write(self, lines: list[tuple[str, ...]]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([COLUMNS, *lines])
        write_text(self._path, text.getvalue())


def _whole(row: dict[str, str]) -> bool:
    """Whether it has all columns; one that a kill has cut off may not."""
    return all(row.get(column) for column in COLUMNS) and row["step"].isdigit()
