"""Selections as files for people and for other programs."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from spi_lightning.patterns.export import export_cxi, export_dragonfly
from spi_lightning.patterns.export_cxi import replaced_when_done
from spi_lightning.patterns.frames import Frames
from spi_lightning.provenance import provenance
from spi_lightning.selection.names import file_name
from spi_lightning.selection.results import Findings, Selection


def export_selections(folder: Path, findings: Findings, run: Frames, csv: bool, cxi: bool, emc: bool) -> list[Path]:
    """Write every selection, in place of what an earlier job has written.

    Args:
        folder: receives the files; it must exist.
        findings: with the selections.
        run: the patterns.
        csv: ``NAME.csv``, the patterns of the selection with what is known of them; and ``dropped/NAME.csv``, those
            that passed its first step but not all of them, each with the reason.
        cxi: ``NAME.cxi``; none of an empty selection.
        emc: ``NAME.emc`` and ``detector.h5``, for Dragonfly; likewise.

    Returns:
        The files.

    Raises:
        SpiError: a file cannot be written.
    """
    for pattern in ("*.csv", "dropped/*.csv", "*.cxi", "*.emc", "detector.h5"):
        for old in folder.glob(pattern):
            old.unlink()
    files: list[Path] = []
    command = " ".join(provenance()["command"])
    for name, selection in findings.selections.items():
        path = folder / file_name(name)
        if csv:
            dropped = folder / "dropped"
            dropped.mkdir(exist_ok=True)
            files += [path.with_name(f"{path.name}.csv"), dropped / f"{path.name}.csv"]
            _write_csv(files[-2], _kept(findings, selection))
            _write_csv(files[-1], _dropped(findings, selection))
        if cxi and len(selection.kept):
            files.append(path.with_name(f"{path.name}.cxi"))
            export_cxi(run, selection.kept, files[-1], program="spi-select", command=command)
        if emc and len(selection.kept):
            files.append(path.with_name(f"{path.name}.emc"))
            export_dragonfly(run, selection.kept, files[-1], folder / "detector.h5")
    return files


def _kept(findings: Findings, selection: Selection) -> Iterable[list[object]]:
    """The patterns of a selection, the most probable single hit first; what is not known is left empty."""
    columns: dict[str, np.ndarray] = {
        "id": findings.ids[selection.kept],
        "index": selection.kept,
        "score": findings.scores[selection.kept],
    }
    if findings.labels is not None:
        columns["label"] = findings.labels[selection.kept]
    if findings.sizes is not None and len(findings.measured):
        rows = findings.rows(selection.kept)
        columns["diameter_nm"] = findings.sizes.diameter[rows].numpy()
        columns["fidelity"] = findings.sizes.fidelity[rows].numpy()
    if selection.classes is not None:
        found = findings.classes[selection.classes]
        columns["em_class"] = found.classes[np.searchsorted(found.members, selection.kept)]
    yield list(columns)
    order = np.argsort(-np.nan_to_num(columns["score"], nan=-1.0), kind="stable")
    yield from (list(row) for row in zip(*(_cells(values[order]) for values in columns.values()), strict=True))


def _dropped(findings: Findings, selection: Selection) -> Iterable[list[object]]:
    """The patterns that passed the first step, but not all of them."""
    yield ["id", "index", "reason"]
    later = np.array(selection.step_of) > 0
    for place in np.flatnonzero(later[selection.reason]).tolist():
        yield [findings.ids[place], place, selection.reasons[selection.reason[place]]]


def _cells(values: np.ndarray) -> list[object]:
    if values.dtype.kind == "f":
        return ["" if value != value else f"{value:.7g}" for value in values.tolist()]
    return values.tolist()


def _write_csv(path: Path, rows: Iterable[list[object]]) -> None:
    with replaced_when_done(path) as partial, open(partial, "w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
