"""EM classes of the patterns that a selection hands over, and the choice of those that look like single hits."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytorch_lightning as pl
import torch

from spi_lightning.analysis.class_choice import ChoiceSettings, ClassMeasures, choose_classes, measure_classes
from spi_lightning.analysis.consensus import classify_by_consensus
from spi_lightning.analysis.contrast import FringeSettings
from spi_lightning.analysis.em import Classification
from spi_lightning.analysis.em_images import EMPixels, em_pixels
from spi_lightning.analysis.em_settings import EMSettings
from spi_lightning.analysis.size import SizeSettings
from spi_lightning.callbacks.psd import PowerSpectralDensity
from spi_lightning.callbacks.results import put_figure
from spi_lightning.callbacks.size import ParticleSize
from spi_lightning.callbacks.stage import Stage, beside, stage_of
from spi_lightning.errors import SpiError, require
from spi_lightning.progress import progress
from spi_lightning.report.classes import class_page
from spi_lightning.selection.names import file_name
from spi_lightning.selection.results import Classes

READ = 1024  # patterns at once
SIZES = SizeSettings(smallest=20.0, largest=140.0)  # of class means, where callbacks.size does not say others


@dataclass(eq=False)
class ExpectationMaximisation(pl.Callback):
    """Offer the step ``em`` to selections: classify their patterns, and choose the classes of single hits.

    Attributes:
        em: how patterns are put into classes.
        choice: how the classes of single hits are recognised.
        q_range: momentum transfer of the pixels that take part, nm⁻¹; None for no limit on that side.
    """

    em: EMSettings
    choice: ChoiceSettings
    q_range: tuple[float | None, float | None]

    def __post_init__(self) -> None:
        first, last = self.q_range
        ordered = (first or 0.0) >= 0 and (last is None or (first or 0.0) < last)
        require(ordered, "q_range", list(self.q_range), "from a lower to a higher q, in nm⁻¹, or null")
        self._known: dict[bytes, Classes] = {}

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Offer the classification, if the pixels that take part can be told."""
        stage = stage_of(pl_module)
        self._known = {}
        try:
            pixels = self._pixels(stage)
        except SpiError as error:
            stage.findings.notes.append(f"EM is left out: {error}")
            return
        stage.context.classify = partial(self._classify, stage, pixels)

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw a page of class averages for every classification."""
        findings = stage_of(pl_module).findings
        for place, classes in enumerate(findings.classes):
            named = [name for name, selection in findings.selections.items() if selection.classes == place]
            names = named or [f"step {place}"]  # of an earlier step of a selection
            images = torch.from_numpy(classes.images)
            seen, chosen = images.isfinite(), torch.from_numpy(classes.chosen)
            figure = class_page(images.nan_to_num(), seen, classes.measures, chosen, logarithm=self.em.logarithm)
            put_figure(trainer, f"classes_{file_name(names[0])}", figure)

    def _pixels(self, stage: Stage) -> EMPixels:
        centre, q = stage.run.geometry.centre, stage.findings.q
        if centre is None or stage.bins is None or q is None:
            raise SpiError("the instrument is not known, by which its range of q and its classes are judged.")
        first, last = self.q_range[0] or 0.0, self.q_range[1] or np.inf
        seen = q[stage.bins[stage.mask.cpu()].numpy()]
        if not ((seen >= first) & (seen <= last)).any():
            there = f"those that are good go from {seen.min():.3g} to {seen.max():.3g}" if len(seen) else "none is good"
            raise SpiError(f"no good pixel has q from {first:g} to {last:g} nm⁻¹ (callbacks.em.q_range); {there}.")
        rings = np.arange(len(q), dtype=np.float64)
        return em_pixels(stage.mask.cpu(), centre, *np.interp((first, last), q, rings, right=np.inf).tolist())

    def _classify(self, stage: Stage, pixels: EMPixels, patterns: np.ndarray, by_hand: tuple[int, ...] | None) -> int:
        """Place of the classification of these patterns in :attr:`Findings.classes`."""
        findings, key = stage.findings, patterns.tobytes()
        if key not in self._known:
            self._known[key] = self._classified(stage, pixels, patterns)
        found = self._known[key]
        if by_hand is not None:
            if beyond := [number for number in by_hand if number >= len(found.chosen)]:
                raise SpiError(f"there is no class {beyond[0]}: they go from 0 to {len(found.chosen) - 1}.")
            chosen = np.isin(np.arange(len(found.chosen)), by_hand)
            found = dataclasses.replace(found, chosen=chosen, by_hand=True)
        for place, known in enumerate(findings.classes):
            if known.classes is found.classes and np.array_equal(known.chosen, found.chosen):
                return place
        findings.classes.append(found)
        return len(findings.classes) - 1

    def _classified(self, stage: Stage, pixels: EMPixels, patterns: np.ndarray) -> Classes:
        every = _counts(stage, pixels, patterns)
        lit = every.max(axis=1, initial=0) > 0
        counts = torch.from_numpy(every[lit])
        device = stage.device
        if lit.sum() < 2:
            raise SpiError(f"{int(lit.sum())} of {len(patterns)} patterns have photons in the range of EM; it needs 2.")
        total = self.em.starts * self.em.iterations
        with progress("EM", total, "iterations") as advance:
            consensus = classify_by_consensus(counts, pixels, self.em, advance=advance, device=device)
        found = consensus.classification
        measures = self._measured(stage, found, counts, pixels)
        step = 180 / self.em.rotations if self.em.friedel else 360 / self.em.rotations
        return Classes(
            members=patterns,
            classes=_placed(found.classes, lit, -1, np.int64),
            angles=_placed(found.rotations * step, lit, np.nan, np.float32),
            certainty=_placed(found.certainty, lit, 0, np.float32),
            agreement=_placed(consensus.agreement, lit, 0, np.float32),
            images=torch.where(found.coverage > 0, found.images, torch.nan).cpu().numpy().astype(np.float32),
            measures=measures,
            chosen=choose_classes(measures, self.choice).cpu().numpy(),
            by_hand=False,
            similarity=consensus.similarity,
        )

    def _measured(self, stage: Stage, found: Classification, counts: torch.Tensor, pixels: EMPixels) -> ClassMeasures:
        """Judge classes as the callbacks beside this one judge selections."""
        psd, sizes = beside(stage.trainer, PowerSpectralDensity), beside(stage.trainer, ParticleSize)
        fringes, size = psd.fringes if psd else FringeSettings(), sizes.fit if sizes else SIZES
        q_per_pixel = stage.run.geometry.on_detector(stage.run.shape).q_per_pixel
        return measure_classes(found, counts, pixels, q_per_pixel, self.em, self.choice, fringes, size)


def _counts(stage: Stage, pixels: EMPixels, patterns: np.ndarray) -> np.ndarray:
    """Counts ``(k, P)`` of the pixels that take part."""
    index = pixels.index.cpu().numpy()
    parts = [
        stage.run.read(patterns[start : start + READ]).reshape(-1, stage.mask.numel())[:, index]
        for start in range(0, len(patterns), READ)
    ]
    return np.concatenate(parts) if parts else np.empty((0, len(index)), stage.run.dtype)


def _placed(values: torch.Tensor, lit: np.ndarray, otherwise: float, kind: type) -> np.ndarray:
    """Values of the lit patterns among all of them."""
    everything: np.ndarray = np.full(len(lit), otherwise, kind)
    everything[lit] = values.cpu().numpy()
    return everything
