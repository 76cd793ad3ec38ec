from __future__ import annotations

import dataclasses
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
from matplotlib.image import imread
from matplotlib.text import Text
from sklearn import metrics

from spi_lightning.report.calibration import calibrate, calibration, wilson
from spi_lightning.report.curves import logit
from spi_lightning.report.figures import save
from spi_lightning.report.selection_figures import example_figure, overlap_figure, panels, psd_figure, size_figure
from tests.unit.report.selected import findings


def legend(axis) -> list[str]:  # type: ignore[no-untyped-def]
    return [text.get_text() for text in axis.get_legend().get_texts()]


def test_selections_refined_from_one_share_a_panel_with_the_references() -> None:
    paper = [f"{name}{more}" for name in ("MaxF1", "moreSH") for more in ("", " + EM", " + size", " + EM + size")]
    assert panels([*paper, "D_M", "D_EM"]) == [[*paper[:4], "D_M", "D_EM"], [*paper[4:], "D_M", "D_EM"]]
    assert panels([*paper, "a", "b", "c"]) == [paper[:4], paper[4:], ["a", "b", "c"]]
    assert panels(["a", "b"]) == [["a", "b"]]
    many = [f"x + {index}" for index in range(8)]
    assert panels(many) == [many[:6], many[6:]]


def test_psds_are_drawn_against_q_with_the_extrema_of_their_contrast() -> None:
    found = findings()
    figure = psd_figure(found)
    (axis,) = figure.axes
    assert axis.get_yscale() == "log"
    assert legend(axis) == ["singles: 14, γ 0.61", "singles + size: 7, γ 0.70", "labelled: 10, γ not found"]
    curve, minima, maxima = axis.lines[:3]
    psd = found.selections["singles"].psd
    assert psd is not None
    assert np.array_equal(curve.get_xdata(), found.q)
    assert np.array_equal(curve.get_ydata(), psd)
    assert np.allclose(minima.get_xdata(), [0.06, 0.12, 0.18])
    assert np.array_equal(maxima.get_ydata(), psd[[9, 15, 21]])
    assert axis.get_xlabel() == "q (nm⁻¹)"
    assert len(axis.lines) == 3 + 3 + 1  # no marks where no fringes were found
    in_pixels = psd_figure(dataclasses.replace(found, q=None)).axes[0]
    assert in_pixels.get_xlabel() == "distance from the beam (px)"
    assert np.allclose(in_pixels.lines[1].get_xdata(), [6, 12, 18])


def test_sizes_are_counted_and_the_wanted_range_is_marked() -> None:
    found = findings()
    axis = size_figure(found).axes[0]
    assert legend(axis) == [
        "55 to 61 nm",
        "singles: 14 (1 without a size)",
        "singles + size: 7",
        "labelled: 10",
        "nothing: 0",
    ]
    outline = [patch for patch in axis.patches if patch.get_label() == "singles: 14 (1 without a size)"]
    corners = outline[0].get_path().vertices  # type: ignore[attr-defined]
    steps = np.unique(corners[:, 0])
    middles = (steps[1:] + steps[:-1]) / 2
    heights = [corners[:-1, 1][(corners[:-1, 0] <= x) & (corners[1:, 0] > x)].max(initial=0) for x in middles]
    assert sum(heights) == 13
    without = size_figure(dataclasses.replace(found, range=None, selections={"nothing": found.selections["nothing"]}))
    assert legend(without.axes[0]) == ["nothing: 0"]


def test_panels_can_be_chosen() -> None:
    figure = psd_figure(findings(), [["singles"], ["labelled", "nothing"], ["nothing"]])
    assert [len(axis.lines) for axis in figure.axes] == [3, 1]


def test_overlap_is_a_matrix_of_counts_and_shares(tmp_path: Path) -> None:
    figure = overlap_figure(findings())
    axis = figure.axes[0]
    texts = [text.get_text() for text in axis.texts]
    assert texts[:4] == ["14\n100%", "7\n50%", "6\n33%", "0\n0%"]
    assert texts[-1] == "0\n–"
    assert [label.get_text() for label in axis.get_yticklabels()][2] == "labelled (10)"
    save(figure, tmp_path / "overlap.png")
    assert imread(tmp_path / "overlap.png").shape[2] == 4


@pytest.mark.parametrize(("q_per_pixel", "bar"), [(0.005, "0.2 nm⁻¹"), (0.003, "0.1 nm⁻¹"), (None, None)])
def test_examples_show_both_kinds_and_a_scale_bar(q_per_pixel: float | None, bar: str | None) -> None:
    frames = np.random.default_rng(0).poisson(1.0, (5, 32, 80)).astype(np.uint16)
    mask = np.ones((32, 80), dtype=bool)
    mask[:, :4] = False
    single = np.array([True, False, True, True, False])
    figure = example_figure(frames, single, [f"id {index}" for index in range(5)], mask, q_per_pixel)
    drawn = [axis for axis in figure.axes if axis.images]
    assert [axis.get_title() for axis in drawn] == ["id 0", "id 2", "id 3", "id 1", "id 4"]
    assert figure.axes[0].get_ylabel() == "called single hits"
    texts = [text.get_text() for text in drawn[0].findobj(Text) if "nm" in text.get_text()]
    assert texts == ([bar] if bar else [])
    if bar and q_per_pixel:
        (line,) = drawn[0].lines
        assert np.ptp(line.get_xdata()) == pytest.approx(float(bar.split()[0]) / q_per_pixel)


def test_examples_of_one_kind_alone_and_of_none() -> None:
    frames = np.zeros((2, 8, 8))
    mask = np.ones((8, 8), dtype=bool)
    alone = example_figure(frames, np.array([False, False]), ["a", "b"], mask, 0.01)
    assert sum(bool(axis.images) for axis in alone.axes) == 2
    none = example_figure(frames[:0], np.zeros(0, dtype=bool), [], mask, 0.01)
    assert not any(axis.images for axis in none.axes)


def test_calibration_is_brier_and_the_weighted_distance_of_the_bins() -> None:
    rng = np.random.default_rng(0)
    scores = 1 / (1 + np.exp(-rng.normal(-3, 2, 4000)))
    labels = (rng.random(4000) < scores).astype(np.int8)
    found = calibrate(scores, labels)
    assert found.brier == pytest.approx(metrics.brier_score_loss(labels, scores))
    places = np.floor(logit(scores))
    errors = [
        abs(labels[places == bin].mean() - scores[places == bin].mean()) * (places == bin).mean()
        for bin in np.unique(places)
    ]
    assert found.error == pytest.approx(sum(errors))
    assert found.patterns.sum() == 4000
    inside = (found.low <= found.score) & (found.score <= found.high)
    assert inside[found.patterns > 50].mean() > 0.8  # labels were drawn from these very scores
    too_high = calibrate(1 - (1 - scores) ** 4, labels)
    assert too_high.error > 3 * found.error


def test_calibration_leaves_out_what_is_not_known() -> None:
    scores = np.array([0.1, 0.9, np.nan, 0.5, 0.0, 1.0])
    labels = np.array([0, 1, 1, -1, 0, 1])
    found = calibrate(scores, labels)
    assert found.patterns.tolist() == [1, 1, 1, 1]
    assert found.brier == pytest.approx((0.1**2 + 0.1**2) / 4)
    empty = calibrate(scores[:0], labels[:0])
    assert len(empty.patterns) == 0
    assert np.isnan([empty.brier, empty.error]).all()


def test_wilsons_interval_solves_its_equation() -> None:
    share, n = np.array([0.0, 0.02, 0.5, 1.0]), np.array([7, 300, 10, 3])
    z = NormalDist().inv_cdf(0.975)
    for end in wilson(share, n):
        assert np.allclose((share - end) ** 2, z**2 * end * (1 - end) / n)


def test_calibration_is_drawn_on_logit_axes() -> None:
    scores = np.array([0.02] * 98 + [0.7] * 4)
    labels = np.array([1, 0] + [0] * 96 + [1] * 4)
    figure = calibration(scores, labels, "Calibration, test set")
    upper, lower = figure.axes
    assert upper.get_title().startswith("Calibration, test set: Brier score 0.01")
    shares = next(line for line in upper.lines if str(line.get_label()).startswith("share"))
    assert np.allclose(shares.get_xdata(), logit(np.array([0.02])))
    assert np.allclose(shares.get_ydata(), logit(np.array([1 / 98])))
    assert [bar.get_height() for bar in lower.patches] == [98, 4]
