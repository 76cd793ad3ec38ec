"""The size of every particle, from its PSD."""

from __future__ import annotations

from dataclasses import dataclass, fields

import pytorch_lightning as pl
import torch

from spi_lightning.analysis.size import Sizes, SizeSettings, fit_sizes
from spi_lightning.callbacks.results import put_figure
from spi_lightning.callbacks.stage import stage_of
from spi_lightning.progress import progress
from spi_lightning.report.selection_figures import size_figure


@dataclass(eq=False)
class ParticleSize(pl.Callback):
    """Fit the form factor of a sphere to the PSD of every pattern; needs ``callbacks.psd``.

    Attributes:
        fit: how.
        wanted: range of sizes that figures mark, nm; nothing is marked where an end is None.
    """

    fit: SizeSettings
    wanted: tuple[float | None, float | None] | None

    def on_predict_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Fit all patterns at once."""
        findings = stage_of(pl_module).findings
        if findings.psd is None:
            findings.notes.append("Sizes are left out: they are fitted to the PSDs of callbacks.psd.")
            return
        if findings.q is None:  # the stage has said so
            return
        if self.wanted is not None and None not in self.wanted:
            findings.range = self.wanted  # type: ignore[assignment]  # as just said
        psd, q, photons = (
            torch.from_numpy(values).to(pl_module.device) for values in (findings.psd, findings.q, findings.photons)
        )
        with progress("Fitting sizes", len(psd)) as advance:
            sizes = fit_sizes(psd, q, self.fit, photons, advance=advance)
        findings.sizes = Sizes(**{field.name: getattr(sizes, field.name).cpu() for field in fields(Sizes)})

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the histograms."""
        findings = stage_of(pl_module).findings
        if findings.sizes is None:
            return
        if any(len(selection.kept) for selection in findings.selections.values()):
            put_figure(trainer, "sizes", size_figure(findings))
