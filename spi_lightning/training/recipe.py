"""All that makes the training of a fold what it is, built from a config."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from spi_lightning.augmentation.pipeline import Pipeline
from spi_lightning.data.normalisation import Normalisation
from spi_lightning.data.sampler import SamplerSettings
from spi_lightning.inference.mirroring import Mirror
from spi_lightning.tracking.run import Logger
from spi_lightning.training.module import Schedule
from spi_lightning.training.settings import TrainerSettings


@dataclass(frozen=True)
class Recipe:
    """How each fold is trained.

    Attributes:
        network: makes a new one, with weights drawn from torch's generator.
        loss: makes it.
        optimizer: makes one for given parameters.
        schedule: of the learning rate.
        pipeline: augmentation.
        normalisation: of the training patterns.
        sampler: what is drawn for a batch.
        trainer: how long, how exactly.
        mirrors: views over which out-of-fold probabilities are averaged.
        checkpoint: whose weights make the out-of-fold predictions and the ensemble: last or best.
        seed: of weights, sampling and augmentation.
        device: cpu, cuda or cuda:N.
        workers: processes that augment; none are used where the pipeline runs on the model's device.
        loggers: that are told of the training, by name.
    """

    network: Callable[[], nn.Module]
    loss: Callable[[], nn.Module]
    optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
    schedule: Schedule
    pipeline: Pipeline
    normalisation: Normalisation
    sampler: SamplerSettings
    trainer: TrainerSettings
    mirrors: tuple[Mirror, ...]
    checkpoint: str
    seed: int
    device: str
    workers: int
    loggers: Mapping[str, Logger] = field(default_factory=dict)
