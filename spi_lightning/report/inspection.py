"""What spi-inspect tells about a run, and the pictures that go with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from spi_lightning.instrument import Geometry
from spi_lightning.patterns.frames import Frames
from spi_lightning.patterns.run import Run
from spi_lightning.progress import progress
from spi_lightning.report.figures import contact_sheet, mean_and_psd, save
from spi_lightning.report.summary import Counts, contact_choice, count_statistics


def look_at(run: Run, patterns: Frames, folder: Path, how_many: int) -> dict[str, Any]:
    """Go through a run, draw ``contact_sheet.png`` and ``mean_and_psd.png`` into ``folder``, and say what it is.

    Args:
        run: as stored.
        patterns: the same run as it is to be used: prepared, or ``run`` itself.
        folder: for the pictures.
        how_many: patterns on the contact sheet.

    Returns:
        Facts by name, as plain values, in the order in which to tell them.
    """
    with progress("Reading", len(patterns)) as advance:
        counts = count_statistics(patterns, advance)
    _draw(patterns, counts, folder, how_many)
    facts: dict[str, Any] = {
        "files": len({segment.path for segment in run.segments}),
        "dialect": ", ".join(sorted({segment.dialect for segment in run.segments})),
        "datasets": sorted({segment.dataset for segment in run.segments}),
        "patterns": len(run),
        "first and last id": [str(run.ids[0]), str(run.ids[-1])],
        "stored shape": list(run.shape),
        "stored dtype": str(run.dtype),
    }
    if patterns is not run:
        facts |= {"shape used": list(patterns.shape), "dtype used": str(patterns.dtype)}
    facts |= _geometry_facts(patterns.geometry)
    facts["masked"] = f"{1 - patterns.mask.mean():.2%} of the pixels"
    percentiles = np.percentile(counts.totals, [0, 5, 50, 95, 100])
    facts |= {
        "mean per pixel": round(counts.mean, 4),
        "standard deviation": round(counts.deviation, 4),
        "lowest, highest": [round(counts.lowest, 3), round(counts.highest, 3)],
        "pixels without signal": f"{counts.zeros:.1%}",
        "not finite": counts.not_finite,
        "totals: min 5% 50% 95% max": [round(float(value), 1) for value in percentiles],
        "labels": _label_facts(patterns.labels),
        "found": dict(getattr(patterns, "found", {})),
        "notes": list(patterns.notes),
        "pictures": [str(folder / "contact_sheet.png"), str(folder / "mean_and_psd.png")],
    }
    return facts


def print_facts(facts: dict[str, Any]) -> None:
    """Print facts as a table of two columns."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, fact in facts.items():
        if isinstance(fact, dict):
            fact = ", ".join(f"{key} {_short(value)}" for key, value in fact.items()) or "–"
        elif isinstance(fact, list):
            separator = "\n" if name in ("notes", "pictures", "datasets") else ", "
            fact = separator.join(_short(value) for value in fact) or "–"
        table.add_row(name, Text(_short(fact)))
    Console().print(table)


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _geometry_facts(geometry: Geometry) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "photon energy": f"{geometry.photon_energy:.6g} eV" if geometry.photon_energy else "not known",
        "distance": f"{geometry.distance:.6g} m" if geometry.distance else "not known",
        "pixel size": f"{geometry.pixel_size * 1e6:.6g} µm" if geometry.pixel_size else "not known",
        "centre (x, y)": [round(value, 3) for value in geometry.centre] if geometry.centre else "not known",
    }
    if not geometry.missing():
        facts["q per pixel"] = f"{geometry.on_detector((1, 1)).q_per_pixel:.6g} nm⁻¹"
    return facts


def _label_facts(labels: np.ndarray | None) -> str:
    if labels is None:
        return "none"
    single, other, unknown = (int((labels == value).sum()) for value in (1, 0, -1))
    return f"{single} single hits, {other} others" + (f", {unknown} unknown" if unknown else "")


def _draw(patterns: Frames, counts: Counts, folder: Path, how_many: int) -> None:
    import torch

    from spi_lightning.analysis.psd import angular_mean, radial_bins
    from spi_lightning.reciprocal import ring_momentum

    chosen = contact_choice(len(patterns), patterns.labels, how_many)
    frames = np.nan_to_num(patterns.read(chosen), nan=0.0, posinf=0.0, neginf=0.0)
    labels = patterns.labels
    marks = ["" if labels is None else {1: " single", 0: " other"}.get(int(labels[i]), "") for i in chosen]
    titles = [f"{patterns.ids[i]}{mark}\n{counts.totals[i]:,.0f}" for i, mark in zip(chosen, marks, strict=True)]
    save(contact_sheet(frames, patterns.mask, titles), folder / "contact_sheet.png")
    geometry = patterns.geometry
    # Rings need a middle; without a known one the detector's own is a start, and the figure does not mark it.
    centre = geometry.centre or ((patterns.shape[1] - 1) / 2, (patterns.shape[0] - 1) / 2)
    mask = torch.from_numpy(patterns.mask)
    mean = torch.from_numpy(np.nan_to_num(counts.mean_pattern))
    psd = angular_mean(mean, radial_bins(patterns.shape, centre), mask).numpy()
    q = None if geometry.missing() else ring_momentum(geometry.on_detector(patterns.shape), len(psd)).numpy()
    figure = mean_and_psd(counts.mean_pattern, patterns.mask, geometry.centre, psd, q)
    save(figure, folder / "mean_and_psd.png")
