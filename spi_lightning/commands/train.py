"""spi-train: the networks of a cross-validation, one a fold, and the ensemble that they make."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spi_lightning.config.launch import launch

if TYPE_CHECKING:
    from spi_lightning.config.scope import Job
    from spi_lightning.config.train_schema import TrainConfig


def main() -> None:
    """Entry point of the console script."""
    launch("train", _schema, train, resumable=True)


def _schema() -> type[TrainConfig]:
    from spi_lightning.config.train_schema import TrainConfig

    return TrainConfig


def train(config: TrainConfig, job: Job) -> None:
    """Train all folds and evaluate the ensemble; or one fold alone, in ``RUN/folds/K``."""
    from spi_lightning.commands.parts import about, open_patterns, training_recipe
    from spi_lightning.config.earlier import claim
    from spi_lightning.config.scope import sole_job
    from spi_lightning.data.training_set import load_training_set
    from spi_lightning.progress import progress
    from spi_lightning.report.evaluation import draw_augmentation
    from spi_lightning.training.fold import train_fold
    from spi_lightning.training.shared import settled_normalisation, settled_splits

    folder = job.folder if config.fold is None else job.folder.parents[1]
    if config.fold is not None:
        claim(folder, job.folder / "config.yaml")
    run = open_patterns(config)
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
        }
    )
    if config.fold in (None, 0):
        draw_augmentation(folder / "figures", training_set, recipe.pipeline, recipe.normalisation)
    for fold in range(config.split.folds) if config.fold is None else [config.fold]:
        place = folder / "folds" / str(fold)
        if config.fold is not None:
            train_fold(recipe, training_set, splits, fold, place)
            continue
        with sole_job(place):  # a job of that fold alone may be at work there
            train_fold(recipe, training_set, splits, fold, place)
    if config.fold is None:
        from spi_lightning.commands.evaluate import evaluate_run

        evaluate_run(folder, config, run, splits, job)
