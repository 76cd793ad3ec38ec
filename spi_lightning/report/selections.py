"""Table 4: selections with their contrast, and what each of their steps did."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from spi_lightning.analysis.classification import confusion, precision, recall
from spi_lightning.provenance import write_text
from spi_lightning.report.layout import csv_text, filled, markdown, printed
from spi_lightning.report.paper_selections import PAPER_SELECTIONS, beside

if TYPE_CHECKING:
    from spi_lightning.selection.results import Findings, Selection

TITLE = "Selections"
HEADER = (
    *("Selection", "Each step", "Patterns", "γ", "95 % interval", "Other γ", "Size (nm)"),
    *("Precision", "Recall", "Precision, truth", "Recall, truth", "Paper", "Paper: γ"),
)
# On a terminal, the table in two parts, which 80 characters have place for.
PRINTED = ((0, 2, 3, 4, 6, 11, 12), (0, 5, 7, 8, 9, 10))


@dataclass(frozen=True)
class SelectionRow:
    """A row of Table 4; what is not known is None, and what is 0/0 or was not found is NaN.

    Attributes:
        selection: its name.
        steps: patterns before the first step and after each, such as ``12000 → 300 → 210``.
        patterns: how many it holds.
        contrast: of its PSD (eq. 5).
        contrast_low: lower end of the 95 % interval of the contrast.
        contrast_high: upper end.
        reason: why there is no contrast; empty where there is.
        other_pairing: the contrast where minima are paired with the maxima on their other side.
        diameter: median over its patterns to which a size was fitted, nm.
        precision: share of single hits, by the labels.
        recall: share of the labelled single hits that it holds.
        true_precision: the same by the truth of a simulation.
        true_recall: the same by the truth.
        paper: the paper's selection beside it.
        paper_patterns: how many that holds.
        paper_contrast: its contrast.
    """

    selection: str
    steps: str
    patterns: int
    contrast: float | None
    contrast_low: float | None
    contrast_high: float | None
    reason: str
    other_pairing: float | None
    diameter: float | None
    precision: float | None
    recall: float | None
    true_precision: float | None
    true_recall: float | None
    paper: str | None
    paper_patterns: int | None
    paper_contrast: float | None


def selection_rows(
    findings: Findings, truth: np.ndarray | None = None, paper: Mapping[str, str] | None = None
) -> list[SelectionRow]:
    """Table 4, one row a selection.

    Precision and recall are over the patterns that have a label and a score, so that what the networks were trained on
    flatters no selection; where no pattern has a score, over all labelled ones.

    Args:
        findings: of the run.
        truth: int8 ``(n,)`` over the whole run: 1 single hit, 0 other, -1 unknown; None where it is not known.
        paper: the paper's names by ours, see :func:`spi_lightning.report.paper_selections.beside`.
    """
    counterparts = beside(list(findings.selections), paper)
    scored = np.isfinite(findings.scores)
    judged = scored if scored.any() else np.ones(len(scored), dtype=bool)
    rows = []
    for name, selection in findings.selections.items():
        contrast = None if selection.contrast is None else float(selection.contrast.value[0])
        reason = "" if selection.contrast is None else selection.contrast.reasons[0]
        low, high = selection.interval if contrast is not None else (None, None)
        theirs = PAPER_SELECTIONS.get(counterparts.get(name, ""))
        by_labels, by_truth = (_agreement(selection.kept, known, judged) for known in (findings.labels, truth))
        row = SelectionRow(
            selection=name,
            steps=" → ".join(str(count) for count in _counts(selection)),
            patterns=len(selection.kept),
            contrast=contrast,
            contrast_low=low,
            contrast_high=high,
            reason=reason,
            other_pairing=None if contrast is None else selection.other_pairing,
            diameter=_median_diameter(findings, selection.kept),
            precision=by_labels[0],
            recall=by_labels[1],
            true_precision=by_truth[0],
            true_recall=by_truth[1],
            paper=counterparts.get(name),
            paper_patterns=theirs.patterns if theirs else None,
            paper_contrast=theirs.contrast if theirs else None,
        )
        rows.append(row)
    return rows


def write_selections(folder: Path, rows: list[SelectionRow], findings: Findings) -> None:
    """Write and print Table 4, and write what each step did.

    Args:
        folder: receives ``selections.csv`` (all digits), ``selections.md`` (as a person reads it),
            ``selection_steps.csv`` (patterns before and after each step) and ``selection_reasons.csv`` (how many
            patterns were dropped for which reason). It must exist.
        rows: of :func:`selection_rows`.
        findings: the same.
    """
    from rich.console import Console

    names = [field.name for field in dataclasses.fields(SelectionRow)]
    write_text(folder / "selections.csv", csv_text(names, [dataclasses.asdict(row) for row in rows]))
    header, lines = filled(HEADER, [_cells(row) for row in rows])
    left = sum(name in HEADER[:2] for name in header)
    notes = _notes(rows)
    write_text(folder / "selections.md", "\n\n".join([f"## {TITLE}", markdown(header, lines, left), *notes]) + "\n")
    chosen = findings.selections.items()
    steps = [{"selection": name, **dataclasses.asdict(step)} for name, found in chosen for step in found.steps]
    write_text(folder / "selection_steps.csv", csv_text(["selection", "name", "what", "before", "after"], steps))
    reasons = [
        {"selection": name, "reason": found.reasons[reason], "patterns": int(count)}
        for name, found in chosen
        for reason, count in enumerate(np.bincount(found.reason, minlength=len(found.reasons)))
        if reason and count
    ]
    write_text(folder / "selection_reasons.csv", csv_text(["selection", "reason", "patterns"], reasons))
    console = Console()
    cells = [_cells(row) for row in rows]
    for part, title in zip(PRINTED, (TITLE, "Other pairing; labels and truth"), strict=True):
        header, lines = filled([HEADER[index] for index in part], [[line[index] for index in part] for line in cells])
        if len(header) > 1:
            console.print(printed(title, header, lines))
    for note in notes:
        console.print(note, style="dim", highlight=False, markup=False)


def scalars(rows: list[SelectionRow]) -> dict[str, float | int | None]:
    """Numbers for a logger or a provenance file, by names such as ``selection singles contrast``; None where NaN."""
    wanted = (
        "patterns",
        "contrast",
        "other_pairing",
        "diameter",
        "precision",
        "recall",
        "true_precision",
        "true_recall",
    )
    values = {f"selection {row.selection} {name}": getattr(row, name) for row in rows for name in wanted}
    return {name: None if value != value else value for name, value in values.items() if value is not None}


def diameters(findings: Findings, patterns: np.ndarray) -> np.ndarray:
    """Fitted diameters of patterns of the run, nm; NaN where none was fitted.

    Args:
        findings: of the run.
        patterns: int64 ``(k,)``.

    Returns:
        float64 ``(k,)``.
    """
    if findings.sizes is None:
        return np.full(len(patterns), np.nan)
    everywhere = np.full(len(findings.ids), np.nan)
    everywhere[findings.measured] = findings.sizes.diameter.cpu().numpy()
    return everywhere[patterns]


def _counts(selection: Selection) -> list[int]:
    return [step.before for step in selection.steps[:1]] + [step.after for step in selection.steps]


def _median_diameter(findings: Findings, kept: np.ndarray) -> float | None:
    if findings.sizes is None:
        return None
    fitted = diameters(findings, kept)
    fitted = fitted[np.isfinite(fitted)]
    return float(np.median(fitted)) if len(fitted) else math.nan


def _agreement(
    kept: np.ndarray, labels: np.ndarray | None, judged: np.ndarray
) -> tuple[float, float] | tuple[None, None]:
    """Precision and recall; None without any label."""
    if labels is None or not (labels[judged] >= 0).any():
        return None, None
    member = torch.zeros(len(labels))
    member[torch.from_numpy(kept)] = 1
    counts = confusion(member[judged], torch.from_numpy(labels.astype(np.int8))[judged], 0.5)
    return float(precision(counts)), float(recall(counts))


def _notes(rows: list[SelectionRow]) -> list[str]:
    notes = [f"Selection {row.selection}: no contrast. {row.reason}" for row in rows if row.reason]
    notes.append(
        "γ is the mean of (Imax − Imin)/(Imax + Imin) over the first fringes of the selection's PSD; its interval is "
        "that of the bootstrap over the selection's patterns. Other γ: each minimum with the maximum on its other "
        "side; the paper does not say which pairing it took. Each step: patterns before the first step, and after "
        "each. Size: median diameter."
    )
    if any(row.precision is not None or row.true_precision is not None for row in rows):
        notes.append("Precision and recall are over the patterns that have a score and a label (or a known truth).")
    if any(row.paper for row in rows):
        pairs = ", ".join(f"{row.selection}: {row.paper}" for row in rows if row.paper and row.paper != row.selection)
        notes.append(
            "Paper: patterns and γ of Table 4 of Assalauova et al. (2022)." + (f" Beside {pairs}." if pairs else "")
        )
    return notes


def _cells(row: SelectionRow) -> list[str]:
    known = row.contrast_low is not None and math.isfinite(row.contrast_low) and row.contrast_high is not None
    return [
        *(row.selection, row.steps, str(row.patterns)),
        "not found" if row.reason else _number(row.contrast, 3),
        f"{row.contrast_low:.3f}–{row.contrast_high:.3f}" if known else "",
        "" if row.reason else _number(row.other_pairing, 3),
        _number(row.diameter, 1),
        *(_number(value, 3) for value in (row.precision, row.recall, row.true_precision, row.true_recall)),
        "" if row.paper_patterns is None else str(row.paper_patterns),
        _number(row.paper_contrast, 2),
    ]


def _number(value: float | None, digits: int) -> str:
    if value is None:
        return ""
    return "undefined" if math.isnan(value) else f"{value:.{digits}f}"
