"""The Lightning data module: training batches as the sampler draws them, validation patterns each once, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset

from spi_lightning.augmentation.pipeline import Pipeline
from spi_lightning.data.normalisation import Normalisation
from spi_lightning.data.sampler import Draw, SamplerSettings, SingleHitSampler
from spi_lightning.data.splits import Splits
from spi_lightning.data.training_set import TrainingSet
from spi_lightning.errors import require


class Batch(NamedTuple):
    """What training and validation steps are given.

    Attributes:
        patterns: ``(n, 1, rows, columns)``; float32, normalised (and augmented, if training) when a step sees them;
            counts as integers on the way to the device.
        labels: int64 ``(n,)``: 1 single hit, 0 other.
        seed: that the augmentation was drawn with; None in validation.
    """

    patterns: torch.Tensor
    labels: torch.Tensor
    seed: int | None


class SpiDataModule(pl.LightningDataModule):
    """Patterns for training and validating the model of one fold.

    Make the Trainer with ``use_distributed_sampler=False``: the sampler itself gives each rank its part. Validation
    patterns are not shared out: each rank sees all of them once, so that its metrics are whole as they are.
    """

    def __init__(
        self,
        training_set: TrainingSet,
        splits: Splits,
        fold: int,
        sampler: SamplerSettings,
        pipeline: Pipeline,
        normalisation: Normalisation,
        *,
        seed: int,
        workers: int = 0,
        validation_batch: int = 64,
    ) -> None:
        """Hand out batches for one fold.

        Args:
            training_set: patterns of all folds.
            splits: with which they were loaded.
            fold: that validates, from 0 on.
            sampler: how training batches are drawn.
            pipeline: augments training batches; in the workers, or on the device.
            normalisation: of the whole training set, as in the paper.
            seed: of draws and augmentation.
            workers: processes that put training batches together; 0: the main process does.
            validation_batch: patterns in a validation batch; the last one may have fewer.

        Raises:
            SpiError: a setting is out of range.
        """
        super().__init__()
        folds = len(splits.folds)
        require(0 <= fold < folds, "fold", fold, f"from 0 to {folds - 1}")
        require(seed >= 0, "seed", seed, "0 or more")
        require(workers >= 0, "workers", workers, "0 or more")
        require(validation_batch >= 1, "validation_batch", validation_batch, "1 or more")
        self._training_set, self._fold, self._sampler, self._seed = training_set, fold, sampler, seed
        self._train_rows = training_set.rows(splits.train_of(fold))
        self._validation_rows = training_set.rows(splits.validation_of(fold))
        self._pipeline, self._normalisation = pipeline, normalisation
        self._mask = torch.from_numpy(training_set.mask)
        self._workers, self._validation_batch = workers, validation_batch

    def train_dataloader(self) -> ResumableLoader:
        """Batches of the sampler; a worker process computes on one thread, as torch's workers do."""
        trainer = self.trainer
        sampler = SingleHitSampler(
            self._train_rows,
            self._training_set.labels[self._train_rows],
            self._sampler,
            self._seed,
            self._fold,
            *((trainer.global_rank, trainer.world_size) if trainer is not None else (0, 1)),
        )
        finish = partial(_finished, normalisation=self._normalisation, pipeline=self._pipeline, mask=self._mask)
        return ResumableLoader(
            _Gathered(self._training_set, finish if self._pipeline.in_workers else None),
            batch_size=None,  # the sampler hands out whole batches
            sampler=sampler,
            num_workers=self._workers,
            persistent_workers=self._workers > 0,
            pin_memory=self._on_gpu,
        )

    def val_dataloader(self) -> DataLoader[Batch]:
        """The fold's own patterns in the order of the run, each once."""
        rows, size = self._validation_rows, self._validation_batch
        draws = [Draw(rows[start : start + size], None) for start in range(0, len(rows), size)]
        return DataLoader(_Gathered(self._training_set), batch_size=None, sampler=draws, pin_memory=self._on_gpu)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Normalise, and in training augment, what has come as counts."""
        if batch.patterns.is_floating_point():
            return batch
        self._mask = self._mask.to(batch.patterns.device)
        return _finished(batch, self._normalisation, self._pipeline, self._mask)

    @property
    def _on_gpu(self) -> bool:
        return self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"


class ResumableLoader(DataLoader[Batch]):
    """A data loader that begins late enough, and can go on in the middle of an epoch.

    Lightning asks for the first iterator before it has told the sampler the epoch, and after a resume goes on with that
    one; since this one draws nothing before the first batch is asked for, the sampler knows by then. Lightning keeps
    ``state_dict`` in its checkpoints.
    """

    sampler: SingleHitSampler
    _given = 0

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]  # which DataLoader types by its own iterator
        self._given = self.sampler.start
        for batch in super().__iter__():
            self._given += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Epoch, and how many of its batches have been handed out."""
        return {"epoch": self.sampler.epoch, "step": self._given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on where :meth:`state_dict` was asked."""
        self.sampler.go_to(state["epoch"], state["step"])
        self._given = self.sampler.start  # where nothing is left to train, nothing is asked for before the next save


class _Gathered(Dataset[Batch]):
    """Whole batches by what the sampler drew."""

    def __init__(self, training_set: TrainingSet, finish: Callable[[Batch], Batch] | None = None) -> None:
        self._training_set, self._finish = training_set, finish

    def __getitem__(self, draw: Draw) -> Batch:
        labels = torch.from_numpy(self._training_set.labels[draw.rows])
        batch = Batch(self._training_set.tensor(draw.rows)[:, None], labels, draw.seed)
        return batch if self._finish is None else self._finish(batch)


def _finished(batch: Batch, normalisation: Normalisation, pipeline: Pipeline, mask: torch.Tensor) -> Batch:
    """A batch of counts as the network shall see it."""
    patterns = normalisation(batch.patterns)
    if batch.seed is not None:
        patterns = pipeline(patterns, mask, normalisation.zero, batch.seed)
    return batch._replace(patterns=patterns)
