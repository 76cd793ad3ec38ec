"""Tables 2 and 3 of the paper with our figures: cross-validation and test set, to print and to keep."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from spi_lightning.analysis.classification import (
    auroc,
    average_precision,
    confusion,
    count_estimates,
    f1,
    precision,
    rank_estimates,
    recall,
)
from spi_lightning.provenance import write_text
from spi_lightning.report.layout import csv_text, filled, markdown, printed

Paper = Literal["MaxF1", "moreSH"]
Figures = Mapping[str, tuple[float, float | None]]  # value, and standard deviation over the folds where there is one
Scored = tuple[np.ndarray, np.ndarray]  # scores and labels of the same patterns

# Assalauova et al. (2022), J. Appl. Cryst. 55: Table 2, Table 3, and the sizes of the sets from section 2.
PAPER_CROSS_VALIDATION: dict[Paper, Figures] = {
    "MaxF1": {"f1": (0.645, 0.074), "precision": (0.591, 0.062), "recall": (0.710, 0.096), "predicted": (120, None)},
    "moreSH": {"f1": (0.536, 0.018), "precision": (0.391, 0.023), "recall": (0.860, 0.065), "predicted": (221, None)},
}
PAPER_TEST: dict[Paper, Figures] = {
    "MaxF1": {"f1": (0.731, None), "precision": (0.741, None), "recall": (0.721, None), "predicted": (1257, None)},
    "moreSH": {"f1": (0.644, None), "precision": (0.522, None), "recall": (0.841, None), "predicted": (2086, None)},
}
PAPER_TRAINING_SIZES: Figures = {"singles": (100, None), "patterns": (20_000, None)}
PAPER_TEST_SIZES: Figures = {"singles": (1293, None), "patterns": (171_183, None)}

NAMES = {
    "f1": "F1 score",
    "precision": "Precision",
    "recall": "Recall",
    "predicted": "Predicted single hits",
    "average_precision": "Average precision",
    "auroc": "AUROC",
    "singles": "Single hits",
    "patterns": "Patterns",
}
TRUTH_BY_LABELS_NOTE = (
    "Truth by labels: what a classifier that finds the truth would reach by these labels. One that learns which "
    "patterns the expert prefers may reach more."
)
BY_LABELS, BY_TRUTH, TRUTH_BY_LABELS = "labels", "truth", "truth by labels"
INTERVALS = (
    "95 % intervals are percentiles of the bootstrap over patterns; they do not contain what another training would "
    "change."
)


CHOSEN_HERE = (
    "The threshold was chosen on these very scores, so that F1, precision and recall flatter; those of the test set do "
    "not. The paper's threshold is 0.5."
)


@dataclass(frozen=True)
class Row:
    """One quantity.

    Attributes:
        by: what the scores are compared with: the labels, or the truth of a simulation. :data:`TRUTH_BY_LABELS`
            compares the truth itself with the labels.
        quantity: a key of :data:`NAMES`.
        value: over all patterns; NaN where it is 0/0.
        low: lower end of its 95 % interval; None for numbers of patterns.
        high: upper end.
        mean: over the folds in which it is defined; None for numbers of patterns and outside of a cross-validation.
        sd: sample standard deviation (n − 1) over these folds; None where there are fewer than two.
        folds: how many these are.
        paper: the paper's figure; None where it gives none.
        paper_sd: its standard deviation over the folds.
    """

    by: str
    quantity: str
    value: float
    low: float | None = None
    high: float | None = None
    mean: float | None = None
    sd: float | None = None
    folds: int | None = None
    paper: float | None = None
    paper_sd: float | None = None


@dataclass(frozen=True)
class Table:
    """Rows, with what a reader has to know.

    Attributes:
        name: of its files, without suffix.
        title: one line.
        paper: whose figures stand beside ours.
        rows: in the order in which to tell them.
        notes: sentences.
    """

    name: str
    title: str
    paper: Paper | None
    rows: tuple[Row, ...]
    notes: tuple[str, ...]


def cross_validation(
    folds: Sequence[Scored],
    threshold: float,
    paper: Paper | None = None,
    truths: Sequence[np.ndarray] | None = None,
    chosen_here: bool = False,
) -> Table:
    """The paper's Table 2 from out-of-fold scores, and the same quantities over all folds together.

    Args:
        folds: of each fold, scores ``(n,)`` and labels ``(n,)`` of its validation patterns: 1 single hit, 0 other,
            -1 unknown (left out).
        threshold: from which on a pattern is predicted to be a single hit.
        paper: whose figures to put beside.
        truths: of each fold, what its patterns are in truth, as labels; None where that is not known.
        chosen_here: whether the threshold was chosen on these very scores.
    """
    scores, labels = (np.concatenate(parts) for parts in zip(*folds, strict=True))
    beside: Figures = {**PAPER_CROSS_VALIDATION[paper], **PAPER_TRAINING_SIZES} if paper else {}
    rows = _over_folds(_rows(BY_LABELS, scores, labels, threshold, beside), folds, threshold)
    if truths is not None:
        truth = np.concatenate(list(truths))
        by_truth = [(fold[0], true) for fold, true in zip(folds, truths, strict=True)]
        rows += _over_folds(_rows(BY_TRUTH, scores, truth, threshold, {}), by_truth, threshold)
        rows += _truth_by_labels(truth, labels)
    notes = [
        f"Threshold {threshold:.4g}. Mean ± sample standard deviation (n − 1) over {len(folds)} folds (the paper does "
        "not say which deviation it gives); the interval is that of all folds together.",
        *([CHOSEN_HERE] if chosen_here else []),
        INTERVALS,
        *([TRUTH_BY_LABELS_NOTE] if truths is not None else []),
    ]
    if lacking := [f"{NAMES[row.quantity]} by {row.by}" for row in rows if row.folds not in (None, len(folds))]:
        notes.append(f"0/0 in some of the folds, and averaged over the others: {', '.join(lacking)}.")
    return Table("cross_validation", "Cross-validation", paper, tuple(rows), tuple(notes))


def test_set(
    scores: np.ndarray,
    labels: np.ndarray,
    threshold: float,
    paper: Paper | None,
    truth: np.ndarray | None,
) -> Table:
    """The paper's Table 3.

    Args:
        scores: of the test set, ``(n,)``.
        labels: ``(n,)``: 1 single hit, 0 other, -1 unknown (left out).
        threshold: from which on a pattern is predicted to be a single hit.
        paper: whose figures to put beside.
        truth: what the patterns are in truth, as labels, ``(n,)``; None where that is not known.
    """
    beside: Figures = {**PAPER_TEST[paper], **PAPER_TEST_SIZES} if paper else {}
    rows = _rows(BY_LABELS, scores, labels, threshold, beside)
    if truth is not None:
        rows += _rows(BY_TRUTH, scores, truth, threshold, {}) + _truth_by_labels(truth, labels)
    notes = (f"Threshold {threshold:.4g}.", INTERVALS, *([TRUTH_BY_LABELS_NOTE] if truth is not None else []))
    return Table("test", "Test set", paper, tuple(rows), notes)


def write(table: Table, folder: Path) -> None:
    """Write ``NAME.csv``, with all digits and empty where there is no number, and ``NAME.md``, as :func:`show` prints.

    Args:
        table: what to write.
        folder: where; it must exist.
    """
    names = [field.name for field in dataclasses.fields(Row)]
    write_text(folder / f"{table.name}.csv", csv_text(names, [dataclasses.asdict(row) for row in table.rows]))
    body = markdown(*_cells(table), left=2)
    write_text(folder / f"{table.name}.md", "\n\n".join([f"## {table.title}", body, *table.notes]) + "\n")


def show(table: Table) -> None:
    """Print a table on the terminal."""
    from rich.console import Console

    header, lines = _cells(table)
    console = Console()
    for by in dict.fromkeys(row.by for row in table.rows):
        title = f"{table.title}: {by}" if by == TRUTH_BY_LABELS else f"{table.title}, by the {by}"
        chosen = [line[1:] for row, line in zip(table.rows, lines, strict=True) if row.by == by]
        console.print(printed(title, *filled(header[1:], chosen)))
    for note in table.notes:
        console.print(note, style="dim", highlight=False)


def _rows(by: str, scores: np.ndarray, labels: np.ndarray, threshold: float, paper: Figures) -> list[Row]:
    """Every quantity over all patterns, in the order of :data:`NAMES`."""
    ours, given = torch.from_numpy(scores), torch.from_numpy(labels.astype(np.int8))
    counts = confusion(ours, given, threshold)
    estimates = count_estimates(counts) | rank_estimates(ours, given)
    sizes = {"predicted": counts.predicted, "singles": (given == 1).sum(), "patterns": (given >= 0).sum()}
    rows = []
    for name in NAMES:
        beside, spread = paper.get(name, (None, None))
        value, low, high = (int(sizes[name]), None, None) if name in sizes else estimates[name]
        rows.append(Row(by, name, value, low, high, paper=beside, paper_sd=spread))
    return rows


def _over_folds(rows: list[Row], folds: Sequence[Scored], threshold: float) -> list[Row]:
    """Add mean and standard deviation over the folds."""
    found: dict[str, list[float]] = {}
    for scores, labels in folds:
        ours, given = torch.from_numpy(scores), torch.from_numpy(labels.astype(np.int8))
        counts = confusion(ours, given, threshold)
        values = {name: float(of(counts)) for name, of in (("f1", f1), ("precision", precision), ("recall", recall))}
        values |= {"average_precision": average_precision(ours, given), "auroc": auroc(ours, given)}
        for name, value in values.items():
            found.setdefault(name, []).append(value)

    def extended(row: Row) -> Row:
        if row.quantity not in found:
            return row
        defined = [value for value in found[row.quantity] if not math.isnan(value)]
        mean = float(np.mean(defined)) if defined else math.nan
        sd = float(np.std(defined, ddof=1)) if len(defined) > 1 else None
        return dataclasses.replace(row, mean=mean, sd=sd, folds=len(defined))

    return [extended(row) for row in rows]


def _truth_by_labels(truth: np.ndarray, labels: np.ndarray) -> list[Row]:
    """How good the truth is by the labels."""
    known = (labels >= 0) & (truth >= 0)
    counts = confusion(torch.from_numpy(truth[known].astype(np.float32)), torch.from_numpy(labels[known]), 0.5)
    estimates = count_estimates(counts)
    rows = [Row(TRUTH_BY_LABELS, name, *estimates[name]) for name in ("f1", "precision", "recall")]
    return [*rows, Row(TRUTH_BY_LABELS, "predicted", int(counts.predicted))]


def _cells(table: Table) -> tuple[list[str], list[list[str]]]:
    """Header and lines as text; what the rows are by is said once."""
    folds = any(row.folds is not None for row in table.rows)
    header = ["By", "Quantity", *(["Mean ± sd", "Together"] if folds else ["Value"]), "95 % interval"]
    if table.paper:
        header.append(f"Paper, {table.paper}")
    lines, last = [], None
    for row in table.rows:
        line = [row.by if row.by != last else "", NAMES[row.quantity]]
        line += [_with_spread(row.mean, row.sd)] if folds else []
        line += [_number(row.value), _interval(row)]
        line += [_with_spread(row.paper, row.paper_sd)] if table.paper else []
        lines.append(line)
        last = row.by
    return header, lines


def _with_spread(value: float | None, sd: float | None) -> str:
    return _number(value) if sd is None else f"{_number(value)} ± {_number(sd)}"


def _interval(row: Row) -> str:
    if row.low is None or math.isnan(row.low):
        return ""
    return f"{_number(row.low)}–{_number(row.high)}"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else "undefined" if math.isnan(value) else f"{value:.3f}"
