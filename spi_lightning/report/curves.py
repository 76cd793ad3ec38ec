"""Pictures of a classifier: precision against recall, scores by label, training, and its worst mistakes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from spi_lightning.analysis.classification import (
    average_precision,
    confusion,
    precision,
    precision_recall_curve,
    recall,
)
from spi_lightning.report.figures import contact_sheet

COLOURS = ("#1f4e9c", "#d1662a", "#3b8a4d", "#8b4aa0", "#7a6a2f", "#b0304c")
SINGLE, OTHER = COLOURS[1], COLOURS[0]
PANELS = {
    "loss": "Loss",
    "average_precision": "Average precision",
    "f1": "F1 score, threshold 0.5",
    "auroc": "AUROC",
}
LARGEST_LOGIT = 12.0  # scores beyond this logit on either side are drawn at the edge


CALLED = {1: "single", 0: "other", -1: "unknown"}


def precision_recall(
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]], thresholds: Mapping[str, float] | None = None
) -> Figure:
    """Precision against recall, the thresholds marked, over lines of equal F1.

    Args:
        curves: by name, scores ``(n,)`` and labels ``(n,)``: 1 single hit, 0 other, -1 unknown (left out). Where there
            is no labelled single hit, nothing is drawn.
        thresholds: by the same names, where one is in use.
    """
    figure = Figure(figsize=(6.4, 5.2), layout="constrained")
    axis = figure.subplots()
    _equal_f1(axis)
    colours = dict(zip(curves, cycled(len(curves)), strict=True))
    for name, (values, classes) in curves.items():
        scores, labels = torch.from_numpy(values), torch.from_numpy(classes)
        if not (labels == 1).any():
            continue
        curve = precision_recall_curve(scores, labels)
        text = f"{name}: AP {average_precision(scores, labels):.3f}"
        steps = np.concatenate([[0.0], curve.recall.numpy()]), np.concatenate([curve.precision[:1], curve.precision])
        axis.step(*steps, where="pre", color=colours[name], label=text, linewidth=1.4)
        if thresholds is not None and name in thresholds:
            counts = confusion(scores, labels, thresholds[name])
            place = float(recall(counts)), float(precision(counts))
            axis.plot(*place, "o", color=colours[name], markeredgecolor="black", markersize=8, zorder=3)
            axis.annotate(f"{thresholds[name]:.3g}", place, xytext=(8, 6), textcoords="offset points", fontsize=8)
    axis.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="recall", ylabel="precision", title="Precision against recall")
    axis.legend(loc="lower left", fontsize=8)
    return figure


def score_histogram(
    scores: np.ndarray, labels: np.ndarray | None, threshold: float | None, title: str = "Scores"
) -> Figure:
    """How many patterns have which score, by label, both axes stretched: a logit axis shows the scores near 0 and 1.

    Args:
        scores: ``(n,)``, probabilities of a single hit.
        labels: ``(n,)``: 1 single hit, 0 other, -1 unknown; None where nothing is known.
        threshold: to mark; None for none.
        title: of the figure.
    """
    figure = Figure(figsize=(6.8, 4.2), layout="constrained")
    axis = figure.subplots()
    edges = np.linspace(-LARGEST_LOGIT, LARGEST_LOGIT, 61).tolist()
    known = np.full(len(scores), -1) if labels is None else labels
    for label, name, colour in ((0, "others", OTHER), (1, "single hits", SINGLE), (-1, "unknown", "#8a8a8a")):
        chosen = scores[known == label]
        if len(chosen):
            axis.hist(logit(chosen), edges, color=colour, alpha=0.55, label=f"{name}: {len(chosen)}", log=True)
    if threshold is not None:
        axis.axvline(float(logit(np.array([threshold]))[0]), color="black", linestyle="--", linewidth=1)
        axis.annotate(
            f"threshold {threshold:.3g}",
            (float(logit(np.array([threshold]))[0]), 0.97),
            xycoords=("data", "axes fraction"),
            xytext=(4, 0),
            textcoords="offset points",
            va="top",
            fontsize=8,
        )
    logit_ticks(axis.xaxis)
    axis.tick_params(axis="x", rotation=45)
    axis.set(xlabel="score: probability of a single hit", ylabel="patterns", title=title, ylim=(0.6, None))
    axis.legend(fontsize=8)
    return figure


def training_curves(folds: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure:
    """Loss and metrics against epoch, one line a fold.

    Args:
        folds: by name, rows with ``epoch``, ``train/loss``, ``val/loss``, ``val/average_precision``, ``val/f1``,
            ``val/auroc``; what a row lacks is not drawn.
    """
    figure = Figure(figsize=(11, 6.4), layout="constrained")
    axes = figure.subplots(2, 2).ravel()
    colours = dict(zip(folds, cycled(len(folds)), strict=True))
    for axis, (quantity, title) in zip(axes, PANELS.items(), strict=True):
        for name, rows in folds.items():
            for stage, style in (("train", "--"), ("val", "-")):
                points = [(row["epoch"], row[key]) for row in rows if (key := f"{stage}/{quantity}") in row]
                if points:
                    mark = "." if len(points) < 20 else ""
                    label = name if stage == "val" else None
                    axis.plot(*zip(*points, strict=True), style, color=colours[name], label=label, marker=mark, lw=1)
        axis.set(title=title, xlabel="epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
    axes[0].set_title("Loss: training dashed, validation solid")
    if all(line.get_ydata().min() > 0 for line in axes[0].lines):
        axes[0].set_yscale("log")
    for axis in axes[1:]:
        axis.set_ylim(-0.02, 1.02)
    if axes[0].lines:
        axes[0].legend(fontsize=8, ncols=2)
    return figure


def worst_mistakes(scores: np.ndarray, labels: np.ndarray, threshold: float, how_many: int) -> np.ndarray:
    """Which patterns that are called wrongly have the most wrong scores.

    Args:
        scores: ``(n,)``, probabilities of a single hit.
        labels: ``(n,)``: 1 single hit, 0 other, -1 unknown (left out).
        threshold: from which on a pattern is called a single hit.
        how_many: to choose at most; half of them labelled single hits with the lowest scores, half of them others with
            the highest, and more of the one where there are few of the other.

    Returns:
        Their indices: single hits first, each part with the worst first.
    """
    order = np.argsort(scores, kind="stable")
    missed = order[(labels[order] == 1) & (scores[order] < threshold)]
    taken = order[::-1][(labels[order[::-1]] == 0) & (scores[order[::-1]] >= threshold)]
    first = min(len(missed), max(how_many // 2, how_many - len(taken)))
    return np.concatenate([missed[:first], taken[: how_many - first]])


def scored_patterns(
    frames: np.ndarray,
    mask: np.ndarray,
    ids: Sequence[str],
    scores: np.ndarray,
    labels: np.ndarray,
    truth: np.ndarray | None = None,
) -> Figure:
    """A contact sheet of patterns with their score and label.

    Args:
        frames: ``(k, rows, columns)``, photons.
        mask: ``(rows, columns)`` bool, True = good.
        ids: of these patterns.
        scores: ``(k,)``.
        labels: ``(k,)``: 1 single hit, 0 other, -1 unknown.
        truth: the same, by the truth, where that is known.
    """
    said = [CALLED[int(label)] for label in labels]
    titles = [f"{name}\nlabel {word}, score {score:.2g}" for name, word, score in zip(ids, said, scores, strict=True)]
    if truth is not None:
        titles = [f"{title}\nin truth {CALLED[int(true)]}" for title, true in zip(titles, truth, strict=True)]
    return contact_sheet(frames, mask, titles)


def _equal_f1(axis) -> None:  # type: ignore[no-untyped-def]
    for value in (0.2, 0.4, 0.6, 0.8):
        r = np.linspace(value / (2 - value), 1, 400)
        axis.plot(r, value * r / (2 * r - value), color="#bbbbbb", linewidth=0.7, zorder=0)
        axis.annotate(f"F1 {value}", (1.0, value / (2 - value)), fontsize=7, color="#888888", ha="right", va="bottom")


def logit(scores: np.ndarray) -> np.ndarray:
    """log(p/(1 − p)) as float64, those beyond :data:`LARGEST_LOGIT` at the edge."""
    with np.errstate(divide="ignore"):
        logits = np.log(scores.astype(np.float64)) - np.log1p(-scores.astype(np.float64))
    return np.clip(logits, -LARGEST_LOGIT, LARGEST_LOGIT)


def logit_ticks(axis: Axis) -> None:
    """Label an axis of :func:`logit` with probabilities."""
    ticks = np.array([1e-5, 1e-4, 1e-3, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999])
    axis.set_ticks(logit(ticks).tolist(), labels=[f"{tick:g}" for tick in ticks], fontsize=8)


def cycled(n: int) -> list[str]:
    """A colour for each of ``n`` lines."""
    return [COLOURS[index % len(COLOURS)] for index in range(n)]
