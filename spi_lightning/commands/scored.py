"""A run that was scored, by spi-train or by spi-predict: its patterns again, and what their scores are."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from spi_lightning.commands.parts import open_patterns, open_predicted, read_config, read_train_config
from spi_lightning.config.predict_schema import PredictConfig
from spi_lightning.config.train_schema import TrainConfig
from spi_lightning.data.split_file import read_splits
from spi_lightning.data.splits import Splits
from spi_lightning.data.truth import read_truth
from spi_lightning.errors import SpiError
from spi_lightning.inference.ensemble_file import load_ensemble
from spi_lightning.inference.scores import Scores, read_scores
from spi_lightning.patterns.prepared import PreparedRun
from spi_lightning.selection.results import Findings
from spi_lightning.training.gathering import out_of_fold


@dataclass(frozen=True, eq=False)
class Scored:
    """A run with its scores.

    Attributes:
        run: the prepared patterns.
        findings: ids, labels and scores; nothing else is known yet.
        unseen: scores and labels ``(k,)`` of labelled patterns that the networks had not seen; None where none are.
        truth: int8 ``(n,)``, labels to judge by besides; None where there are none.
        source: fingerprint of what gave the scores.
        paper: whose figures stand beside ours.
    """

    run: PreparedRun
    findings: Findings
    unseen: tuple[np.ndarray, np.ndarray] | None
    truth: np.ndarray | None
    source: str
    paper: str | None = None


def scored_run(folder: Path, data: str | tuple[str, ...] | None = None, ensemble: str | None = None) -> Scored:
    """What spi-train or spi-predict has left in a folder.

    Args:
        folder: of the run.
        data: where the patterns are; None: where they were.
        ensemble: of a prediction, where the ensemble is; None: where it was.

    Raises:
        SpiError: it is no such folder, or what is in it does not fit together, or the patterns are not there any more.
    """
    if (folder / "splits.json").is_file():
        config = read_train_config(folder)
        run = open_patterns(_elsewhere(config, data))
        splits = read_splits(folder / "splits.json", run)
        return scored_training(folder, config, run, splits, read_truth(run, config.truth))
    predicted = _elsewhere(read_config(PredictConfig, folder, "a prediction"), data)
    return _predicted(folder, predicted, ensemble or predicted.ensemble)


C = TypeVar("C", TrainConfig, PredictConfig)


def _elsewhere(config: C, data: str | tuple[str, ...] | None) -> C:
    """The config with its patterns in another place."""
    return config if data is None else dataclasses.replace(config, data=dataclasses.replace(config.data, path=data))


def scores_elsewhere(run: PreparedRun, name: str) -> tuple[np.ndarray, float | None]:
    """Scores ``(n,)`` float32 of a run's patterns by another run, NaN where it has none; and its threshold.

    Args:
        run: the patterns.
        name: the other run's folder, or its scores.h5.

    Raises:
        SpiError: there are no scores, or they are of other patterns, or of patterns prepared in another way.
    """
    path = Path(name) / "scores.h5" if Path(name).is_dir() else Path(name)
    other = read_scores(path)
    if other.origin.data != run.fingerprint():
        raise SpiError(
            f"{path} holds the scores of other patterns, or of these prepared in another way. Give those of a run with "
            "the same data settings."
        )
    return _in_place(run, other, path), other.origin.threshold


def scored_training(
    folder: Path, config: TrainConfig, run: PreparedRun, splits: Splits, truth: np.ndarray | None
) -> Scored:
    """What a training has left in its folder.

    Args:
        folder: of the training.
        config: with which it was trained.
        run: the labelled patterns.
        splits: their division.
        truth: int8 ``(n,)``, labels to judge by besides; None where there are none.

    Raises:
        SpiError: as :func:`scored_run`.
    """
    folds = out_of_fold(folder, splits)
    trained_on = np.concatenate(splits.folds)
    unseen = np.concatenate([fold.probabilities for fold in folds])
    path = folder / "scores.h5"
    test = read_scores(path)
    if test.origin.data != splits.fingerprint:
        raise SpiError(f"{path} does not belong to the patterns of this run. Run spi-evaluate run={folder}.")
    scores = _in_place(run, test, path)
    if not len(splits.test):  # then the networks' scores of what they had not seen are all there is
        scores[trained_on] = unseen
    findings = Findings(run.ids, splits.labels, scores, test.origin.threshold)
    return Scored(run, findings, (unseen, splits.labels[trained_on]), truth, test.origin.source, config.paper)


def _predicted(folder: Path, config: PredictConfig, ensemble: str) -> Scored:
    path = folder / "scores.h5"
    run = open_predicted(config, load_ensemble(ensemble))
    scores = read_scores(path)
    if scores.origin.data != run.fingerprint():
        raise SpiError(
            f"{path} does not hold the scores of the patterns that its config.yaml names: they, or the ensemble, were "
            "changed since. Run spi-predict again."
        )
    values = _in_place(run, scores, path)
    findings = Findings(run.ids, run.labels, values, scores.origin.threshold)
    return Scored(run, findings, labelled(run, values), None, scores.origin.source)


def labelled(run: PreparedRun, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Scores and labels ``(k,)`` of the labelled patterns of a run; None where there are none."""
    if run.labels is None or not (run.labels >= 0).any():
        return None
    known = run.labels >= 0
    return scores[known], run.labels[known]


def _in_place(run: PreparedRun, scores: Scores, path: Path) -> np.ndarray:
    """Scores in the order of the run, float32 ``(n,)``; NaN where there is none."""
    order = np.argsort(run.ids, kind="stable")
    places = np.searchsorted(run.ids, scores.ids, sorter=order)
    found = order[np.minimum(places, len(order) - 1)]
    if not np.array_equal(run.ids[found], scores.ids):
        raise SpiError(f"{path} names patterns that are not in this run: it belongs to another one.")
    values = np.full(len(run), np.nan, np.float32)
    values[found] = scores.probabilities
    return values
