"""The stage after the scores: the Trainer goes through the candidates, callbacks measure, selections are made."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset

from spi_lightning.analysis.psd import radial_bins
from spi_lightning.patterns.frames import Frames
from spi_lightning.progress import progress
from spi_lightning.reciprocal import ring_momentum
from spi_lightning.selection.select import Plan, select_all
from spi_lightning.selection.step import Context
from spi_lightning.training.devices import lightning_devices
from spi_lightning.training.flags import flags_restored
from spi_lightning.training.quiet import lightning_quiet

BATCH = 256  # patterns
C = TypeVar("C", bound=pl.Callback)


class PatternBatch(NamedTuple):
    """Some of the patterns that are looked at.

    Attributes:
        rows: int64 ``(b,)``, their places among all that are looked at.
        counts: ``(b, rows, columns)`` unsigned integers, photons; 0 where masked.
    """

    rows: torch.Tensor
    counts: torch.Tensor


class Stage(pl.LightningModule):
    """What callbacks work on: a run, what is known of its patterns, and the selections to make.

    Attributes:
        run: the prepared run.
        context: its ``findings`` are filled by this module and by the callbacks.
        plans: the selections to make.
        paper: the paper's names of selections by ours, for the tables.
        bins: int64 ``(rows, columns)``, ring of each pixel; None where the centre of the beam is not known.
        mask: bool ``(rows, columns)``, True where good.
    """

    mask: torch.Tensor
    bins: torch.Tensor | None

    def __init__(
        self, run: Frames, context: Context, plans: Mapping[str, Plan], paper: Mapping[str, str] | None = None
    ):
        super().__init__()
        self.run, self.context, self.plans, self.paper = run, context, plans, paper or {}
        self.findings = context.findings
        self.register_buffer("mask", torch.from_numpy(run.mask.copy()), persistent=False)
        centre, findings = run.geometry.centre, self.findings
        if centre is None:
            findings.notes.append("The centre of the beam is not known: PSD, sizes and EM are left out.")
            self.bins = None
            return
        self.bins = radial_bins(run.shape, centre)
        if missing := run.geometry.missing():
            findings.notes.append(
                f"The instrument's {', '.join(missing)} is not known: PSDs are in pixels, and sizes are left out."
            )
        else:
            findings.q = ring_momentum(run.geometry.on_detector(run.shape), int(self.bins.max()) + 1).numpy()

    def on_predict_start(self) -> None:
        """Make room for what is measured, and show a bar."""
        self.findings.photons = np.zeros(len(self.findings.measured))
        self._stack = ExitStack()
        self._advance = self._stack.enter_context(progress("Looking at patterns", len(self.findings.measured)))

    def predict_step(self, batch: PatternBatch, batch_idx: int) -> None:
        """Count the photons of a batch."""
        # Exact: a row holds fewer than 2²⁴ photons. A sum in float64 from the start takes twenty times as long.
        photons = batch.counts.to(torch.float32).sum(-1).to(torch.float64).sum(-1)
        self.findings.photons[batch.rows.cpu().numpy()] = photons.cpu().numpy()
        self._advance(len(batch.rows))
        if batch_idx + 1 == self.trainer.num_predict_batches[0]:
            self._stack.close()  # before callbacks show bars of their own

    def on_predict_epoch_end(self) -> None:
        """Make the selections: all that steps ask for is measured."""
        select_all(self.plans, self.context)


def stage_of(module: pl.LightningModule) -> Stage:
    """The stage that a callback was handed as a module."""
    if not isinstance(module, Stage):
        raise TypeError(f"This callback works on a Stage, not on a {type(module).__name__}.")
    return module


def beside(trainer: pl.Trainer, kind: type[C]) -> C | None:
    """The callback of a kind that runs beside another one; None where it is switched off."""
    return next((each for each in trainer.callbacks if isinstance(each, kind)), None)  # type: ignore[attr-defined]


class _Blocks(Dataset[PatternBatch]):
    """The patterns to look at, a block at a time; one empty block where there are none."""

    def __init__(self, run: Frames, indices: np.ndarray):
        self.run, self.indices = run, indices

    def __len__(self) -> int:
        return max(1, math.ceil(len(self.indices) / BATCH))

    def __getitem__(self, block: int) -> PatternBatch:
        rows = np.arange(block * BATCH, min((block + 1) * BATCH, len(self.indices)))
        return PatternBatch(torch.from_numpy(rows), torch.from_numpy(self.run.read(self.indices[rows])))


def run_stage(
    stage: Stage,
    callbacks: list[pl.Callback],
    folder: Path,
    device: str,
) -> None:
    """Look at the measured patterns of a stage's findings, and make its selections.

    Args:
        stage: what to work on.
        callbacks: what to measure and to tell.
        folder: receives ``tables/`` and ``figures/``.
        device: cpu, cuda or cuda:N.
    """
    with lightning_quiet(), flags_restored():
        trainer = pl.Trainer(
            **lightning_devices(device),
            default_root_dir=folder,
            callbacks=callbacks,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
        )
        blocks = _Blocks(stage.run, stage.findings.measured)
        trainer.predict(stage, DataLoader(blocks, batch_size=None), return_predictions=False)
