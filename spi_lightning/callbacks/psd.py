"""The power spectral density of every pattern, and of every selection, with its contrast."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from spi_lightning.analysis.contrast import FringeSettings, bootstrap_contrast, expected_spacing, fringe_contrast
from spi_lightning.analysis.psd import angular_mean
from spi_lightning.analysis.size import FACTORS
from spi_lightning.callbacks.results import put_figure
from spi_lightning.callbacks.size import ParticleSize
from spi_lightning.callbacks.stage import PatternBatch, beside, stage_of
from spi_lightning.errors import require
from spi_lightning.report.selection_figures import psd_figure
from spi_lightning.selection.results import Findings, Selection


@dataclass(eq=False)
class PowerSpectralDensity(pl.Callback):
    """Measure PSDs (Assalauova et al. 2022, section 3.6), and judge selections by the contrast of their fringes.

    Attributes:
        fringes: how minima and maxima are found.
        resamples: of the bootstrap over patterns that gives the contrast's interval.
        seed: of the bootstrap.
    """

    fringes: FringeSettings
    resamples: int
    seed: int

    def __post_init__(self) -> None:
        require(self.resamples >= 0, "resamples", self.resamples, "0 (no interval) or more")

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Make room for the PSDs."""
        stage = stage_of(pl_module)
        if stage.bins is not None:
            stage.findings.psd = np.zeros((len(stage.findings.measured), int(stage.bins.max()) + 1), np.float32)

    def on_predict_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: PatternBatch, *_: Any
    ) -> None:
        """Take the angular means of a batch."""
        stage = stage_of(pl_module)
        if stage.bins is not None and stage.findings.psd is not None:
            means = angular_mean(batch.counts, stage.bins.to(batch.counts.device), stage.mask)
            stage.findings.psd[batch.rows.cpu().numpy()] = means.cpu().numpy()

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Give every selection its PSD and contrast."""
        findings = stage_of(pl_module).findings
        if findings.psd is None:
            return
        sizes = beside(trainer, ParticleSize)
        factor = FACTORS[sizes.fit.shape] if sizes else 1.0
        for name, selection in findings.selections.items():
            findings.selections[name] = judged = self._judged(findings, selection, factor)
            if judged.contrast is not None and judged.contrast.reasons[0]:
                findings.notes.append(f"Selection '{name}' has no contrast: {judged.contrast.reasons[0]}")
        if any(selection.psd is not None for selection in findings.selections.values()):
            put_figure(trainer, "psd", psd_figure(findings))

    def _judged(self, findings: Findings, selection: Selection, factor: float) -> Selection:
        """The selection with its PSD; sizes are ``factor`` times those of spheres."""
        if not len(selection.kept) or findings.psd is None:
            return selection
        rows = findings.rows(selection.kept)
        single = torch.from_numpy(findings.psd[rows]).to(torch.float64)
        psd = single.mean(0)
        spacing = None
        if findings.sizes is not None and findings.q is not None:
            diameters = findings.sizes.diameter[rows][findings.sizes.flag[rows] == 0] / factor
            if len(diameters):
                spacing = float(expected_spacing(float(diameters.median()), torch.from_numpy(findings.q)))
        contrast = fringe_contrast(psd[None], self.fringes, spacing)
        other = dataclasses.replace(self.fringes, pairing="previous" if self.fringes.pairing == "next" else "next")
        other_pairing = float(fringe_contrast(psd[None], other, spacing).value[0])
        interval = (float("nan"), float("nan"))
        if self.resamples and len(rows) > 1:
            interval = bootstrap_contrast(single, self.fringes, spacing, self.resamples, self.seed)
        return dataclasses.replace(
            selection, psd=psd.numpy(), contrast=contrast, interval=interval, other_pairing=other_pairing
        )
