from __future__ import annotations

import csv
import dataclasses
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from markdown_it import MarkdownIt

from spi_lightning.errors import SpiError
from spi_lightning.report.overlap import shared, write_overlap
from spi_lightning.report.paper_selections import PAPER_INTERSECTIONS, PAPER_SELECTIONS, PAPER_THREES, beside
from spi_lightning.report.selections import scalars, selection_rows, write_selections
from tests.unit.report.selected import NO_FRINGES, findings

PAPER = {"singles": "MaxF1", "singles + size": "maxf1 + SIZE selection", "labelled": "D_M"}


def read(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_papers_table_4_is_as_printed() -> None:
    assert {name: (row.patterns, row.contrast) for name, row in PAPER_SELECTIONS.items()} == {
        "MaxF1": (1257, 0.63),
        "MaxF1 + EM": (893, 0.64),
        "MaxF1 + size": (1098, 0.64),
        "MaxF1 + EM + size": (829, 0.64),
        "moreSH": (2086, 0.59),
        "moreSH + EM": (1204, 0.64),
        "moreSH + size": (1617, 0.62),
        "moreSH + EM + size": (1090, 0.65),
        "D_M": (1393, 0.59),
        "D_EM": (1085, 0.71),
    }


def test_the_papers_table_5_agrees_with_its_table_4() -> None:
    pairs = {names: figures for names, figures in PAPER_INTERSECTIONS.items() if len(names) == 2}
    assert len(pairs) == math.comb(6, 2)
    for names, (patterns, per_cent) in PAPER_INTERSECTIONS.items():
        sizes = [PAPER_SELECTIONS[name].patterns for name in names]
        union = sum(sizes) - patterns  # inclusion and exclusion, for two
        if len(names) == 3:
            union = sum(sizes) - sum(pairs[frozenset(pair)][0] for pair in itertools.combinations(names, 2)) + patterns
        assert per_cent == pytest.approx(100 * patterns / union, abs=0.51)  # 829 of 1098 are 75.501 %, printed as 75
    assert {PAPER_INTERSECTIONS[three] for three in PAPER_THREES} == {(575, 29), (469, 29)}


def test_selections_are_matched_with_the_papers_by_name() -> None:
    assert beside(["maxf1 + em", "moreSH + size selection", "d_em", "mine"]) == {
        "maxf1 + em": "MaxF1 + EM",
        "moreSH + size selection": "moreSH + size",
        "d_em": "D_EM",
    }
    assert beside(["singles", "mine"], PAPER) == {"singles": "MaxF1"}
    with pytest.raises(SpiError, match=r"no selection 'MaxF2'.*Did you mean 'MaxF1'"):
        beside(["singles"], {"singles": "MaxF2"})


def test_table_4_counts_what_is_known_of_each_selection() -> None:
    truth = np.zeros(40, np.int8)
    truth[[4, 5, 30]] = 1
    rows = {row.selection: row for row in selection_rows(findings(), truth, PAPER)}
    singles = rows["singles"]
    assert (singles.patterns, singles.steps, singles.contrast, singles.reason) == (14, "40 → 14", 0.61, "")
    assert (singles.contrast_low, singles.contrast_high) == pytest.approx((0.51, 0.71))
    # 4 to 17 without 12, which has no size, are 54 to 67 nm without 62.
    assert singles.diameter == np.median([size for size in range(54, 68) if size != 62])
    # Patterns 0 to 3 have no score: of 6 labelled single hits, all are held, in 14 patterns.
    assert (singles.precision, singles.recall) == pytest.approx((6 / 14, 1))
    assert (singles.true_precision, singles.true_recall) == pytest.approx((2 / 14, 2 / 3))
    assert (singles.paper, singles.paper_patterns, singles.paper_contrast) == ("MaxF1", 1257, 0.63)
    assert rows["singles + size"].steps == "40 → 14 → 7"
    assert rows["singles + size"].paper == "MaxF1 + size"
    assert math.isnan(rows["labelled"].contrast or 0)
    assert rows["labelled"].reason == NO_FRINGES
    assert (rows["labelled"].precision, rows["labelled"].recall) == (1, 1)
    nothing = rows["nothing"]
    assert (nothing.patterns, nothing.contrast, nothing.contrast_low, nothing.recall) == (0, None, None, 0)
    assert math.isnan(nothing.precision or 0)
    assert math.isnan(nothing.diameter or 0)


def test_table_4_does_without_labels_scores_and_sizes() -> None:
    bare = dataclasses.replace(findings(), labels=None, sizes=None)
    row = selection_rows(bare)[0]
    assert (row.precision, row.true_recall, row.diameter, row.paper) == (None, None, None, None)
    unscored = dataclasses.replace(findings(), scores=np.full(40, np.nan, np.float32))
    row = selection_rows(unscored)[0]
    assert (row.precision, row.recall) == pytest.approx((6 / 14, 0.6))


def test_table_4_is_written_with_steps_and_reasons(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = findings()
    rows = selection_rows(found, paper=PAPER)
    write_selections(tmp_path, rows, found)
    singles, _, labelled, nothing = read(tmp_path / "selections.csv")
    assert float(singles["precision"]) == 6 / 14  # all digits
    assert (labelled["contrast"], labelled["contrast_low"], labelled["reason"]) == ("", "", NO_FRINGES)
    assert (nothing["patterns"], nothing["contrast"], nothing["true_recall"]) == ("0", "", "")
    text = (tmp_path / "selections.md").read_text(encoding="utf-8")
    assert "| singles | 40 → 14 | 14 | 0.610 | 0.510–0.710 | 0.410 | 60.0 | 0.429 | 1.000 | 1257 | 0.63 |" in text
    assert "| labelled | 40 → 10 | 10 | not found |  |  | 54.5 |" in text
    assert f"Selection labelled: no contrast. {NO_FRINGES}" in text
    assert "Beside singles: MaxF1, singles + size: MaxF1 + size, labelled: D_M." in text
    assert "truth |" not in text  # nothing is known of it
    steps = read(tmp_path / "selection_steps.csv")
    assert steps[2] == {
        "selection": "singles + size",
        "name": "size",
        "what": "size from 55 to 61 nm",
        "before": "14",
        "after": "7",
    }
    reasons = read(tmp_path / "selection_reasons.csv")
    assert [int(row["patterns"]) for row in reasons] == [26, 33, 30, 40]
    assert all(len(line) <= 80 for line in capsys.readouterr().out.splitlines())


def test_numbers_for_loggers_are_finite_or_none() -> None:
    values = scalars(selection_rows(findings()))
    assert values["selection singles contrast"] == 0.61
    assert values["selection labelled contrast"] is None
    assert "selection nothing contrast" not in values  # not measured
    assert "selection singles true_recall" not in values


def test_overlap_counts_pairs_and_threes(tmp_path: Path) -> None:
    found = findings()
    joint = [("singles", "singles + size", "labelled")]
    rows = {row.selections: row for row in shared(found.selections, 40, joint, PAPER)}
    assert len(rows) == 10 + 1
    sets = {name: set(chosen.kept.tolist()) for name, chosen in found.selections.items()}
    for names, row in rows.items():
        both = set.intersection(*(sets[name] for name in names))
        union = set.union(*(sets[name] for name in names))
        assert row.patterns == len(both)
        assert row.iou == pytest.approx(len(both) / len(union) if union else math.nan, nan_ok=True)
    pair = rows["singles + size", "labelled"]
    assert (pair.paper_patterns, pair.paper_iou) == (875, 0.54)  # MaxF1 + size and D_M
    assert rows["singles", "labelled"].paper_patterns is None
    write_overlap(tmp_path, list(rows.values()))
    line = next(row for row in read(tmp_path / "overlap.csv") if row["selections"] == "singles + size; labelled")
    assert (line["patterns"], float(line["iou"]), line["paper_iou"]) == ("5", 5 / 12, "0.54")
    text = (tmp_path / "overlap.md").read_text(encoding="utf-8")
    assert "| 1 | singles (14) | 14 · 100 % | 7 · 50 % | 6 · 33 % | 0 · 0 % |" in text
    assert "| singles + size ∩ labelled | 5 | 42 % | 875 | 54 % |" in text
    assert "| singles ∩ singles + size ∩ labelled | 5 | 28 % |  |  |" in text


def test_the_papers_threes_are_intersected_where_all_of_them_are_there() -> None:
    chosen = findings().selections
    chosen["rest"] = chosen["labelled"]
    paper = {"singles": "MaxF1 + size", "singles + size": "moreSH + size", "rest": "D_EM"}
    three = shared(chosen, 40, paper=paper)[-1]
    assert three.selections == ("singles", "singles + size", "rest")
    assert (three.patterns, three.paper_patterns, three.paper_iou) == (5, 575, 0.29)


def test_an_intersection_of_what_is_not_there_is_refused() -> None:
    with pytest.raises(SpiError, match=r"no selection 'single' to intersect. Did you mean 'singles'"):
        shared(findings().selections, 40, [("single", "labelled", "nothing")])
    with pytest.raises(SpiError, match=r"joint is .* two or more"):
        shared(findings().selections, 40, [("singles",)])


def test_a_name_with_a_bar_does_not_break_a_table(tmp_path: Path) -> None:
    found = findings()
    found.selections = {"a|b \\ <i>": found.selections["singles"]}
    write_selections(tmp_path, selection_rows(found), found)
    text = (tmp_path / "selections.md").read_text(encoding="utf-8")
    html = MarkdownIt("zero").enable(["table", "escape"]).render(text)
    assert "<td>a|b \\ &lt;i&gt;</td>" in html
