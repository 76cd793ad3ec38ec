"""spi-train: the networks of a cross-validation, one a fold, and the ensemble that they make."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from spi_lightning.config.launch import Rerun, launch

if TYPE_CHECKING:
    from pathlib import Path

    from spi_lightning.config.scope import Job
    from spi_lightning.config.train_schema import TrainConfig


# These matter only when the folds are put together; spi-evaluate can change them at any time.
MAY_CHANGE = ("ensemble.threshold", "truth", "paper", "callbacks", "steps", "selections", "moresh")
FLOAT32 = 4  # bytes


def main() -> None:
    """Entry point of the console script."""
    rerun = Rerun(True, False, MAY_CHANGE, _refuse, whole, part="fold", gatherable=_gatherable)
    launch("train", _schema, train, rerun)


def _schema() -> type[TrainConfig]:
    from spi_lightning.config.train_schema import TrainConfig

    return TrainConfig


def _refuse(config: TrainConfig, folder: Path, config_yaml: str) -> None:
    """A job that trains one fold has its folder in that of the run, whose settings it must share."""
    from spi_lightning.config.earlier import claim
    from spi_lightning.errors import SpiError

    if config.fold is not None:
        claim(folder.parents[1], config_yaml, MAY_CHANGE)
    elif (folder / "ensemble.json").exists():
        raise SpiError(f"run: {folder} is an ensemble, of another training. Give another run=FOLDER.")


def whole(config: TrainConfig, folder: Path) -> bool:
    """Whether all that a complete training leaves is still there."""
    if config.fold is not None:
        return (folder / "predictions.h5").exists()
    results = (folder / "ensemble" / "ensemble.json", folder / "scores.h5")
    return _gatherable(config, folder) and all(path.exists() for path in results)


def _gatherable(config: TrainConfig, folder: Path) -> bool:
    """Whether all folds are trained."""
    return all((folder / "folds" / str(fold) / "predictions.h5").exists() for fold in range(config.split.folds))


def train(config: TrainConfig, job: Job, threads: tuple[int, ...] | None = None) -> None:
    """Train all folds and evaluate the ensemble; or one fold alone, in ``RUN/folds/K``.

    Args:
        config: what to train.
        job: whose folder and record it is.
        threads: of each fold, on which rounding depends; None: as many as suit this machine.
    """
    from dataclasses import replace
    from functools import partial

    import torch

    from spi_lightning.commands.evaluate import evaluate_run
    from spi_lightning.commands.parts import about, loggers_of, open_patterns, training_recipe
    from spi_lightning.config.targets import instantiate
    from spi_lightning.cores import available_cores
    from spi_lightning.data.device import choose_device, computes_with
    from spi_lightning.data.splits import labels_fingerprint
    from spi_lightning.data.training_set import load_training_set
    from spi_lightning.data.truth import read_truth
    from spi_lightning.progress import progress
    from spi_lightning.report.evaluation import draw_augmentation
    from spi_lightning.tracking.session import check_installed, tracked
    from spi_lightning.training.at_once import share_out
    from spi_lightning.training.devices import check_devices
    from spi_lightning.training.fold import check_device
    from spi_lightning.training.shared import settled_normalisation, settled_splits
    from spi_lightning.training.side_by_side import train_folds, train_one
    from spi_lightning.training.study import report_folds

    # What is not there, or cannot be built, is told before anything is read.
    device = choose_device(config.device)
    check_device(config.trainer, device)
    check_devices(config.trainer.devices, device, config.folds_at_once)
    for role in ("model", "loss", "augmentation"):
        instantiate(getattr(config, role), role, role)
    check_installed(loggers_of(config))
    folder = job.folder if config.fold is None else job.folder.parents[1]
    run = open_patterns(config)
    truth = read_truth(run, config.truth)  # not used before the end, but whether it is there is told now
    splits = settled_splits(folder, run, config.split)
    for line in (*run.notes, *about(splits)):
        print(line)
    with progress("Reading", len(splits.training)) as advance:
        training_set = load_training_set(run, splits, advance)
    recipe = training_recipe(config, settled_normalisation(folder, training_set, config.normalisation.transform))
    job.record(
        {
            "data": run.fingerprint(),
            "labels": splits.labels_fingerprint,
            "training patterns": len(splits.training),
            "test patterns": len(splits.test),
            "normalisation": vars(recipe.normalisation),
            "truth": None if truth is None else labels_fingerprint(truth),
            "device": recipe.device,
            "devices of each fold": config.trainer.devices,
            "computes with": computes_with(recipe.device),
            "threads": torch.get_num_threads(),
            "found": run.found,
            "notes": run.notes,
        }
    )
    if config.fold in (None, 0):
        draw_augmentation(folder / "figures", training_set, recipe.pipeline, recipe.normalisation)
    if config.fold is not None:
        cores = available_cores() // config.trainer.devices
        job.record({"threads of this fold": config.trainer.threads or max(1, cores)})
        train_one(recipe, training_set, splits, config.fold, job.folder)
        return
    sharing = share_out(
        config.split.folds,
        config.folds_at_once,
        config.trainer.threads,
        recipe.device,
        config.sampler.batch_size * math.prod(run.shape) * FLOAT32,
        config.trainer.devices,
    )
    if threads is not None:
        sharing = replace(sharing, threads=threads)
    job.record({"folds at once": sharing.processes, "threads of each fold": sharing.threads})
    with tracked(recipe.loggers, folder) as runs:
        if config.search is None:
            train_folds(recipe, training_set, splits, folder / "folds", sharing)
        else:
            report = partial(report_folds, config.search, folder / "folds", splits)
            train_folds(recipe, training_set, splits, folder / "folds", sharing, report)
            report()  # of folds that an earlier start has finished
        evaluate_run(folder, config, run, splits, truth, job)
        runs.publish()
