"""Pictures of patterns: contact sheets, mean patterns, PSDs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from spi_lightning.patterns.export_cxi import replaced_when_done

MASKED = "#8a8a8a"


def contact_sheet(
    frames: np.ndarray, mask: np.ndarray, titles: Sequence[str], columns: int = 6, top: float | None = None
) -> Figure:
    """Patterns side by side on one logarithmic scale.

    Args:
        frames: ``(n, rows, columns)``, photons.
        mask: ``(rows, columns)`` bool, True where good; the rest is grey.
        titles: one a pattern.
        columns: pictures in a row.
        top: photons at the upper end of the scale; the 99.9th percentile where None.

    Returns:
        The figure; save it with :func:`save`.
    """
    columns = max(1, min(columns, len(frames)))
    rows = math.ceil(len(frames) / columns)
    tall = frames.shape[1] / frames.shape[2]
    width = 2.1 if tall <= 1 else 1.5
    figure = Figure(figsize=(columns * width + 0.8, rows * (width * tall + 0.32)), layout="compressed")
    axes = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    if top is None:
        lit = frames[:, mask]
        top = float(np.percentile(lit[lit > 0], 99.9)) if (lit > 0).any() else 1.0
    image = None
    for axis in axes:
        axis.axis("off")
    for axis, frame, title in zip(axes, frames, titles, strict=False):
        image = draw_pattern(axis, frame, mask, top)
        axis.set_title(plain(title), fontsize=7, pad=2)
    if image is not None:
        bar = figure.colorbar(image, ax=list(axes), shrink=0.5, pad=0.01)
        photon_ticks(bar, top)
    return figure


def mean_and_psd(
    mean: np.ndarray, mask: np.ndarray, centre: tuple[float, float] | None, psd: np.ndarray, q: np.ndarray | None
) -> Figure:
    """The mean pattern, the beam marked, and its PSD.

    Args:
        mean: ``(rows, columns)``, photons.
        mask: ``(rows, columns)`` bool, True where good.
        centre: of the beam, (x, y) in pixels; None where unknown.
        psd: ``(rings,)``, photons a pixel at radius 0, 1, 2 … pixels; NaN where a ring has no good pixel.
        q: ``(rings,)``, momentum transfer of each ring, nm⁻¹; None labels the axis in pixels.
    """
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.35))
    top = float(np.nanmax(np.where(mask, mean, np.nan))) if mask.any() else 1.0
    bar = figure.colorbar(
        draw_pattern(left, mean, mask, max(top, 1e-6), floor=max(top, 1e-6) * 1e-4), ax=left, shrink=0.8
    )
    bar.set_label("log10 of mean photons")
    if centre is not None:
        rows, columns = mean.shape
        left.plot(*centre, "+", color="white", markeredgecolor="red", markersize=12, clip_on=False)
        left.set_xlim(min(-0.5, centre[0] - 3), max(columns - 0.5, centre[0] + 3))
        left.set_ylim(max(rows - 0.5, centre[1] + 3), min(-0.5, centre[1] - 3))
    left.set(title="Mean pattern", xlabel="column (px)", ylabel="row (px)")
    right.semilogy(np.arange(len(psd)) if q is None else q, np.where(psd > 0, psd, np.nan), color="#1f4e9c")
    right.set(title="PSD: angular mean", ylabel="photons a pixel")
    right.set_xlabel("distance from the beam (px)" if q is None else "q (nm⁻¹)")
    right.grid(alpha=0.3, which="both")
    return figure


def plain(text: str) -> str:
    """Text as it is: matplotlib would read what stands between dollar signs as a formula."""
    return text.replace("$", r"\$")


def save(figure: Figure, path: Path, dpi: int = 130) -> None:
    """Write a figure as PNG; the file appears only once it is whole."""
    with replaced_when_done(path) as partial:
        figure.savefig(partial, dpi=dpi, format="png")


def draw_pattern(axis: Axes, frame: np.ndarray, mask: np.ndarray, top: float, floor: float = 0.4) -> AxesImage:
    """Draw one pattern on a logarithmic scale, masked pixels grey.

    Args:
        axis: to draw on.
        frame: ``(rows, columns)``, photons.
        mask: ``(rows, columns)`` bool, True where good.
        top: photons at the upper end of the scale.
        floor: photons at its lower end.
    """
    import matplotlib

    colours = matplotlib.colormaps["viridis"].with_extremes(bad=MASKED)
    shown = np.where(mask, np.log10(np.maximum(frame.astype(np.float64), floor)), np.nan)
    return axis.imshow(
        shown,
        cmap=colours,
        vmin=math.log10(floor),
        vmax=max(math.log10(top), math.log10(floor) + 0.5),
        interpolation="none",
    )


def photon_ticks(bar: Colorbar, top: float) -> None:
    """Label a colour bar of :func:`draw_pattern` in photons."""
    values = [value for value in (1, 3, 10, 30, 100, 300, 1000, 3000, 10000, 100000) if value <= top] or [1]
    bar.set_ticks([math.log10(value) for value in values], labels=[f"{value:g}" for value in values])
    bar.set_label("photons", fontsize=8)
    bar.ax.tick_params(labelsize=7)
