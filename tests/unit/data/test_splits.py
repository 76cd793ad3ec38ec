from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedKFold

from spi_lightning.data.splits import Splits, SplitSettings, check, make_splits
from spi_lightning.errors import SpiError
from tests.unit.data.labelled import labelled_run, shuffled_labels

ALL = SplitSettings(singles=None, others=None)


def counts(splits: Splits, indices: np.ndarray) -> tuple[int, int]:
    labels = splits.labels[indices]
    assert (labels >= 0).all()
    return int(labels.sum()), int((labels == 0).sum())


def group_sets(splits: Splits, groups: np.ndarray) -> list[set[int]]:
    return [set(groups[part].tolist()) for part in [*splits.folds, splits.test]]


def test_the_default_draws_the_papers_numbers_and_tests_on_all_the_rest() -> None:
    labels = shuffled_labels(140, 21_000, unknown=50)
    splits = make_splits(labelled_run(labels), SplitSettings())
    assert counts(splits, splits.training) == (100, 19_900)
    assert counts(splits, splits.test) == (40, 1100)
    assert [counts(splits, fold) for fold in splits.folds] == [(20, 3980)] * 5
    assert splits.unlabelled == 50
    assert splits.set_aside == 0


def test_folds_are_those_of_scikit_learn() -> None:
    labels = shuffled_labels(33, 120)
    splits = make_splits(labelled_run(labels), replace(ALL, seed=7))
    training = splits.training
    expected = StratifiedKFold(5, shuffle=True, random_state=7).split(training, labels[training])
    for fold, (train, validation) in enumerate(expected):
        np.testing.assert_array_equal(splits.validation_of(fold), training[validation])
        np.testing.assert_array_equal(splits.train_of(fold), training[train])


@settings(max_examples=60, deadline=None)
@given(
    singles=st.integers(10, 40),
    others=st.integers(10, 200),
    unknown=st.integers(0, 20),
    folds=st.integers(2, 5),
    share=st.floats(0.0, 0.5),
    seed=st.integers(0, 2**32 - 1),
)
def test_random_splits_are_disjoint_complete_and_stratified(
    singles: int, others: int, unknown: int, folds: int, share: float, seed: int
) -> None:
    labels = shuffled_labels(singles, others, unknown, seed=seed)
    splits = make_splits(
        labelled_run(labels), replace(ALL, folds=folds, seed=seed, test_share=share, others=others - 5)
    )
    parts = np.concatenate([*splits.folds, splits.test])
    np.testing.assert_array_equal(np.sort(parts), np.flatnonzero(labels >= 0))
    assert counts(splits, splits.training) == (round((1 - share) * singles), others - 5)
    for column in np.array([counts(splits, fold) for fold in splits.folds]).T:
        assert column.max() - column.min() <= 1
    for fold in range(folds):
        both = np.concatenate([splits.train_of(fold), splits.validation_of(fold)])
        np.testing.assert_array_equal(np.sort(both), splits.training)


@settings(max_examples=60, deadline=None)
@given(
    test=st.sampled_from(["random", "later"]),
    validation=st.sampled_from(["random", "consecutive"]),
    asked=st.sampled_from([None, 30]),
    seed=st.integers(0, 1000),
)
def test_groups_stay_together(
    test: Literal["random", "later"], validation: Literal["random", "consecutive"], asked: int | None, seed: int
) -> None:
    labels = shuffled_labels(120, 600, 30, seed=seed)
    scheme = SplitSettings(asked, asked, 0.4, 3, seed, "block", 30, test, validation)
    splits = make_splits(labelled_run(labels), scheme)
    groups = np.arange(750) // 25
    sets = group_sets(splits, groups)
    for i, one in enumerate(sets):
        assert not any(one & other for other in sets[:i])
    found = counts(splits, splits.training)
    assert found == (30, 30) if asked else found >= (72, 360)
    if test == "later":
        assert groups[splits.training].max() < groups[splits.test].min()
    if validation == "consecutive" and test == "later":
        for earlier, later in zip(splits.folds, splits.folds[1:], strict=False):
            assert earlier.max() < later.min()
        singles = [counts(splits, fold)[0] for fold in splits.folds]
        assert max(singles) - min(singles) <= 3 * 25  # a block more or less, at each end
    assert splits.set_aside == 720 - len(splits.training) - len(splits.test)


def test_a_later_test_set_begins_where_enough_patterns_have_been_seen() -> None:
    labels = [0, 1, 0, 0, 1, 0, 1, 0, 0, 1, 0, 1]
    settings = SplitSettings(singles=2, others=2, folds=2, test="later")
    splits = make_splits(labelled_run(labels), settings)
    assert splits.test.tolist() == [5, 6, 7, 8, 9, 10, 11]
    assert {1, 4} < set(splits.training.tolist()) < {0, 1, 2, 3, 4}
    assert splits.set_aside == 1


def test_consecutive_folds_have_equally_many_single_hits() -> None:
    labels = [1, 0, 0, 0, 0, 1, 1, 0, 1, 0, 0, 1, 0, 1, 0]
    splits = make_splits(
        labelled_run(labels), replace(ALL, test_share=0.0, folds=3, validation="consecutive", test="later")
    )
    assert [fold.tolist() for fold in splits.folds] == [[0, 1, 2, 3, 4, 5], [6, 7, 8], [9, 10, 11, 12, 13, 14]]


def test_the_same_settings_give_the_same_splits_and_another_seed_others() -> None:
    run = labelled_run(shuffled_labels(30, 300))
    for group in ("none", "block"):
        scheme = replace(ALL, group=group, blocks=33)
        one, again, other = (make_splits(run, replace(scheme, seed=seed)) for seed in (3, 3, 4))
        assert one.test.tolist() == again.test.tolist()
        assert [fold.tolist() for fold in one.folds] == [fold.tolist() for fold in again.folds]
        assert one.test.tolist() != other.test.tolist()


@pytest.mark.parametrize(
    ("labels", "scheme", "text"),
    [
        (shuffled_labels(72, 500), SplitSettings(others=400), "data has 72 with that label.*split.singles=NUMBER"),
        (shuffled_labels(72, 500, 9), SplitSettings(singles=70), "has 500 .*9 of them without.*split.others=null"),
        (shuffled_labels(3, 50), replace(ALL, test_share=0.0), "split.folds is 5.*3 single hits"),
        (shuffled_labels(50, 3), replace(ALL, test_share=0.0), "split.folds is 5.*3 patterns that are no single"),
        (shuffled_labels(40, 40), replace(ALL, group="block", blocks=4), "has 4 groups|No pattern is left"),
        (shuffled_labels(40, 40), replace(ALL, group="block", blocks=81), "split.blocks is 81.*80 patterns"),
        ([1] * 6 + [0] * 6, replace(ALL, test_share=0.0, folds=2, validation="consecutive"), "fold 0 of 2 has no patt"),
        (shuffled_labels(6, 6), SplitSettings(singles=6, others=6), "No pattern is left for the test set"),
        ([0, 1] * 30 + [0] * 9 + [1], SplitSettings(31, 20, group="block", blocks=7), "No pattern is left"),
    ],
)
def test_what_cannot_be_divided_is_refused(labels: np.ndarray, scheme: SplitSettings, text: str) -> None:
    with pytest.raises(SpiError, match=text):
        make_splits(labelled_run(labels), scheme)


def test_data_without_labels_are_refused() -> None:
    run = labelled_run(shuffled_labels(20, 20))
    run.labels = None
    with pytest.raises(SpiError, match=r"data.prepare.labels.path"):
        make_splits(run, ALL)


def test_a_training_set_of_everything_needs_to_be_asked_for() -> None:
    splits = make_splits(labelled_run(shuffled_labels(10, 30)), replace(ALL, test_share=0.0))
    assert len(splits.test) == 0
    assert counts(splits, splits.training) == (10, 30)


@pytest.mark.parametrize(
    "wrong",
    [
        {"singles": 0},
        {"others": 0},
        {"test_share": 1.0},
        {"test_share": -0.1},
        {"folds": 1},
        {"seed": -1},
        {"seed": 2**32},
        {"blocks": 0},
    ],
)
def test_settings_out_of_range_are_refused_by_name(wrong: dict[str, int]) -> None:
    with pytest.raises(SpiError, match=f"split.{next(iter(wrong))} is"):
        SplitSettings(**wrong)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda s: replace(s, test=s.folds[1]), "more than once.*fold 1 and the test set"),
        (lambda s: replace(s, folds=[s.folds[0], s.folds[0]]), "in fold 0 and fold 1"),
        (lambda s: replace(s, folds=[s.folds[0], s.folds[1][s.labels[s.folds[1]] == 0]]), "fold 1 of 2 has no single"),
        (lambda s: replace(s, folds=[s.folds[0][s.labels[s.folds[0]] == 1], s.folds[1]]), "fold 0 of 2 has no pattern"),
        (lambda s: replace(s, test=np.flatnonzero(s.labels < 0)), "4 patterns have no label"),
    ],
)
def test_check_finds_what_would_make_scores_meaningless(change, text: str) -> None:
    splits = make_splits(labelled_run(shuffled_labels(10, 20, 4)), replace(ALL, folds=2))
    check(splits, "these")
    with pytest.raises(SpiError, match=text):
        check(change(splits), "these")
