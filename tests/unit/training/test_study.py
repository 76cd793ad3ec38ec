from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from spi_lightning.errors import Pruned, SpiError
from spi_lightning.inference.scores import Origin, score_file
from spi_lightning.training.study import SearchSettings, open_study, report_folds

optuna = pytest.importorskip("optuna")

LABELS = np.tile(np.array([1, 0], np.int64), 12)
FOLDS = tuple(np.arange(24).reshape(3, 8))


@dataclass(frozen=True)
class Division:
    """The part of a division that is asked for."""

    labels = LABELS
    folds = FOLDS


def _fold(folder: Path, fold: int, good: bool) -> None:
    place = folder / str(fold)
    place.mkdir(parents=True)
    ids = np.array([f"pattern {i}" for i in FOLDS[fold]])
    right = LABELS[FOLDS[fold]].astype(np.float32)
    scores = (right if good else 1 - right)[:, None]
    with score_file(place / "predictions.h5", ids, 1, Origin("fold", "data", None, ("none",)), None) as write:
        write(0, scores)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A study with two trials that found everything, and a third one that is at work."""
    path = tmp_path / "study.journal"
    known = open_study(path, 2, seed=1)
    for _ in range(2):
        trial = known.ask()
        for fold in range(3):
            trial.report(1.0, fold)
        known.tell(trial, 1.0)
    known.ask()
    return path


def test_a_trial_that_is_worse_than_the_others_is_given_up(tmp_path: Path, study: Path) -> None:
    _fold(tmp_path, 0, good=False)
    with pytest.raises(Pruned, match="Trial 2 is given up after 1 folds"):
        report_folds(SearchSettings(str(study), 2, 2), tmp_path, Division())


def test_a_good_trial_goes_on_and_folds_are_told_in_their_order_and_once(tmp_path: Path, study: Path) -> None:
    settings = SearchSettings(str(study), 2, 2)
    _fold(tmp_path, 1, good=False)
    report_folds(settings, tmp_path, Division())  # fold 0 is still at work
    assert open_study(study, 2).trials[2].intermediate_values == {}
    _fold(tmp_path, 0, good=True)
    report_folds(SearchSettings(str(study), 2, 3), tmp_path, Division())  # two are too few to compare with
    first = open_study(study, 2).trials[2].intermediate_values
    assert first[0] == 1.0
    assert 0.5 < first[1] < 1.0
    report_folds(SearchSettings(str(study), 2, 3), tmp_path, Division())
    assert open_study(study, 2).trials[2].intermediate_values == first


def test_a_trial_whose_folds_are_all_trained_is_kept(tmp_path: Path, study: Path) -> None:
    for fold in range(3):
        _fold(tmp_path, fold, good=False)
    report_folds(SearchSettings(str(study), 2, 2), tmp_path, Division())
    assert len(open_study(study, 2).trials[2].intermediate_values) == 3


def test_a_search_that_goes_on_draws_other_values(tmp_path: Path) -> None:
    space = {"x": optuna.distributions.FloatDistribution(0, 1)}
    path = tmp_path / "study.journal"
    values = [open_study(path, 5, seed=1).ask(space).params["x"] for _ in range(4)]
    assert len(set(values)) == 4
    again = open_study(tmp_path / "again.journal", 5, seed=1).ask(space).params["x"]
    assert again == values[0]


def test_what_is_no_journal_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "study.journal").write_text("not a journal\n")
    with pytest.raises(SpiError, match=r"cannot be used as the journal of a search.*Remove it"):
        open_study(tmp_path / "study.journal", 5, seed=1)
