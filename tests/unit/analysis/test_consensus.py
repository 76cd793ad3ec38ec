from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score
from sklearn.metrics.cluster import contingency_matrix

from spi_lightning.analysis.consensus import (
    adjusted_rand_index,
    classify_by_consensus,
    contingency,
    vote,
    with_classes,
)
from spi_lightning.analysis.em import classify
from spi_lightning.analysis.em_settings import EMSettings
from tests.unit.analysis.test_em import pairs

LABELS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40)


@given(LABELS)
def test_the_adjusted_rand_index_is_that_of_scikit_learn(labels: list[tuple[int, int]]) -> None:
    first, second = (torch.tensor(own) for own in zip(*labels, strict=True))
    assert adjusted_rand_index(first, second) == pytest.approx(adjusted_rand_score(first, second), abs=1e-12)


def test_the_contingency_table_is_that_of_scikit_learn() -> None:
    first, second = torch.from_numpy(np.random.default_rng(0).integers(0, 5, (2, 100)))
    assert np.array_equal(contingency(first, second, 5), contingency_matrix(first, second))


@given(LABELS, st.permutations(range(5)))
def test_names_of_classes_do_not_matter(labels: list[tuple[int, int]], names: list[int]) -> None:
    first = torch.tensor([own for own, _ in labels])
    renamed = torch.tensor(names)[first]
    decided, agreement = vote([first, renamed, renamed], first, 5, [True] * 3)
    assert torch.equal(decided, first)
    assert agreement.tolist() == [1] * len(labels)


def test_the_majority_decides_and_in_a_tie_the_reference() -> None:
    truth = torch.arange(30) % 3
    wrong = truth.clone()
    wrong[0] = 1
    decided, agreement = vote([wrong, (truth + 1) % 3, truth], wrong, 3, [True] * 3)
    assert torch.equal(decided, truth)
    assert agreement.tolist() == pytest.approx([2 / 3] + [1] * 29)
    decided, agreement = vote([truth, wrong], wrong, 3, [True] * 2)
    assert torch.equal(decided, wrong)
    assert agreement.tolist() == [0.5] + [1] * 29
    assert torch.equal(vote([truth, wrong], truth, 3, [True] * 2)[0], truth)
    # What has no vote is still asked whether it agrees.
    decided, agreement = vote([wrong, wrong, truth], truth, 3, [False, False, True])
    assert torch.equal(decided, truth)
    assert agreement.tolist() == pytest.approx([1 / 3] + [1] * 29)


def test_starts_are_merged() -> None:
    made = pairs(120, 1e4, distances=(0.0, 0.4, 0.8))
    settings = EMSettings(classes=3, rotations=16, iterations=15, starts=3)
    told: list[int] = []
    found = classify_by_consensus(made.counts, made.pixels, settings, told.append)
    merged, starts = found.classification, found.starts
    assert adjusted_rand_score(made.classes, merged.classes.numpy()) > 0.95
    assert sum(told) == 45
    assert len(starts) == 3
    alone = classify(made.counts, made.pixels, settings, seed=1)
    assert torch.equal(starts[1].classes, alone.classes)
    best = max(starts, key=lambda start: start.history[-1])
    assert merged.history == best.history
    scores = [adjusted_rand_score(starts[i].classes, starts[j].classes) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert found.similarity == pytest.approx(np.mean(scores))
    assert found.agreement.min() >= 1 / 3
    assert found.agreement.max() == 1
    well = (best.coverage > 10) & (merged.coverage > 10)  # patterns
    assert torch.allclose(merged.images[well], best.images[well], atol=0.1)


def test_starts_that_were_caught_in_a_worse_optimum_do_not_outvote_the_best() -> None:
    made = pairs(120, 1e4, distances=(0.0, 0.4, 0.8))
    settings = EMSettings(classes=3, rotations=16, iterations=15, starts=4, margin=0.0)
    best_alone = classify_by_consensus(made.counts, made.pixels, settings)
    best = max(best_alone.starts, key=lambda start: start.history[-1])
    assert torch.equal(best_alone.classification.classes, best.classes)
    everyone = classify_by_consensus(made.counts, made.pixels, dataclasses.replace(settings, margin=1.0))
    majority, _ = vote([start.classes for start in everyone.starts], best.classes, 3, [True] * 4)
    assert torch.equal(everyone.classification.classes, majority)


@pytest.mark.parametrize("assignment", ["soft", "hard"])
def test_patterns_can_be_put_into_given_classes(assignment: str) -> None:
    made = pairs(60, 3000, distances=(0.0, 0.8))
    settings = EMSettings(classes=3, rotations=16, iterations=15, assignment=assignment)  # type: ignore[arg-type]
    model = classify(made.counts.double(), made.pixels, settings)
    same = with_classes(model, model.classes, made.counts.double(), made.pixels, settings)
    settled = model.certainty > 0.999
    assert torch.equal(same.rotations[settled], model.rotations[settled])
    assert torch.allclose(same.certainty[settled], model.certainty[settled], atol=1e-2)

    others = torch.where(model.classes == 0, 1, 0)
    moved = with_classes(model, others, made.counts.double(), made.pixels, settings)
    assert moved.coverage[2].sum() == 0
    assert moved.images[2].sum() == 0
    exposure = made.pixels.x.numel() * 2  # every pattern stands twice in a centro-symmetric image
    for number in (0, 1):
        scales = model.scales[others == number].sum()
        assert float(moved.coverage[number].sum()) == pytest.approx(float(scales) * exposure)
    assert moved.certainty.mean() < 0.5


def test_one_start_has_nothing_to_agree_with() -> None:
    made = pairs(30, 300, distances=(0.0, 0.8))
    settings = EMSettings(classes=2, rotations=8, iterations=3, starts=1)
    found = classify_by_consensus(made.counts, made.pixels, settings)
    assert math.isnan(found.similarity)
    assert found.agreement.tolist() == [1] * 30
    assert found.classification is found.starts[0]
