"""Patterns that were selected, and others, side by side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytorch_lightning as pl

from spi_lightning.callbacks.results import put_figure
from spi_lightning.callbacks.stage import stage_of
from spi_lightning.errors import require
from spi_lightning.report.selection_figures import example_figure


@dataclass(eq=False)
class Examples(pl.Callback):
    """Draw patterns of the first selection, and others, by chance (Fig. 2 of the paper).

    Attributes:
        each: patterns of each kind.
        seed: by which they are drawn.
    """

    each: int
    seed: int

    def __post_init__(self) -> None:
        require(self.each >= 1, "each", self.each, "1 or more")

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw them."""
        stage = stage_of(pl_module)
        findings, random = stage.findings, np.random.default_rng(self.seed)
        if not findings.selections:
            return
        kept = next(iter(findings.selections.values())).kept
        others = np.setdiff1d(np.flatnonzero(np.isfinite(findings.scores)), kept)
        drawn = [random.choice(some, min(self.each, len(some)), replace=False) for some in (kept, others)]
        chosen = np.concatenate(drawn)
        if not len(chosen):
            return
        titles = [f"{findings.ids[place]}\nscore {findings.scores[place]:.3g}" for place in chosen.tolist()]
        single = np.repeat([True, False], [len(some) for some in drawn])
        geometry = stage.run.geometry
        q_per_pixel = None if geometry.missing() else geometry.on_detector(stage.run.shape).q_per_pixel
        put_figure(
            trainer, "examples", example_figure(stage.run.read(chosen), single, titles, stage.run.mask, q_per_pixel)
        )
