"""Simple features and scikit-learn on the same folds and test set as a training run: does the network beat them?

    python -m benchmarks.feature_baseline run=RUN [apply=FILE scores=SCORES]

Prints average precision, AUROC and F1 of the network (from RUN's ``predictions.h5`` and ``scores.h5``) beside those of
a logistic regression and of gradient boosting on :mod:`benchmarks.features`, and writes them to
``RUN/tables/feature_baseline.csv``. The threshold of each is the one with the largest F1 out of fold. Where the run
knows the truth, all are judged by it too, and the truth itself by the labels: what a classifier that finds the truth
would reach. (One that learns which patterns the expert prefers may reach more.)

``apply`` judges them on the labelled patterns of another file too, prepared as the training's were; ``scores`` is what
spi-predict wrote for that file.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.features import FEATURES, features_of
from spi_lightning.analysis.classification import confusion, count_estimates, rank_estimates
from spi_lightning.commands.parts import open_patterns, read_train_config
from spi_lightning.config.train_schema import TrainConfig
from spi_lightning.data.split_file import read_splits
from spi_lightning.data.truth import read_truth
from spi_lightning.errors import SpiError
from spi_lightning.inference.preparation import as_trained
from spi_lightning.inference.scores import read_scores
from spi_lightning.inference.thresholds import ThresholdSettings, choose_threshold
from spi_lightning.patterns import open_run
from spi_lightning.patterns.frames import Frames
from spi_lightning.patterns.prepare import prepare
from spi_lightning.progress import progress
from spi_lightning.provenance import write_text
from spi_lightning.training.gathering import out_of_fold

Kind = Literal["logistic regression", "gradient boosting"]
KINDS: tuple[Kind, ...] = ("logistic regression", "gradient boosting")
QUANTITIES = ("average_precision", "auroc", "f1", "precision", "recall")
SHOWN = {"average_precision": "Average precision", "auroc": "AUROC", "f1": "F1 score"}
CROSS_VALIDATED, TEST = "out of fold", "test"


def main() -> None:
    arguments = dict(argument.partition("=")[::2] for argument in sys.argv[1:])
    pair = {"apply", "scores"} & arguments.keys()
    if "run" not in arguments or arguments.keys() - {"run", "apply", "scores"} or len(pair) == 1:
        sys.exit(__doc__)
    folder = Path(arguments["run"])
    try:
        records = compared(folder, arguments.get("apply"), arguments.get("scores"))
    except SpiError as error:
        sys.exit(f"error: {error}")
    show(records)
    write(records, folder / "tables" / "feature_baseline.csv")


def compared(folder: Path, other: str | None = None, other_scores: str | None = None) -> list[dict[str, str | float]]:
    """Judge the networks of a training run, and the baselines, on the same patterns.

    Args:
        folder: of the run.
        other: file of further labelled patterns; None for none.
        other_scores: scores of these by the run's ensemble.

    Returns:
        Records as :func:`judged` gives them.
    """
    config = read_train_config(folder)
    run = open_patterns(config)
    splits = read_splits(folder / "splits.json", run)
    parts = {CROSS_VALIDATED: np.concatenate(splits.folds)} | ({TEST: splits.test} if len(splits.test) else {})
    labels = {name: splits.labels[indices] for name, indices in parts.items()}
    truths = {}
    if (truth := read_truth(run, config.truth)) is not None:
        truths = {name: truth[indices] for name, indices in parts.items()}
    network = {CROSS_VALIDATED: np.concatenate([scores.probabilities for scores in out_of_fold(folder, splits)])}
    if len(splits.test):
        network[TEST] = scores_of(folder / "scores.h5", run.ids[splits.test])
    table = {name: features_with_progress(run, indices) for name, indices in parts.items()}
    if other is not None and other_scores is not None:
        further = _prepared_alike(other, config)
        if further.labels is None:
            raise SpiError(f"{other} has no labels to judge by.")
        labels[other] = further.labels
        network[other] = scores_of(Path(other_scores), further.ids)
        table[other] = features_with_progress(further, np.arange(len(further)))

    ends = np.cumsum([len(fold) for fold in splits.folds])[:-1]
    folds = np.split(np.arange(len(parts[CROSS_VALIDATED])), ends)
    classifiers: dict[str, dict[str, np.ndarray]] = {"network": network}
    for kind in KINDS:
        known = table[CROSS_VALIDATED], labels[CROSS_VALIDATED]
        scores = {name: baseline_scores(*known, table[name], kind) for name in table if name != CROSS_VALIDATED}
        classifiers[kind] = {CROSS_VALIDATED: out_of_fold_scores(*known, folds, kind)} | scores
    records = []
    for name in table:
        for by, sides in (("labels", labels), ("truth", truths)):
            if name in sides:
                for classifier, scores in classifiers.items():
                    threshold = best_threshold(scores[CROSS_VALIDATED], labels[CROSS_VALIDATED])
                    records.append(judged(name, classifier, by, scores[name], sides[name], threshold))
        if name in truths:
            known = truths[name] >= 0
            perfect = truths[name][known].astype(np.float32)
            records.append(judged(name, "the truth itself", "labels", perfect, labels[name][known], 0.5))
    return records


def baseline_scores(
    train_features: np.ndarray, train_labels: np.ndarray, test_features: np.ndarray, kind: Kind
) -> np.ndarray:
    """Train on some patterns and score others.

    Args:
        train_features: ``(n, features)``; NaN where one is not defined: the median takes its place.
        train_labels: ``(n,)``: 1 single hit, 0 other.
        test_features: ``(m, features)``.
        kind: of classifier. Both weigh all patterns alike and have scikit-learn's own settings.

    Returns:
        Probabilities of a single hit, ``(m,)`` float32.
    """
    trained = _classifier(kind).fit(train_features, train_labels)
    return trained.predict_proba(test_features)[:, 1].astype(np.float32)


def out_of_fold_scores(features: np.ndarray, labels: np.ndarray, folds: Sequence[np.ndarray], kind: Kind) -> np.ndarray:
    """Scores of each fold's patterns by the classifier that was trained on the other folds.

    Args:
        features: ``(n, features)``.
        labels: ``(n,)``: 1 single hit, 0 other.
        folds: places of each fold's patterns; together each of the n places once.
        kind: of classifier.

    Returns:
        ``(n,)`` float32.
    """
    scores = np.full(len(labels), np.nan, np.float32)
    for fold in folds:
        others = np.setdiff1d(np.arange(len(labels)), fold)
        scores[fold] = baseline_scores(features[others], labels[others], features[fold], kind)
    return scores


def best_threshold(scores: np.ndarray, labels: np.ndarray) -> float:
    """The threshold with the largest F1."""
    return choose_threshold(scores, labels, ThresholdSettings("max_f1", None))


def judged(
    patterns: str, classifier: str, by: str, scores: np.ndarray, labels: np.ndarray, threshold: float
) -> dict[str, str | float]:
    """One record: whose scores of which patterns, by which labels, and each quantity with its 95 % interval."""
    ours, given = torch.from_numpy(scores), torch.from_numpy(labels)
    counts = confusion(ours, given, threshold)
    estimates = count_estimates(counts) | rank_estimates(ours, given)
    record: dict[str, str | float] = {"patterns": patterns, "classifier": classifier, "by": by, "threshold": threshold}
    record |= {"singles": int((given == 1).sum()), "predicted": int(counts.predicted)}
    for name in QUANTITIES:
        value, low, high = estimates[name]
        record |= {name: value, f"{name} low": low, f"{name} high": high}
    return record


def features_with_progress(run: Frames, indices: np.ndarray) -> np.ndarray:
    """Features ``(n, features)`` of some patterns, read in the order in which they are stored."""
    order = np.argsort(indices)
    table = np.empty((len(indices), len(FEATURES)))
    with progress("Features", len(indices)) as advance:
        table[order] = features_of(run, indices[order], advance)
    return table


def scores_of(path: Path, ids: np.ndarray) -> np.ndarray:
    """A network's scores of these patterns, ``(n,)`` float32."""
    scores = read_scores(path)
    if not np.array_equal(scores.ids, ids):
        raise SpiError(f"{path} does not hold the scores of these {len(ids)} patterns: make it anew.")
    return scores.probabilities


def show(records: list[dict[str, str | float]]) -> None:
    """Print the records, a table for each set of patterns and kind of labels."""
    for patterns, by in dict.fromkeys((record["patterns"], record["by"]) for record in records):
        title = f"{patterns}, by the {by}, with 95 % intervals"
        shown = Table(
            "Classifier",
            *SHOWN.values(),
            title=title,
            title_justify="left",
            box=SIMPLE,
            pad_edge=False,
            collapse_padding=True,
        )
        for record in records:
            if (record["patterns"], record["by"]) == (patterns, by):
                cells = ["{:.3f} {:.3f}–{:.3f}".format(*_values(record, name)) for name in SHOWN]
                shown.add_row(str(record["classifier"]), *cells)
        Console().print(shown)


def write(records: list[dict[str, str | float]], path: Path) -> None:
    """Write the records as CSV, beside the run's own tables."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    path.parent.mkdir(exist_ok=True)
    write_text(path, text.getvalue())


def _values(record: dict[str, str | float], name: str) -> tuple[float, ...]:
    return tuple(float(record[key]) for key in (name, f"{name} low", f"{name} high"))


def _classifier(kind: Kind) -> Pipeline:
    # A feature that no training pattern has is kept, as 0: the features of a pattern do not depend on the fold.
    filled = SimpleImputer(strategy="median", keep_empty_features=True)
    if kind == "gradient boosting":
        return make_pipeline(filled, HistGradientBoostingClassifier(early_stopping=False, random_state=0))
    return make_pipeline(filled, StandardScaler(), LogisticRegression(max_iter=10_000))


def _prepared_alike(path: str, config: TrainConfig) -> Frames:
    """Patterns of another file, prepared as the training's were, with the labels that lie beside them."""
    run = open_run([path], mask_bits=config.data.mask_bits)
    return prepare(run, as_trained(dataclasses.asdict(config.data.prepare), {}), config.instrument)


if __name__ == "__main__":
    main()
