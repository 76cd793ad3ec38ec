"""From a checked training config to the parts that it describes."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from spi_lightning.config.check import checked
from spi_lightning.config.earlier import without_retired
from spi_lightning.config.predict_schema import PredictConfig
from spi_lightning.config.targets import instantiate
from spi_lightning.config.train_schema import TrainConfig
from spi_lightning.data.device import choose_device
from spi_lightning.data.normalisation import Normalisation
from spi_lightning.data.splits import Splits
from spi_lightning.errors import SpiError
from spi_lightning.inference.ensemble import Ensemble, TrainedOn
from spi_lightning.inference.preparation import as_trained
from spi_lightning.patterns import open_run
from spi_lightning.patterns.prepare import prepare
from spi_lightning.patterns.prepared import PreparedRun
from spi_lightning.patterns.settings import PrepareSettings
from spi_lightning.tracking.run import Logger
from spi_lightning.training.recipe import Recipe

T = TypeVar("T")


def read_config(kind: type[T], folder: Path, what: str) -> T:
    """The config that a job left in its folder.

    Args:
        kind: the dataclass that it must fit.
        folder: of the job.
        what: whose config it is, for messages, such as "a training".

    Raises:
        SpiError: there is none, or it is not such a one by this version of the program.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    path = folder / "config.yaml"
    try:
        values = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except (OSError, ValueError, RecursionError, YAMLError, OmegaConfBaseException) as error:
        said = " ".join(str(error).split())
        raise SpiError(f"{path}: not the config of {what} ({said}). Give run=FOLDER of one.") from None
    try:
        return checked(kind, without_retired(values))
    except SpiError as error:
        raise SpiError(f"{path} is not the config of {what}, or of another version's. {error}") from None


def read_train_config(folder: Path) -> TrainConfig:
    """The config that a training run left in its folder; errors as :func:`read_config`."""
    return read_config(TrainConfig, folder, "a training")


def open_patterns(config: TrainConfig) -> PreparedRun:
    """The labelled run that the config names, prepared."""
    data = config.data
    run = open_run(data.path, dataset=data.dataset, detector=data.detector, mask_bits=data.mask_bits)
    return prepare(run, data.prepare, config.instrument)


def open_predicted(config: PredictConfig, ensemble: Ensemble) -> PreparedRun:
    """The run that spi-predict scores, prepared as the training was; what is wrong with it is told before long work."""
    data, trained = config.data, ensemble.trained_on
    mask_bits = data.mask_bits
    if data.as_trained:
        settings = as_trained(trained.prepare, data.prepare)
        mask_bits = trained.mask_bits if mask_bits is None else mask_bits
    else:
        settings = checked(PrepareSettings, data.prepare, "data.prepare")
    stored = open_run(data.path, dataset=data.dataset, detector=data.detector, mask_bits=mask_bits)
    run = prepare(stored, settings, config.instrument)
    ensemble.check_shape(run.shape)
    if config.export.emc:
        run.geometry.on_detector(run.shape)
    if run.fingerprint() == trained.fingerprint:
        run.notes.append(
            "These are the very data of the training: scores of patterns that the networks were trained on flatter. "
            "See tables/test.md of the training for those that they were not."
        )
    if (name := trained.prepare.get("mask_file")) is not None and settings.mask_file is None:
        run.notes.append(
            f"The training data were masked with {name} besides. If these frames need it too, give "
            "data.prepare.mask_file=FILE."
        )
    return run


def training_recipe(config: TrainConfig, normalisation: Normalisation) -> Recipe:
    """How each fold is trained.

    Raises:
        SpiError: the config names what is not there: a device, a class, a value of its parameters.
    """
    return Recipe(
        network=partial(instantiate, config.model, "model", "model"),
        loss=partial(instantiate, config.loss, "loss", "loss"),
        optimizer=instantiate(config.optimizer, "optimizer", "optimizer"),
        schedule=instantiate(config.scheduler, "scheduler", "scheduler"),
        pipeline=instantiate(config.augmentation, "augmentation", "augmentation"),
        normalisation=normalisation,
        sampler=config.sampler,
        trainer=config.trainer,
        mirrors=config.ensemble.mirrors,
        checkpoint=config.ensemble.checkpoint,
        seed=config.seed,
        device=choose_device(config.device),
        workers=config.workers,
        loggers=loggers_of(config),
    )


def loggers_of(config: TrainConfig) -> dict[str, Logger]:
    """The loggers that are switched on, by name."""
    blocks = {name: block for name, block in config.logger.items() if block is not None}
    return {name: instantiate(block, f"logger.{name}", "logger") for name, block in blocks.items()}


def about(splits: Splits) -> list[str]:
    """What a user should know of a division, in lines."""

    def counts(indices: np.ndarray) -> str:
        singles = int((splits.labels[indices] == 1).sum())
        return f"{singles} single hits and {len(indices) - singles} others"

    lines = [f"Training set: {counts(splits.training)} in {len(splits.folds)} folds. Test set: {counts(splits.test)}."]
    if splits.unlabelled or splits.set_aside:
        lines.append(
            f"Not used: {splits.unlabelled} patterns without a label, and {splits.set_aside} of groups from which the "
            "training set was drawn."
        )
    return lines


def trained_on(config: TrainConfig, run: PreparedRun, splits: Splits) -> TrainedOn:
    """What an ensemble has to remember of the patterns that it was trained on."""
    prepared: dict[str, Any] = dataclasses.asdict(config.data.prepare)
    return TrainedOn(run.shape, config.data.mask_bits, prepared, splits.fingerprint, splits.labels_fingerprint)
