from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, precision_recall_curve

from spi_lightning.errors import SpiError
from spi_lightning.inference.thresholds import ThresholdSettings, all_cuts, choose_threshold

MAX_F1 = ThresholdSettings("max_f1", None)

# Few different scores, so that there are ties; a label each.
patterns = st.lists(
    st.tuples(st.integers(0, 12).map(lambda i: np.float32(i / 12)), st.sampled_from([0, 1])), min_size=1, max_size=40
).map(lambda pairs: (np.array([p[0] for p in pairs], np.float32), np.array([p[1] for p in pairs], np.int8)))


def quality(scores: np.ndarray, labels: np.ndarray, threshold: float) -> tuple[float, float, float]:
    """Precision, recall and F1 of ``score >= threshold``, counted anew."""
    selected = scores >= threshold
    true = int((selected & (labels == 1)).sum())
    predicted, singles = int(selected.sum()), int((labels == 1).sum())
    return true / max(predicted, 1), true / singles, 2 * true / (predicted + singles)


@given(patterns)
@settings(max_examples=150, deadline=None)
def test_cuts_are_scikit_learns(data: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = data
    assume(labels.any())
    cuts = all_cuts(scores, labels)
    precision, recall, thresholds = precision_recall_curve(labels, scores)
    np.testing.assert_array_equal(cuts.thresholds[::-1], thresholds)
    np.testing.assert_allclose((cuts.hits / cuts.selected)[::-1], precision[:-1])
    np.testing.assert_allclose((cuts.hits / labels.sum())[::-1], recall[:-1])


@given(patterns)
@settings(max_examples=150, deadline=None)
def test_max_f1_is_beaten_by_no_cut(data: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = data
    assume(labels.any())
    threshold = choose_threshold(scores, labels, MAX_F1)
    found = f1_score(labels, scores >= threshold)
    others = {float(cut): f1_score(labels, scores >= cut) for cut in np.unique(scores)}
    assert found == pytest.approx(max(others.values()))
    assert threshold == max(cut for cut, f1 in others.items() if f1 == pytest.approx(found))


@given(patterns, st.floats(0.05, 1.0))
@settings(max_examples=150, deadline=None)
def test_a_wanted_recall_is_reached_by_no_higher_cut(data: tuple[np.ndarray, np.ndarray], wanted: float) -> None:
    scores, labels = data
    assume(labels.any())
    threshold = choose_threshold(scores, labels, ThresholdSettings("recall", wanted))
    assert quality(scores, labels, threshold)[1] >= wanted
    higher = [cut for cut in np.unique(scores) if cut > threshold]
    assert all(quality(scores, labels, cut)[1] < wanted for cut in higher)


@given(patterns, st.floats(0.05, 1.0))
@settings(max_examples=150, deadline=None)
def test_a_wanted_precision_is_reached_by_no_lower_cut(data: tuple[np.ndarray, np.ndarray], wanted: float) -> None:
    scores, labels = data
    assume(labels.any())
    reach = {float(cut): quality(scores, labels, cut)[0] for cut in np.unique(scores)}
    if max(reach.values()) < wanted:
        with pytest.raises(SpiError, match="no threshold reaches a precision"):
            choose_threshold(scores, labels, ThresholdSettings("precision", wanted))
        return
    threshold = choose_threshold(scores, labels, ThresholdSettings("precision", wanted))
    assert threshold == min(cut for cut, precision in reach.items() if precision >= wanted)


def test_by_hand() -> None:
    scores = np.array([0.9, 0.8, 0.8, 0.6, 0.4, 0.1], np.float32)
    labels = np.array([1, 1, 0, 1, 0, 0])
    chosen = {
        rule: choose_threshold(scores, labels, ThresholdSettings(rule, value))
        for rule, value in (("max_f1", None), ("precision", 0.7), ("recall", 0.5), ("fixed", 0.25))
    }
    assert chosen["max_f1"] == np.float32(0.6)  # F1 6/7
    assert chosen["precision"] == np.float32(0.6)  # 3/4; the two at 0.8 stay together: 2/3
    assert chosen["recall"] == np.float32(0.8)
    assert chosen["fixed"] == 0.25


def test_unknown_patterns_take_no_part() -> None:
    scores, labels = np.array([0.9, 0.8, 0.7, 0.2]), np.array([-1, 1, -1, 0])
    assert choose_threshold(scores, labels, MAX_F1) == 0.8
    assert choose_threshold(scores, labels, ThresholdSettings("precision", 1.0)) == 0.8


def test_no_single_hit_to_choose_by() -> None:
    scores = np.array([0.5, 0.6])
    with pytest.raises(SpiError, match="among 1 labelled patterns there is none"):
        choose_threshold(scores, np.array([0, -1]), MAX_F1)
    assert choose_threshold(scores, np.array([0, -1]), ThresholdSettings("fixed", 0.5)) == 0.5


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        ("max_f1", 0.5),
        ("fixed", None),
        ("fixed", 1.5),
        ("fixed", float("nan")),
        ("precision", 0.0),
        ("recall", -0.1),
        ("accuracy", 0.5),
    ],
)
def test_settings_that_make_no_sense(rule, value) -> None:
    with pytest.raises(SpiError, match=r"threshold\.(rule|value) is"):
        ThresholdSettings(rule, value)


def test_scores_that_are_no_scores() -> None:
    with pytest.raises(ValueError, match="finite scores"):
        choose_threshold(np.array([0.5, np.nan]), np.array([0, 1]), MAX_F1)
    with pytest.raises(ValueError, match="finite scores"):
        choose_threshold(np.array([0.5, 0.6]), np.array([1]), MAX_F1)
