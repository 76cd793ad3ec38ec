"""A run that is easily learnt: single hits have a bright stripe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import nn

from spi_lightning.augmentation.batched import BatchedPipeline
from spi_lightning.augmentation.settings import Transforms
from spi_lightning.data.normalisation import fitted
from spi_lightning.data.sampler import SamplerSettings
from spi_lightning.data.splits import Splits, SplitSettings, make_splits
from spi_lightning.data.training_set import TrainingSet, load_training_set
from spi_lightning.models.small_cnn import SmallCNN
from spi_lightning.training.fold import train_fold
from spi_lightning.training.losses import CrossEntropy
from spi_lightning.training.optimizers import Adam
from spi_lightning.training.recipe import Recipe
from spi_lightning.training.schedules import Poly
from spi_lightning.training.settings import TrainerSettings
from tests.unit.patterns.fake_run import FakeRun

TRAINER = TrainerSettings(epochs=3, validate_every=1, precision="32-true", compile=False, gradient_clip=None, threads=1)


def easy_run(singles: int = 12, others: int = 24, seed: int = 0) -> FakeRun:
    rng = np.random.default_rng(seed)
    frames = rng.poisson(0.3, (singles + others, 16, 8)).astype(np.uint16)
    labels = rng.permutation(np.repeat(np.array([1, 0], np.int8), [singles, others]))
    frames[labels == 1, 6:9] += 3
    run = FakeRun(frames, np.ones((16, 8), bool))
    run.labels = labels
    return run


def divided(run: FakeRun) -> tuple[Splits, TrainingSet]:
    splits = make_splits(run, SplitSettings(singles=None, others=None, test_share=0.25, folds=2))
    return splits, load_training_set(run, splits, lambda _: None)


def small_network() -> nn.Module:
    return SmallCNN((4, 8))


def recipe(training_set: TrainingSet, **changes: object) -> Recipe:
    plain = Recipe(
        network=small_network,
        loss=CrossEntropy,
        optimizer=Adam(lr=0.02, weight_decay=0.0),
        schedule=Poly(),
        pipeline=BatchedPipeline(Transforms()),
        normalisation=fitted(training_set.blocks()),
        sampler=SamplerSettings(single_share=0.5, batch_size=8, batches=4),
        trainer=TRAINER,
        mirrors=("none", "rows"),
        checkpoint="last",
        seed=1,
        device="cpu",
        workers=0,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def trained(folder: Path, **changes: object) -> Path:
    splits, training_set = divided(easy_run())
    folder.mkdir(parents=True, exist_ok=True)
    train_fold(recipe(training_set, **changes), training_set, splits, 0, folder)
    return folder
