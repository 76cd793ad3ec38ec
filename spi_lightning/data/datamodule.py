"""The Lightning data module: training batches as the sampler draws them, validation patterns each once, in order."""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from spi_lightning.augmentation.pipeline import Pipeline
from spi_lightning.data.loaders import CountBlocks, LabelledCounts, ResumableLoader, finishing, in_workers, on_device
from spi_lightning.data.normalisation import Normalisation
from spi_lightning.data.sampler import SamplerSettings, SingleHitSampler
from spi_lightning.data.splits import Splits
from spi_lightning.data.training_set import TrainingSet
from spi_lightning.errors import require

BLOCK = 1024  # validation patterns that are handed on at once: 19 MB of 192 x 96 pixels in one byte


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
            workers: processes that put training batches together where the pipeline is one for the workers; 0: the main
                process does.

        Raises:
            SpiError: a setting is out of range.
        """
        super().__init__()
        folds = len(splits.folds)
        require(0 <= fold < folds, "fold", fold, f"from 0 to {folds - 1}")
        require(seed >= 0, "seed", seed, "0 or more")
        require(workers >= 0, "workers", workers, "0 or more")
        self._training_set, self._fold, self._sampler, self._seed = training_set, fold, sampler, seed
        self._train_rows = training_set.rows(splits.train_of(fold))
        self._validation_rows = training_set.rows(splits.validation_of(fold))
        self._pipeline, self._normalisation = pipeline, normalisation
        self._workers = workers

    def train_dataloader(self) -> ResumableLoader:
        """Normalised, augmented batches of the sampler, made on the network's device or by the pipeline's workers."""
        trainer, held = self.trainer, self._training_set
        device = torch.device("cpu") if trainer is None else trainer.strategy.root_device
        made_on = torch.device("cpu") if self._pipeline.in_workers else device
        sampler = SingleHitSampler(
            self._train_rows,
            held.labels[self._train_rows],
            self._sampler,
            self._seed,
            self._fold,
            *((trainer.global_rank, trainer.world_size) if trainer is not None else (0, 1)),
            made_on,
        )
        finish = finishing(self._pipeline, self._normalisation, torch.from_numpy(held.mask).to(made_on))
        if self._pipeline.in_workers:
            return in_workers(held, sampler, finish, self._workers, pin=device.type == "cuda")
        return on_device(held, sampler, finish, device)

    def val_dataloader(self) -> DataLoader[LabelledCounts]:
        """Counts of the fold's own patterns in the order of the run, each once."""
        return DataLoader(CountBlocks(self._training_set, self._validation_rows, BLOCK), batch_size=None)
