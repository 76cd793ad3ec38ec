"""A picture of what an augmentation does to patterns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.colors import AsinhNorm
from matplotlib.figure import Figure

from spi_lightning.augmentation.pipeline import Pipeline
from spi_lightning.data.normalisation import Normalisation
from spi_lightning.report.figures import MASKED

WIDTH = 1.5  # of a picture, inches


def augmentation_grid(
    patterns: np.ndarray, mask: np.ndarray, pipeline: Pipeline, normalisation: Normalisation, seeds: Sequence[int]
) -> Figure:
    """Patterns as they are, and beside each its variants as the network sees them.

    Args:
        patterns: ``(n, rows, columns)``, photons; one row of pictures each.
        mask: ``(rows, columns)`` bool, True where good; the rest is grey in the first column.
        pipeline: draws the variants.
        normalisation: of the training run.
        seeds: one column of variants each.

    Returns:
        The figure; save it with :func:`spi_lightning.report.figures.save`.
    """
    good, zero = torch.from_numpy(mask), normalisation.zero
    plain = normalisation(torch.from_numpy(patterns.astype(np.float32)))[:, None]
    columns = [np.where(mask, plain[:, 0].numpy(), np.nan)]
    columns += [pipeline(plain, good, zero, seed)[:, 0].numpy() for seed in seeds]
    photon = float(normalisation(torch.ones(()))) - zero
    lit = columns[0][columns[0] > zero + photon / 2]
    top = float(np.percentile(lit, 99.5)) if len(lit) else zero + photon
    # Linear below a photon, where noise and splines leave values of either sign, and logarithmic above.
    scale = AsinhNorm(linear_width=photon, vmin=-photon, vmax=max(top - zero, photon))

    tall = patterns.shape[1] / patterns.shape[2]
    size = (len(columns) * WIDTH + 0.9, len(patterns) * WIDTH * tall + 0.3)
    figure = Figure(figsize=size, layout="compressed")
    axes = figure.subplots(len(patterns), len(columns), squeeze=False)
    titles = ["pattern", *(f"seed {seed}" for seed in seeds)]
    for column, (title, images) in enumerate(zip(titles, columns, strict=True)):
        axes[0, column].set_title(title, fontsize=8)
        for axis, image in zip(axes[:, column], images, strict=True):
            axis.set(xticks=[], yticks=[], facecolor=MASKED)
            drawn = axis.imshow(image - zero, norm=scale, cmap="viridis", interpolation="none")
    bar = figure.colorbar(drawn, ax=axes, shrink=min(1.0, 2.5 / len(patterns)), pad=0.01)
    bar.set_label("above a pixel without photons, normalised", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    return figure
