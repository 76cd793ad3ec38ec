from __future__ import annotations

import math
import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn import metrics

from spi_lightning.analysis.classification import (
    Confusion,
    auroc,
    average_precision,
    confusion,
    count_estimates,
    f1,
    lowest_auroc,
    precision,
    precision_recall_curve,
    rank_estimates,
    recall,
)


def drawn(seed: int, n: int = 60, steps: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores with many ties, and labels of both classes."""
    rng = np.random.default_rng(seed)
    labels = np.r_[1, 0, rng.random(n - 2) < 0.3].astype(np.int8)
    scores = rng.integers(0, steps + 1, n) / steps
    return torch.from_numpy(scores.astype(np.float32)), torch.from_numpy(labels)


def paper() -> Confusion:
    """MaxF1 on the test set: 1,293 of 171,183 are single hits, 1,257 are predicted, precision 0.741, recall 0.721."""
    true = round(0.721 * 1293)
    counts = (true, 1257 - true, 1293 - true, 171_183 - 1257 - 1293 + true)
    return Confusion(*(torch.tensor(count) for count in counts))


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.25, 0.3, 0.5, 1.0]))
def test_counts_and_what_follows_from_them_are_those_of_scikit_learn(seed: int, threshold: float) -> None:
    scores, labels = drawn(seed)
    counts = confusion(scores, labels, threshold)
    chosen = (scores >= threshold).numpy()
    (tn, fp), (fn, tp) = metrics.confusion_matrix(labels, chosen, labels=[0, 1])
    assert [int(count) for count in counts] == [tp, fp, fn, tn]
    assert int(counts.predicted) == chosen.sum()
    expected = metrics.precision_recall_fscore_support(labels, chosen, average="binary", zero_division=np.nan)
    assert float(precision(counts)) == pytest.approx(expected[0], nan_ok=True)
    assert float(recall(counts)) == pytest.approx(expected[1])
    assert float(f1(counts)) == pytest.approx(expected[2])


@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 8, 1000]))
def test_rankings_with_ties_are_judged_as_scikit_learn_does(seed: int, steps: int) -> None:
    scores, labels = drawn(seed, steps=steps)
    assert average_precision(scores, labels) == pytest.approx(metrics.average_precision_score(labels, scores))
    assert auroc(scores, labels) == pytest.approx(metrics.roc_auc_score(labels, scores))


@given(st.integers(0, 2**32 - 1))
def test_the_curve_is_that_of_scikit_learn(seed: int) -> None:
    scores, labels = drawn(seed)
    curve = precision_recall_curve(scores, labels)
    expected = metrics.precision_recall_curve(labels, scores)
    assert np.allclose(curve.thresholds.flip(0), expected[2])
    assert np.allclose(curve.precision.flip(0), expected[0][:-1])
    assert np.allclose(curve.recall.flip(0), expected[1][:-1])


def test_patterns_of_unknown_label_take_no_part() -> None:
    scores, labels = drawn(3)
    more = torch.cat([scores, torch.linspace(0, 1, 50)]), torch.cat([labels, torch.full((50,), -1, dtype=torch.int8)])
    assert confusion(*more, 0.5) == confusion(scores, labels, 0.5)
    assert rank_estimates(*more, draws=20) == rank_estimates(scores, labels, draws=20)
    with_them, without = precision_recall_curve(*more), precision_recall_curve(scores, labels)
    assert all(torch.equal(mine, plain) for mine, plain in zip(with_them, without, strict=True))


def test_many_scorings_of_the_same_patterns_are_counted_at_once() -> None:
    batch = torch.stack([drawn(seed)[0] for seed in range(5)])
    labels = drawn(0)[1]
    together = f1(confusion(batch, labels, 0.5))
    assert together.tolist() == [float(f1(confusion(scores, labels, 0.5))) for scores in batch]


def test_nothing_over_nothing_is_no_number() -> None:
    scores = torch.tensor([0.1, 0.2])
    no_single = confusion(scores, torch.tensor([0, 0]), 0.5)
    assert all(math.isnan(float(of(no_single))) for of in (precision, recall, f1))
    none_found = confusion(scores, torch.tensor([0, 1]), 0.5)
    assert math.isnan(float(precision(none_found)))
    assert (float(recall(none_found)), float(f1(none_found))) == (0.0, 0.0)
    assert math.isnan(average_precision(scores, torch.tensor([0, 0])))
    assert math.isnan(auroc(scores, torch.tensor([0, 0])))
    assert math.isnan(auroc(scores, torch.tensor([1, 1])))
    for estimate in (count_estimates(no_single) | rank_estimates(scores, torch.tensor([0, 0]))).values():
        assert all(math.isnan(value) for value in estimate)


@pytest.mark.parametrize("wrong", [math.nan, -0.1, 3.0])
def test_scores_that_are_no_probabilities_are_refused(wrong: float) -> None:
    scores, labels = drawn(0)
    scores[7] = wrong
    for judge in (lambda: confusion(scores, labels, 0.5), lambda: auroc(scores, labels)):
        with pytest.raises(ValueError, match="1 of 60 scores"):
            judge()


def test_the_papers_f1_has_the_interval_that_was_computed_for_it() -> None:
    estimate = count_estimates(paper())["f1"]
    assert estimate.value == pytest.approx(0.731, abs=5e-4)
    assert estimate.low == pytest.approx(0.711, abs=3e-3)
    assert estimate.high == pytest.approx(0.750, abs=3e-3)


def test_the_interval_of_a_share_is_the_binomial_one() -> None:
    estimate = count_estimates(paper())["precision"]
    width = 1.96 * math.sqrt(0.741 * 0.259 / 1257)
    assert estimate.high - estimate.low == pytest.approx(2 * width, rel=0.05)


def test_intervals_of_rankings_are_those_of_resampled_patterns() -> None:
    """Against drawing patterns one by one and asking scikit-learn, ties included."""
    rng = np.random.default_rng(0)
    labels = np.arange(400) < 40
    scores = np.round(1 / (1 + np.exp(-rng.normal(1.5 * labels, 1.0))), 2)
    draws = [np.r_[rng.integers(0, 40, 40), rng.integers(40, 400, 360)] for _ in range(1000)]
    ours = rank_estimates(torch.from_numpy(scores), torch.from_numpy(labels.astype(np.int64)), draws=4000)
    for name, judge in (("auroc", metrics.roc_auc_score), ("average_precision", metrics.average_precision_score)):
        theirs = np.quantile([judge(labels[draw], scores[draw]) for draw in draws], [0.025, 0.975])
        assert np.allclose(ours[name][1:], theirs, atol=0.012)
        assert ours[name].value == pytest.approx(judge(labels, scores))


def test_an_interval_depends_on_its_seed_only() -> None:
    scores, labels = drawn(1)
    assert rank_estimates(scores, labels, seed=5) == rank_estimates(scores, labels, seed=5)
    assert rank_estimates(scores, labels, seed=5) != rank_estimates(scores, labels, seed=6)


def test_the_papers_test_set_is_judged_within_seconds() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = (torch.arange(171_183) < 1293).to(torch.int8)
    scores = (torch.randn(len(labels), generator=generator) + 3 * labels - 4).sigmoid()
    start = time.perf_counter()
    estimates = rank_estimates(scores, labels)
    assert time.perf_counter() - start < 10
    for name, judge in (("auroc", metrics.roc_auc_score), ("average_precision", metrics.average_precision_score)):
        assert estimates[name].value == pytest.approx(judge(labels, scores), abs=1e-9)
        assert estimates[name].low < estimates[name].value < estimates[name].high


def test_a_perfect_ranking_of_few_patterns_leaves_room_for_doubt() -> None:
    rng = np.random.default_rng(0)
    singles, others = rng.standard_normal((2, 100_000, 12))
    lead = np.quantile(others.max(1) - singles[:, :8].min(1), 0.025)  # with which 2.5 % of samples have no error
    found = lowest_auroc(8, 12)
    assert found == pytest.approx(norm.cdf(lead / np.sqrt(2)), abs=0.003)
    scores, labels = torch.linspace(0.01, 0.99, 20), (torch.arange(20) >= 12).long()
    estimate = rank_estimates(scores, labels)["auroc"]
    assert estimate == (1.0, found, 1.0)
    assert lowest_auroc(1, 1) == pytest.approx(0.025)
    assert 0.999 < lowest_auroc(1293, 169_890) < 1
