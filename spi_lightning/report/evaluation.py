"""What a person looks at after a training: tables, and figures of scores and patterns."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spi_lightning.augmentation.pipeline import Pipeline
from spi_lightning.data.normalisation import Normalisation
from spi_lightning.data.training_set import TrainingSet
from spi_lightning.patterns.frames import Frames
from spi_lightning.report import tables
from spi_lightning.report.augmentation import augmentation_grid
from spi_lightning.report.calibration import calibration
from spi_lightning.report.curves import (
    precision_recall,
    score_histogram,
    scored_patterns,
    training_curves,
    worst_mistakes,
)
from spi_lightning.report.figures import save

HIGHEST, MISTAKES = 12, 24  # patterns on a contact sheet
VARIANTS = 9  # of a pattern, by augmentation


@dataclass(frozen=True, eq=False)
class Judged:
    """Patterns that were scored by networks which had not seen them.

    Attributes:
        indices: int64 ``(n,)``, where they stand in the run.
        scores: float32 ``(n,)``, probability of a single hit.
    """

    indices: np.ndarray
    scores: np.ndarray


def write_tables(
    folder: Path,
    labels: np.ndarray,
    truth: np.ndarray | None,
    folds: list[Judged],
    test: Judged,
    threshold: float,
    paper: tables.Paper | None,
    chosen_here: bool,
) -> dict[str, Any]:
    """Write and print the cross-validation table and, where there is a test set, the test table.

    Args:
        folder: receives ``cross_validation.{csv,md}`` and ``test.{csv,md}``.
        labels: int8 of the whole run: 1 single hit, 0 other, -1 unknown.
        truth: the same, to judge by besides; None where it is not known.
        folds: out-of-fold scores.
        test: scores of the test set.
        threshold: from which on a pattern is predicted to be a single hit.
        paper: whose figures to put beside.
        chosen_here: whether the threshold was chosen on the out-of-fold scores.

    Returns:
        Values by labels, such as ``{"cross-validation f1": 0.7, ...}``.
    """
    truths = None if truth is None else [truth[fold.indices] for fold in folds]
    scored = [(fold.scores, labels[fold.indices]) for fold in folds]
    made = [tables.cross_validation(scored, threshold, paper, truths, chosen_here)]
    if len(test.indices):
        true = None if truth is None else truth[test.indices]
        made.append(tables.test_set(test.scores, labels[test.indices], threshold, paper, true))
    folder.mkdir(exist_ok=True)
    for table in made:
        tables.write(table, folder)
        tables.show(table)
    return {
        f"{table.title.lower()} {row.quantity}": None if row.value != row.value else row.value
        for table in made
        for row in table.rows
        if row.by == tables.BY_LABELS
    }


def draw_scores(folder: Path, labels: np.ndarray, folds: list[Judged], test: Judged, threshold: float) -> None:
    """Draw ``precision_recall.png``, and of the test set where there is one ``score_histogram`` and ``calibration``."""
    indices = np.concatenate([fold.indices for fold in folds])
    pooled = Judged(indices, np.concatenate([fold.scores for fold in folds]))
    curves = {"out of fold": pooled} | ({"test set": test} if len(test.indices) else {})
    pairs = {name: (judged.scores, labels[judged.indices]) for name, judged in curves.items()}
    folder.mkdir(exist_ok=True)
    save(precision_recall(pairs, dict.fromkeys(pairs, threshold)), folder / "precision_recall.png")
    name, (scores, known) = list(pairs.items())[-1]
    save(score_histogram(scores, known, threshold, f"Scores, {name}"), folder / "score_histogram.png")
    save(calibration(scores, known, f"Calibration, {name}"), folder / "calibration.png")


def draw_patterns(
    folder: Path, run: Frames, labels: np.ndarray, truth: np.ndarray | None, judged: Judged, threshold: float
) -> None:
    """Draw ``highest.png``, the patterns with the highest scores, and ``mistakes.png``, the most wrong ones, if any."""
    known = labels[judged.indices]
    highest = np.argsort(-judged.scores, kind="stable")[:HIGHEST]
    worst = worst_mistakes(judged.scores, known, threshold, MISTAKES)
    folder.mkdir(exist_ok=True)
    for name, chosen in (("highest", highest), ("mistakes", worst)):
        (folder / f"{name}.png").unlink(missing_ok=True)
        if len(chosen):
            indices = judged.indices[chosen]
            true = None if truth is None else truth[indices]
            ids = run.ids[indices].tolist()
            figure = scored_patterns(run.read(indices), run.mask, ids, judged.scores[chosen], known[chosen], true)
            save(figure, folder / f"{name}.png")


def draw_training(folder: Path, histories: dict[str, Path]) -> None:
    """Draw ``training.png`` from each fold's ``history.csv``."""
    rows = {}
    for name, path in histories.items():
        try:
            with open(path, newline="", encoding="utf-8") as file:
                rows[name] = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
        except (OSError, ValueError, TypeError) as error:
            print(f"{path} cannot be read ({error}): {name} is left out of training.png.")
    folder.mkdir(exist_ok=True)
    save(training_curves(rows), folder / "training.png")


def draw_augmentation(
    folder: Path, training_set: TrainingSet, pipeline: Pipeline, normalisation: Normalisation
) -> None:
    """Draw ``augmentation.png``: two single hits and one other pattern, and what the network is shown of them."""
    rows = np.concatenate([np.flatnonzero(training_set.labels == label)[:many] for label, many in ((1, 2), (0, 1))])
    folder.mkdir(exist_ok=True)
    figure = augmentation_grid(training_set.counts[rows], training_set.mask, pipeline, normalisation, range(VARIANTS))
    save(figure, folder / "augmentation.png")
