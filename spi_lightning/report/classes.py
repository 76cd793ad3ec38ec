"""The page of class averages, by which an expert checks, and may replace, the choice of classes."""

from __future__ import annotations

import math

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spi_lightning.analysis.class_choice import ClassMeasures
from spi_lightning.report.curves import SINGLE
from spi_lightning.report.figures import MASKED

COLUMNS = 5
_WIDTH, _CAPTION, _HEAD = 2.35, 0.72, 0.55  # inches: of a picture, of the lines above it, of the page's title
_DECADES = 2.5  # of a picture's scale, at most
_QUIET = "#333333"


def class_page(
    images: torch.Tensor,
    coverage: torch.Tensor,
    measures: ClassMeasures,
    chosen: torch.Tensor,
    logarithm: bool = False,
) -> Figure:
    """All class averages with what was measured of them, the best score first; the chosen ones are framed.

    Each picture has its own logarithmic scale of at most 2.5 decades, since classes differ in brightness and the eye
    should compare fringes.

    Args:
        images: ``(K, S, S)``, photons a pixel.
        coverage: ``(K, S, S)``; pixels that were never seen (0) are grey.
        measures: of the same classes.
        chosen: ``(K,)`` bool.
        names: of the classes; None: their numbers, from 0, as a manual list takes them.
        logarithm: the images are means of log(1 + photons), as EM makes them unless told otherwise.

    Returns:
        The figure; save it with :func:`~spi_lightning.report.figures.save`.
    """
    count = len(images)
    shown = (images.expm1() if logarithm else images).double().cpu().numpy()
    seen, marked = (coverage > 0).cpu().numpy(), chosen.cpu().numpy()
    order = np.argsort(-measures.score.nan_to_num(-1.0).cpu().numpy(), kind="stable")
    columns, rows = min(COLUMNS, count), math.ceil(count / COLUMNS)
    width, height = max(columns, 3) * _WIDTH, rows * (_WIDTH + _CAPTION) + _HEAD
    figure = Figure(figsize=(width, height))
    # Pictures of a fixed size at fixed places: captions of three lines would otherwise squeeze them.
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    figure.subplots_adjust(
        left=0.01,
        right=0.99,
        bottom=0.06 / height,
        top=1 - (_HEAD + _CAPTION) / height,
        wspace=0.06,
        hspace=(_CAPTION + 0.1) / (_WIDTH - 0.1),
    )
    patterns = int(measures.patterns[chosen.to(measures.patterns.device)].sum())
    total = int(measures.patterns.sum())
    figure.suptitle(
        f"{int(marked.sum())} of {count} classes chosen (framed): {patterns} of {total} patterns",
        fontsize=10,
        y=1 - 0.12 / height,
        va="top",
    )
    for axis in grid[count:]:
        axis.set_visible(False)
    for axis, label in zip(grid, order.tolist(), strict=False):
        _draw(axis, shown[label], seen[label])
        _caption(axis, str(label), _numbers(measures, label), bool(marked[label]))
    return figure


def _numbers(measures: ClassMeasures, label: int) -> str:
    members = int(measures.patterns[label])
    if members == 0:
        return "empty\n\n"
    diameter = float(measures.diameter[label])
    return (
        f"{members} pattern{'' if members == 1 else 's'}   score {_text(measures.score[label])}\n"
        f"contrast {_text(measures.contrast[label])}   misfit {_text(measures.misfit[label])}   "
        f"{'–' if math.isnan(diameter) else f'{diameter:.0f} nm'}\n"
        f"symmetry {_text(measures.symmetry[label])}   spread {_text(measures.spread[label])}"
    )


def _text(value: torch.Tensor) -> str:
    number = float(value)
    return f"{number:.2f}" if math.isfinite(number) else ("–" if math.isnan(number) else "∞")


def _caption(axis: Axes, name: str, numbers: str, chosen: bool) -> None:
    colour = SINGLE if chosen else _QUIET
    axis.set_title(
        f"{name}{'  chosen' if chosen else ''}", fontsize=9, fontweight="bold", color=colour, loc="left", y=1.18
    )
    axis.text(0, 1.015, numbers, transform=axis.transAxes, fontsize=7, va="bottom", linespacing=1.25)
    axis.set(xticks=[], yticks=[])
    for spine in axis.spines.values():
        spine.set(edgecolor=colour, linewidth=3 if chosen else 0.6)


def _draw(axis: Axes, image: np.ndarray, seen: np.ndarray) -> None:
    lit = image[seen & (image > 0)]
    low, top = np.percentile(lit, [2, 99.8]) if lit.size else (0.1, 1.0)
    top = max(float(top), 1e-12)
    low = min(max(float(low), top * 10**-_DECADES), top / 2)
    axis.imshow(
        np.where(seen, np.log10(np.maximum(image, low)), np.nan),
        cmap=matplotlib.colormaps["viridis"].with_extremes(bad=MASKED),
        vmin=math.log10(low),
        vmax=math.log10(top),
        interpolation="none",
    )
