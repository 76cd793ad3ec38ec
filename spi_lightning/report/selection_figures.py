"""Pictures of selections: examples, PSDs, size histograms and overlap, as figures 2, 4 and 5 of the paper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from spi_lightning.analysis import overlap
from spi_lightning.report.curves import cycled
from spi_lightning.report.figures import draw_pattern, photon_ticks, plain
from spi_lightning.report.overlap import memberships
from spi_lightning.report.selections import diameters

if TYPE_CHECKING:
    from spi_lightning.selection.results import Findings, Selection

LINES = 6  # in a panel, at most
BARS = (0.2, 0.1, 0.05, 0.02, 0.01, 0.005)  # nm⁻¹, lengths of the scale bar; the paper's Fig. 2 has the first


def panels(names: Sequence[str], most: int = LINES) -> list[list[str]]:
    """Selections that are best seen together, as in the paper's Figs. 4 and 5.

    Selections that are refined from one, such as ``singles``, ``singles + EM`` and ``singles + size``, share a panel.
    Others, such as a reference, stand in every panel with place for all of them, and in one of their own otherwise.

    Args:
        names: of the selections.
        most: lines in a panel.
    """
    families: dict[str, list[str]] = {}
    for name in names:
        families.setdefault(name.partition("+")[0].strip(), []).append(name)
    alone = [family[0] for family in families.values() if len(family) == 1]
    found = [
        family[i : i + most] for family in families.values() if len(family) > 1 for i in range(0, len(family), most)
    ]
    if found and all(len(panel) + len(alone) <= most for panel in found):
        return [panel + alone for panel in found]
    return found + [alone[i : i + most] for i in range(0, len(alone), most)]


def example_figure(
    frames: np.ndarray, single: np.ndarray, titles: Sequence[str], mask: np.ndarray, q_per_pixel: float | None
) -> Figure:
    """Patterns that are called single hits, and below them others, on one logarithmic scale.

    Args:
        frames: ``(n, rows, columns)``, photons.
        single: bool ``(n,)``, whether each is called a single hit.
        titles: one a pattern, such as its id and score.
        mask: ``(rows, columns)`` bool, True where good; the rest is grey.
        q_per_pixel: nm⁻¹, for a scale bar; None where it is not known.
    """
    rows = [(name, np.flatnonzero(chosen).tolist()) for name, chosen in (("single hits", single), ("others", ~single))]
    rows = [(name, chosen) for name, chosen in rows if len(chosen)]
    columns = max([len(chosen) for _, chosen in rows], default=1)
    tall = frames.shape[1] / frames.shape[2]
    width = 2.1 if tall <= 1 else 1.5
    figure = Figure(figsize=(columns * width + 1.1, max(1, len(rows)) * (width * tall + 0.4)), layout="compressed")
    axes = figure.subplots(max(1, len(rows)), columns, squeeze=False)
    lit = frames[:, mask]
    top = float(np.percentile(lit[lit > 0], 99.9)) if (lit > 0).any() else 1.0
    image = None
    for axis in axes.ravel():
        axis.set(xticks=[], yticks=[], frame_on=False)
    for line, (name, chosen) in zip(axes, rows, strict=False):
        line[0].set_ylabel(f"called {name}", fontsize=9)
        for axis, index in zip(line, chosen, strict=False):
            image = draw_pattern(axis, frames[index], mask, top)
            axis.set_title(plain(titles[index]), fontsize=7, pad=2)
        if q_per_pixel is not None:
            _scale_bar(line[0], frames.shape[2], frames.shape[1], q_per_pixel)
    if image is not None:
        photon_ticks(figure.colorbar(image, ax=axes.ravel().tolist(), shrink=0.5, pad=0.01), top)
    return figure


def psd_figure(findings: Findings, groups: Sequence[Sequence[str]] | None = None) -> Figure:
    """PSDs of selections against q, with the extrema that their contrasts are from; Fig. 4 of the paper.

    Args:
        findings: of the run; selections whose PSD was not measured are left out.
        groups: names that share a panel.
    """
    measured = {name: chosen for name, chosen in findings.selections.items() if chosen.psd is not None}
    figure, axes = _panel_axes(groups, list(measured), height=4.4)
    for axis, group in axes:
        for name, colour in zip(group, cycled(len(group)), strict=True):
            _draw_psd(axis, measured[name], findings.q, colour)
        axis.set(yscale="log", ylabel="PSD (photons a pixel)")
        axis.set_xlabel("distance from the beam (px)" if findings.q is None else "q (nm⁻¹)")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8, title="patterns, contrast", title_fontsize=8)
    return figure


def size_figure(findings: Findings, groups: Sequence[Sequence[str]] | None = None) -> Figure:
    """How many patterns of each selection have which size, the wanted range marked; Fig. 5 of the paper.

    Args:
        findings: of the run, with sizes.
        groups: names that share a panel.
    """
    fitted = {name: diameters(findings, chosen.kept) for name, chosen in findings.selections.items()}
    edges = _bins(list(fitted.values()), findings.range)
    figure, axes = _panel_axes(groups, list(fitted), height=3.8)
    for axis, group in axes:
        if findings.range is not None:
            text = f"{findings.range[0]:g} to {findings.range[1]:g} nm"
            axis.axvspan(
                *findings.range, facecolor="#efe9d8", edgecolor="#b9ab7d", linestyle="--", label=text, zorder=0
            )
        for name, colour in zip(group, cycled(len(group)), strict=True):
            sizes = fitted[name]
            finite = sizes[np.isfinite(sizes)]
            without, outside = len(sizes) - len(finite), int(((finite < edges[0]) | (finite > edges[-1])).sum())
            more = [f"{without} without a size"] * (without > 0) + [f"{outside} beyond the axis"] * (outside > 0)
            label = f"{plain(name)}: {len(sizes)}" + (f" ({', '.join(more)})" if more else "")
            axis.hist(finite, edges.tolist(), histtype="stepfilled", facecolor=colour, alpha=0.1)
            axis.hist(finite, edges.tolist(), histtype="step", color=colour, linewidth=1.3, label=label)
        axis.yaxis.set_major_locator(MaxNLocator(integer=True))
        axis.set(xlabel="particle size (nm)", ylabel="patterns", xlim=(edges[0], edges[-1]))
        axis.legend(fontsize=8)
    return figure


def overlap_figure(findings: Findings) -> Figure:
    """Patterns that selections share, and intersection over union; Table 5 of the paper as a picture."""
    names = list(findings.selections)
    member = memberships(findings.selections, len(findings.ids))
    both, iou = overlap.intersections(member).numpy(), overlap.iou(member).numpy()
    side = 0.82 * len(names)
    figure = Figure(figsize=(side + 3.6, side + 2.0), layout="constrained")
    axis = figure.subplots()
    image = axis.imshow(iou, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(both.shape):
        share = iou[row, column]
        text = f"{both[row, column]}\n" + ("–" if np.isnan(share) else f"{share:.0%}")
        axis.text(column, row, text, ha="center", va="center", fontsize=8, color="white" if share > 0.55 else "black")
    sizes = [f"{plain(name)} ({both[index, index]})" for index, name in enumerate(names)]
    axis.set_xticks(range(len(names)), labels=sizes, rotation=40, ha="right", rotation_mode="anchor", fontsize=8)
    axis.set_yticks(range(len(names)), labels=sizes, fontsize=8)
    axis.set_title("Patterns in both selections", fontsize=11)
    figure.colorbar(image, ax=axis, shrink=0.7, label="intersection over union")
    return figure


def _panel_axes(
    groups: Sequence[Sequence[str]] | None, names: list[str], height: float
) -> tuple[Figure, list[tuple[Axes, list[str]]]]:
    """A figure with a panel for each group that has something to show."""
    wanted = panels(names) if groups is None else groups
    shown = [chosen for group in wanted if (chosen := [name for name in group if name in names])]
    across = min(2, max(1, len(shown)))
    down = max(1, -(-len(shown) // across))
    figure = Figure(figsize=(7.0 if across == 1 else 12.0, down * height), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False).ravel()
    for axis in axes[max(1, len(shown)) :]:
        axis.axis("off")
    return figure, list(zip(axes, shown, strict=False))


def _draw_psd(axis: Axes, selection: Selection, q: np.ndarray | None, colour: str) -> None:
    assert selection.psd is not None
    psd = np.asarray(selection.psd, dtype=np.float64)
    x = np.arange(len(psd)) if q is None else q
    contrast = np.nan if selection.contrast is None else float(selection.contrast.value[0])
    label = f"{plain(selection.name)}: {len(selection.kept)}, γ " + (
        "not found" if np.isnan(contrast) else f"{contrast:.2f}"
    )
    axis.plot(x, np.where(psd > 0, psd, np.nan), color=colour, linewidth=1.4, label=label)
    if selection.contrast is None or np.isnan(contrast):
        return
    for rings, mark in ((selection.contrast.minima[0], "v"), (selection.contrast.maxima[0], "^")):
        found = rings.cpu().numpy()
        found = found[found >= 0]
        axis.plot(x[found], psd[found], mark, color=colour, markerfacecolor="white", markersize=5, alpha=0.7)


def _bins(sizes: list[np.ndarray], wanted: tuple[float, float] | None) -> np.ndarray:
    """Edges from the smallest to the largest size, a few in a hundred aside; as wide as Freedman and Diaconis say."""
    finite = [chosen[np.isfinite(chosen)] for chosen in sizes]
    found = np.concatenate([np.empty(0), *finite])
    margin = 0.3 * (wanted[1] - wanted[0]) if wanted else 0.0
    around = (wanted[0] - margin, wanted[1] + margin) if wanted else ()
    ends = [*(np.percentile(found, (1, 99)) if len(found) else ()), *around] or [0.0, 1.0]
    largest = max(finite, key=len, default=found)
    quarter, three = np.percentile(largest, (25, 75)) if len(largest) else (0.0, 1.0)
    ideal = 2 * (three - quarter) / max(1, len(largest)) ** (1 / 3)
    width = min((0.5, 1.0, 2.0, 5.0), key=lambda width: abs(width - ideal))
    return np.arange(np.floor(min(ends)) - width, max(ends) + 2 * width, width)


def _scale_bar(axis: Axes, width: int, height: int, q_per_pixel: float) -> None:
    lengths = [bar for bar in BARS if bar / q_per_pixel <= 0.6 * width]
    if not lengths:
        return
    length, y = lengths[0] / q_per_pixel, 0.94 * height
    right = 0.94 * width
    axis.plot([right - length, right], [y, y], color="white", linewidth=2.5, solid_capstyle="butt")
    axis.text(
        right - length / 2,
        y - 0.015 * height,
        f"{lengths[0]:g} nm⁻¹",
        color="white",
        fontsize=7,
        ha="center",
        va="bottom",
    )
