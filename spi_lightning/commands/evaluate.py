"""spi-evaluate: from the trained folds of a run to its ensemble, the scores of its test set, tables and figures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from spi_lightning.config.launch import Rerun, launch

if TYPE_CHECKING:
    import numpy as np

    from spi_lightning.config.evaluate_schema import EvaluateConfig
    from spi_lightning.config.scope import Job
    from spi_lightning.config.train_schema import TrainConfig
    from spi_lightning.data.splits import Splits
    from spi_lightning.inference.ensemble import Ensemble
    from spi_lightning.inference.scores import Origin, Scores
    from spi_lightning.patterns.prepared import PreparedRun


def main() -> None:
    """Entry point of the console script."""
    launch("evaluate", _schema, evaluate, Rerun(repeatable=True))


def _schema() -> type[EvaluateConfig]:
    from spi_lightning.config.evaluate_schema import EvaluateConfig

    return EvaluateConfig


def evaluate(config: EvaluateConfig, job: Job) -> None:
    """Evaluate the run ``config.run``, all of whose folds must be trained."""
    import dataclasses

    from spi_lightning.commands.parts import loggers_of, open_patterns, read_train_config
    from spi_lightning.config.scope import sole_job
    from spi_lightning.data.split_file import read_splits
    from spi_lightning.data.truth import read_truth
    from spi_lightning.inference.thresholds import ThresholdSettings
    from spi_lightning.tracking.session import tracked

    folder = Path(str(config.run))
    trained = read_train_config(folder)
    if config.threshold is not None:
        rule = ThresholdSettings("fixed", config.threshold) if isinstance(config.threshold, float) else config.threshold
        trained = dataclasses.replace(trained, ensemble=dataclasses.replace(trained.ensemble, threshold=rule))
    if config.truth is not None:
        trained = dataclasses.replace(trained, truth=config.truth)
    trained = dataclasses.replace(trained, device=config.device)
    with sole_job(folder):
        run = open_patterns(trained)
        truth = read_truth(run, trained.truth)
        evaluate_run(folder, trained, run, read_splits(folder / "splits.json", run), truth, job)
        with tracked(loggers_of(trained), folder) as runs:
            runs.publish()


def evaluate_run(
    folder: Path, config: TrainConfig, run: PreparedRun, splits: Splits, truth: np.ndarray | None, job: Job
) -> None:
    """Make the ensemble, score the test set, and write tables and figures.

    Args:
        folder: of the training run; receives ``ensemble/``, ``scores.h5``, ``tables/`` and ``figures/``.
        config: with which it was trained.
        run: the labelled patterns.
        splits: of the training run.
        truth: labels to judge by besides, int8 ``(n,)``; None where there are none.
        job: whose record it is.

    Raises:
        SpiError: a fold is not finished; or the wanted precision cannot be reached.
    """
    import numpy as np

    from spi_lightning.commands.downstream import analyse
    from spi_lightning.commands.scored import scored_training
    from spi_lightning.errors import SpiError
    from spi_lightning.inference.thresholds import choose_threshold
    from spi_lightning.report.evaluation import Judged, draw_patterns, draw_scores, draw_training, write_tables
    from spi_lightning.report.page import write_page
    from spi_lightning.training.gathering import out_of_fold

    folds = out_of_fold(folder, splits)
    pooled = np.concatenate([fold.probabilities for fold in folds])
    try:
        threshold = choose_threshold(pooled, splits.labels[np.concatenate(splits.folds)], config.ensemble.threshold)
    except SpiError as error:
        raise SpiError(
            f"{error} All folds are trained: choose anew with spi-evaluate run={folder} "
            "threshold='{rule: max_f1, value: null}'."
        ) from None
    test = _test_scores(folder, config, run, splits, folds, threshold)
    judged = [Judged(indices, fold.probabilities) for indices, fold in zip(splits.folds, folds, strict=True)]
    scored = Judged(splits.test, test)
    chosen_here = config.ensemble.threshold.rule != "fixed"
    facts = write_tables(folder / "tables", splits.labels, truth, judged, scored, threshold, config.paper, chosen_here)
    figures = folder / "figures"
    draw_scores(figures, splits.labels, judged, scored, threshold)
    draw_patterns(figures, run, splits.labels, truth, scored if len(splits.test) else judged[0], threshold)
    draw_training(figures, {f"fold {k}": folder / "folds" / str(k) / "history.csv" for k in range(len(folds))})
    if config.callbacks or config.selections:  # an earlier version's config has none, and spi-select makes some
        everything = scored_training(folder, config, run, splits, truth)
        facts |= analyse(folder, everything, config, config.device)
    job.record({"threshold": threshold, **facts})
    write_page(folder)
    for name in ("tables", "figures", "report.html", "scores.h5", "selection.h5", "ensemble"):
        print(f"{name:>24}  {folder / name}")


def _test_scores(
    folder: Path, config: TrainConfig, run: PreparedRun, splits: Splits, unseen: list[Scores], threshold: float
) -> np.ndarray:
    """Save the ensemble, and score the test set with what was saved. Returns the mean probabilities ``(n,)``."""
    import dataclasses
    from functools import partial

    from spi_lightning.commands.parts import trained_on
    from spi_lightning.config.targets import instantiate
    from spi_lightning.data.device import choose_device
    from spi_lightning.inference.ensemble import Ensemble, ready
    from spi_lightning.inference.ensemble_file import load_ensemble, save_ensemble
    from spi_lightning.inference.predict import score_run
    from spi_lightning.inference.scores import Origin, score_file
    from spi_lightning.progress import progress
    from spi_lightning.training.gathering import first_looks, trained_networks
    from spi_lightning.training.shared import read_normalisation

    build, device = partial(instantiate, config.model, "model", "model"), choose_device(config.device)
    networks = trained_networks(folder, config.split.folds, config.ensemble.checkpoint, build)
    ensemble = Ensemble(
        networks=tuple(ready(network, device) for network in networks),
        architecture=config.model,
        normalisation=read_normalisation(folder),
        mirrors=config.ensemble.mirrors,
        threshold=threshold,
        chosen_by=config.ensemble.threshold,
        trained_on=trained_on(config, run, splits),
        description={"seed": config.seed, "checkpoint": config.ensemble.checkpoint},
    )
    place = folder / "ensemble"
    earlier_ensemble = _earlier_ensemble(place)
    save_ensemble(place, ensemble)
    ensemble = load_ensemble(place, device)
    looks = None
    if earlier_ensemble is not None and earlier_ensemble.fingerprint == ensemble.fingerprint:
        looks = earlier_ensemble.first_looks
    if looks is None or threshold < looks.floor:
        looks = first_looks(ensemble, run, splits, unseen)
    save_ensemble(place, dataclasses.replace(ensemble, first_looks=looks))
    origin = Origin(ensemble.fingerprint, splits.fingerprint, threshold, ensemble.mirrors)
    path = folder / "scores.h5"
    ids, labels = run.ids[splits.test], splits.labels[splits.test]
    if (earlier := _earlier_scores(path, origin, ids)) is not None:  # only the threshold may have changed
        with score_file(path, ids, len(ensemble.networks), origin, labels) as write:
            write(0, earlier)
            return write.probabilities
    with (
        score_file(path, ids, len(ensemble.networks), origin, labels) as write,
        progress("Scoring the test set", len(ids)) as advance,
    ):
        for start, models in score_run(ensemble, run, splits.test, advance=advance):
            write(start, models)
        return write.probabilities


def _earlier_ensemble(place: Path) -> Ensemble | None:
    """The ensemble of an earlier evaluation, with its first looks; None where none can be read."""
    from spi_lightning.errors import SpiError
    from spi_lightning.inference.ensemble_file import load_ensemble

    try:
        ensemble = load_ensemble(place)
    except SpiError:
        return None
    return None if ensemble.first_looks is None else ensemble


def _earlier_scores(path: Path, origin: Origin, ids: np.ndarray) -> np.ndarray | None:
    """Scores ``(n, networks)`` by the same networks of the same patterns; None where none can be read."""
    import numpy as np

    from spi_lightning.errors import SpiError
    from spi_lightning.inference.scores import read_scores

    try:
        earlier = read_scores(path)
    except SpiError:
        return None
    same = (earlier.origin.source, earlier.origin.data) == (origin.source, origin.data)
    return earlier.models if same and np.array_equal(earlier.ids, ids) else None
