from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread
from sklearn import metrics

from spi_lightning.report.curves import (
    precision_recall,
    score_histogram,
    scored_patterns,
    training_curves,
    worst_mistakes,
)
from spi_lightning.report.figures import save


def scored(n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = (np.arange(n) < 30).astype(np.int8)
    return (1 / (1 + np.exp(2 - rng.normal(3.0 * labels, 1.5)))).astype(np.float32), labels


def test_precision_is_drawn_against_recall_and_the_threshold_lies_on_the_curve() -> None:
    scores, labels = scored()
    figure = precision_recall({"ours": (scores, labels), "nothing": (scores, 0 * labels)}, {"ours": 0.5})
    lines = figure.axes[0].lines
    (curve,) = [line for line in lines if str(line.get_label()).startswith("ours")]
    precision, recall, _ = metrics.precision_recall_curve(labels, scores)
    assert np.allclose(curve.get_xdata(), recall[::-1])
    assert np.allclose(curve.get_ydata()[1:], precision[::-1][1:])
    assert curve.get_label() == f"ours: AP {metrics.average_precision_score(labels, scores):.3f}"
    (mark,) = [line for line in lines if line.get_marker() == "o"]
    expected = metrics.recall_score(labels, scores >= 0.5), metrics.precision_score(labels, scores >= 0.5)
    assert (mark.get_xdata()[0], mark.get_ydata()[0]) == pytest.approx(expected)


def test_every_score_is_in_the_histogram_of_its_label() -> None:
    scores, labels = scored()
    scores[0], scores[-1] = 0.0, 1.0  # logits that are infinite
    labels[50:60] = -1
    axis = score_histogram(scores, labels, 0.5).axes[0]
    assert axis.get_legend_handles_labels()[1] == ["others: 260", "single hits: 30", "unknown: 10"]
    assert [sum(bar.get_height() for bar in group) for group in axis.containers] == [260, 30, 10]
    bare = score_histogram(scores, None, None).axes[0]
    assert bare.get_legend_handles_labels()[1] == ["unknown: 300"]
    assert not bare.lines


def test_each_fold_has_its_curves() -> None:
    rows = [{"epoch": e, "train/loss": 1 / (e + 1), "val/loss": 2 / (e + 1), "val/f1": e / 10} for e in range(8)]
    figure = training_curves({"fold 0": rows, "fold 1": rows[:3], "fold 2": []})
    loss, _, f1, auroc = figure.axes
    assert [len(line.get_xdata()) for line in loss.lines] == [8, 8, 3, 3]
    assert [len(line.get_xdata()) for line in f1.lines] == [8, 3]
    assert np.allclose(f1.lines[0].get_ydata(), np.arange(8) / 10)
    assert not auroc.lines


@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(0, 40))
def test_the_worst_mistakes_are_the_lowest_single_hits_and_the_highest_others(seed: int, n: int, wanted: int) -> None:
    rng = np.random.default_rng(seed)
    scores, labels = rng.random(n), rng.integers(-1, 2, n)
    threshold = rng.random()
    chosen = worst_mistakes(scores, labels, threshold, wanted)
    wrong = ((labels == 1) & (scores < threshold)) | ((labels == 0) & (scores >= threshold))
    assert wrong[chosen].all()
    assert len(set(chosen.tolist())) == len(chosen) == min(wanted, wrong.sum())
    singles, others = chosen[labels[chosen] == 1], chosen[labels[chosen] == 0]
    assert chosen.tolist() == [*singles, *others]
    assert np.allclose(scores[singles], np.sort(scores[labels == 1])[: len(singles)])
    assert np.allclose(scores[others], np.sort(scores[labels == 0])[::-1][: len(others)])


def test_pictures_can_be_saved(tmp_path: Path) -> None:
    scores, labels = scored()
    frames = np.random.default_rng(0).poisson(1.0, (4, 12, 6))
    truth = np.array([0, 1, -1, 1])
    sheet = scored_patterns(frames, np.ones((12, 6), bool), list("abcd"), scores[:4], labels[:4], truth)
    titles = [axis.get_title() for axis in sheet.axes]
    assert titles[0] == f"a\nlabel single, score {scores[0]:.2g}\nin truth other"
    figures = {
        "sheet": sheet,
        "curve": precision_recall({"ours": (scores, labels)}),
        "histogram": score_histogram(scores, labels, 0.5),
        "training": training_curves({}),
    }
    for name, figure in figures.items():
        save(figure, tmp_path / f"{name}.png", dpi=50)
        assert imread(tmp_path / f"{name}.png").std() > 0
