from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics

from spi_lightning.report import tables

Folds = list[tuple[np.ndarray, np.ndarray]]


def scored(seed: int, n: int = 200) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = (np.arange(n) < 20).astype(np.int8)
    return (1 / (1 + np.exp(1 - rng.normal(3.0 * labels, 1.5)))).astype(np.float32), labels


def by_quantity(table: tables.Table, by: str = tables.BY_LABELS) -> dict[str, tables.Row]:
    return {row.quantity: row for row in table.rows if row.by == by}


def test_a_cross_validation_is_that_of_scikit_learn_fold_by_fold() -> None:
    folds = [scored(seed) for seed in range(5)]
    rows = by_quantity(tables.cross_validation(folds, 0.4))
    judges = {"f1": metrics.f1_score, "precision": metrics.precision_score, "recall": metrics.recall_score}
    for name, judge in judges.items():
        values = [judge(labels, scores >= 0.4) for scores, labels in folds]
        assert rows[name].mean == pytest.approx(np.mean(values))
        assert rows[name].sd == pytest.approx(np.std(values, ddof=1))
    areas = [metrics.roc_auc_score(labels, scores) for scores, labels in folds]
    assert rows["auroc"].mean == pytest.approx(np.mean(areas))
    together = [np.concatenate(parts) for parts in zip(*folds, strict=True)]
    assert rows["predicted"].value == (together[0] >= 0.4).sum()
    assert rows["f1"].value == pytest.approx(metrics.f1_score(together[1], together[0] >= 0.4))
    assert (rows["singles"].value, rows["patterns"].value) == (100, 1000)


def test_the_papers_figures_stand_beside_ours() -> None:
    rows = by_quantity(tables.cross_validation([scored(0), scored(1)], 0.5, "MaxF1"))
    assert (rows["f1"].paper, rows["f1"].paper_sd, rows["predicted"].paper) == (0.645, 0.074, 120)
    rows = by_quantity(tables.test_set(*scored(0), 0.5, "moreSH", None))
    assert (rows["recall"].paper, rows["recall"].paper_sd, rows["singles"].paper) == (0.841, None, 1293)
    assert rows["auroc"].paper is None


@pytest.mark.parametrize("paper", ["MaxF1", "moreSH"])
def test_the_papers_figures_agree_with_each_other(paper: tables.Paper) -> None:
    """Precision and recall give the F1 score and, with the number of single hits, how many were predicted."""
    (f1, _), (precision, _), (recall, _), (predicted, _) = tables.PAPER_TEST[paper].values()
    assert 2 * precision * recall / (precision + recall) == pytest.approx(f1, abs=1e-3)
    singles = tables.PAPER_TEST_SIZES["singles"][0]
    assert singles * recall / precision == pytest.approx(predicted, rel=2e-3)
    (_, _), (precision, _), (recall, _), (predicted, _) = tables.PAPER_CROSS_VALIDATION[paper].values()
    singles = tables.PAPER_TRAINING_SIZES["singles"][0]
    assert singles * recall / predicted == pytest.approx(precision, abs=5e-3)


def test_the_truth_judges_the_scores_and_is_judged_by_the_labels() -> None:
    scores, labels = scored(3)
    truth = labels.copy()
    truth[:5], truth[30:33] = 0, 1
    table = tables.test_set(scores, labels, 0.5, None, truth)
    by_truth = by_quantity(table, tables.BY_TRUTH)
    assert by_truth["f1"].value == pytest.approx(metrics.f1_score(truth, scores >= 0.5))
    assert by_truth["singles"].value == 18
    own = by_quantity(table, tables.TRUTH_BY_LABELS)
    assert own["precision"].value == pytest.approx(15 / 18)
    assert own["recall"].value == pytest.approx(15 / 20)
    assert own["predicted"].value == 18
    folds: Folds = [(scores[::2], labels[::2]), (scores[1::2], labels[1::2])]
    crossed = tables.cross_validation(folds, 0.5, None, [truth[::2], truth[1::2]])
    assert by_quantity(crossed, tables.BY_TRUTH)["f1"].value == pytest.approx(by_truth["f1"].value)
    assert by_quantity(crossed, tables.TRUTH_BY_LABELS)["recall"].value == own["recall"].value


def test_unknown_labels_and_truths_are_left_out() -> None:
    scores, labels = scored(3)
    unknown = labels.copy()
    unknown[[2, 50]] = -1
    known = unknown >= 0
    part = by_quantity(tables.test_set(scores[known], labels[known], 0.5, None, None))
    table = tables.test_set(scores, unknown, 0.5, None, unknown)
    assert by_quantity(table) == part
    assert by_quantity(table, tables.TRUTH_BY_LABELS)["f1"].value == 1.0


def test_a_fold_without_predictions_has_no_precision_and_the_table_says_so() -> None:
    folds = [scored(0), scored(1), (np.full(50, 0.1, np.float32), (np.arange(50) < 5).astype(np.int8))]
    table = tables.cross_validation(folds, 0.5)
    rows = by_quantity(table)
    values = [metrics.precision_score(labels, scores >= 0.5) for scores, labels in folds[:2]]
    assert (rows["precision"].mean, rows["precision"].folds) == (pytest.approx(np.mean(values)), 2)
    assert rows["recall"].folds == 3
    assert any("0/0 in some of the folds" in note and "Precision" in note for note in table.notes)


def test_files_hold_what_the_table_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    none = np.full(40, 0.2, np.float32), (np.arange(40) < 4).astype(np.int8)
    table = tables.test_set(*none, 0.5, "MaxF1", None)
    tables.write(table, tmp_path)
    with open(tmp_path / "test.csv", encoding="utf-8", newline="") as file:
        lines = {line["quantity"]: line for line in csv.DictReader(file)}
    assert lines["precision"]["value"] == ""  # 0/0
    assert float(lines["recall"]["value"]) == 0.0
    assert lines["predicted"]["value"] == "0"
    assert float(lines["auroc"]["value"]) == 0.5
    assert lines["f1"]["paper"] == "0.731"
    text = (tmp_path / "test.md").read_text(encoding="utf-8")
    widths = {line.count("|") for line in text.splitlines() if line.startswith("|")}
    assert widths == {6}
    assert "|  | Precision | undefined |" in text
    assert "0.731" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["test.csv", "test.md"]
    tables.show(table)
    printed = capsys.readouterr().out
    assert "Predicted single hits" in printed
    assert "0.731" in printed


def test_a_threshold_that_was_chosen_on_the_same_scores_is_told() -> None:
    told = [tables.cross_validation([scored(0)], 0.3, chosen_here=chosen).notes for chosen in (True, False)]
    assert any("flatter" in note for note in told[0])
    assert not any("flatter" in note for note in told[1])


def test_one_fold_has_no_deviation() -> None:
    row = by_quantity(tables.cross_validation([scored(0)], 0.5))["f1"]
    assert row.sd is None
    assert row.mean is not None
    assert not math.isnan(row.mean)
