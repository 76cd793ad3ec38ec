"""Tables as text: CSV for programs, Markdown for people, and the same on a terminal."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table as Printed


def csv_text(names: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows as CSV with all digits; empty where there is no number: None or NaN.

    Args:
        names: of the columns.
        rows: a value for each name.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, list(names), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: "" if value is None or value != value else value for name, value in row.items()})
    return text.getvalue()


def markdown(header: Sequence[str], lines: Iterable[Sequence[str]], left: int = 1) -> str:
    """A Markdown table; whatever would end a cell early is escaped.

    Args:
        header: of the columns.
        lines: cells as text.
        left: this many columns are aligned to the left, the others to the right.
    """
    rule = ["---" if index < left else "---:" for index in range(len(header))]
    rows = [[_cell(text) for text in header], rule, *([_cell(text) for text in line] for line in lines)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def printed(title: str, header: Sequence[str], lines: Iterable[Sequence[str]], left: int = 1) -> Printed:
    """The same for a terminal, to be printed by rich.

    Args:
        title: above it.
        header: of the columns.
        lines: cells as text.
        left: this many columns are aligned to the left, and wrapped where the terminal is narrow.
    """
    from rich.box import SIMPLE
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), box=SIMPLE, title_justify="left", pad_edge=False, collapse_padding=True)
    for index, name in enumerate(header):
        table.add_column(Text(name), justify="left" if index < left else "right", no_wrap=index >= left)
    for line in lines:
        table.add_row(*(Text(text) for text in line))
    return table


def filled(header: Sequence[str], lines: Sequence[Sequence[str]]) -> tuple[list[str], list[list[str]]]:
    """Header and lines without the columns that are empty in every line."""
    kept = [index for index in range(len(header)) if any(line[index] for line in lines)]
    return [header[index] for index in kept], [[line[index] for index in kept] for line in lines]


def _cell(text: str) -> str:
    return " ".join(text.replace("\\", "\\\\").replace("|", "\\|").split())
