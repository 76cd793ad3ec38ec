"""Jobs of a sweep in groups, over seeds: intervals, verdicts, and figures of them."""

from __future__ import annotations

import pytest
from scipy import stats

from spi_lightning.report.sweep_figures import against, lines_of, scale_of
from spi_lightning.report.sweep_groups import METRIC, Group, estimate, grouped, verdict
from spi_lightning.report.sweep_jobs import SweptJob, differing, flattened


def job(score: float | None, state: str = "complete", settings: dict[str, str] | None = None, **swept: str) -> SweptJob:
    metrics = {} if score is None else {METRIC: score}
    own = {**swept, **(settings or {})} if state == "complete" else {}
    return SweptJob("_".join(swept.values()), "x", state, swept=swept, settings=own, metrics=metrics)


def groups_of(jobs: list[SweptJob], *swept: str) -> list[Group]:
    return grouped(jobs, differing(jobs, swept), swept)


def test_an_interval_over_seeds_is_students() -> None:
    values = [0.71, 0.74, 0.69, 0.78]
    found = estimate(values)
    low, high = stats.t.interval(0.95, 3, loc=stats.tmean(values), scale=stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-12)
    assert (found.seeds, found.mean, found.sd) == (4, pytest.approx(0.73), pytest.approx(stats.tstd(values)))


def test_one_seed_has_no_interval() -> None:
    found = estimate([0.5])
    assert (found.seeds, found.mean, found.sd, found.low, found.high) == (1, 0.5, None, None, None)


def test_a_config_is_spelt_as_on_a_command_line() -> None:
    config = {"a": {"b": [1, 2], "c": None}, "d": True, "e": "x y", "f": 0.1, "g": {}}
    spelt = {"a.b": "[1,2]", "a.c": "null", "d": "true", "e": "x y", "f": "0.1", "g": "{}"}
    assert flattened(config) == spelt


def test_settings_that_differ_are_told_whether_swept_or_not() -> None:
    more = {"run": "a", "loss.weights": "null", "same": "1", "data.path": "a", "fold": "0"}
    other = {"run": "b", "loss.weights": "[1,9]", "same": "1", "data.path": "b", "fold": "1"}
    jobs = [job(0.1, loss="a", settings=more), job(0.1, loss="b", settings=other), job(None, "failed", loss="c")]
    assert differing(jobs, ["loss"]) == ["loss", "loss.weights"]
    assert differing(jobs, ["data.path"]) == ["data.path", "loss", "loss.weights"]
    assert differing(jobs[:1], ["+loss"]) == ["+loss"]  # not again as "loss"


def test_jobs_that_differ_by_seed_alone_are_a_group() -> None:
    jobs = [job(score, a=a, seed=seed) for a, seed, score in (("1", "1", 0.5), ("2", "1", 0.9), ("1", "2", 0.7))]
    first, second = groups_of(jobs, "a", "seed")
    assert (first.name, [mate.metrics[METRIC] for mate in first.jobs]) == ("a=1", [0.5, 0.7])
    assert first.estimates[METRIC].mean == pytest.approx(0.6)
    assert (second.name, second.estimates[METRIC].seeds) == ("a=2", 1)


def test_jobs_of_the_same_swept_values_with_other_settings_are_no_group() -> None:
    jobs = [job(0.5, a="1", seed="1", settings={"epochs": "4"}), job(0.6, a="1", seed="2", settings={"epochs": "8"})]
    assert [(group.name, group.besides) for group in groups_of(jobs, "a", "seed")] == [
        *(("a=1", "epochs=4"), ("a=1", "epochs=8"))
    ]


def test_a_failed_job_belongs_to_the_group_of_its_swept_values_and_counts_for_nothing() -> None:
    failed = SweptJob("x", "x", "failed", swept={"a": "2", "seed": "2"}, metrics={"seconds": 3.0})
    jobs = [job(0.5, a="1", seed="1"), failed, job(0.6, a="2", seed="1", settings={"b": "1"})]
    first, second = groups_of(jobs, "a", "seed")
    assert (len(first.jobs), len(second.jobs), second.complete) == (1, 2, 1)
    assert "seconds" not in second.estimates


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        ({"a": (0.5, 0.51, 0.52), "b": (0.8, 0.81, 0.82)}, "It is the best"),
        ({"a": (0.5, 0.6, 0.9), "b": (0.6, 0.7, 0.95)}, "No winner is claimed: its 95 % interval over seeds overlaps"),
        ({"a": (0.5, 0.51, 0.52), "b": (0.8,)}, "No winner is claimed: a group of one seed has no interval"),
        ({"a": (0.5, 0.51)}, "There is no second group"),
        ({"a": (), "b": ()}, "nothing is ranked"),
    ],
)
def test_a_winner_is_claimed_only_where_no_interval_overlaps(scores: dict[str, tuple[float, ...]], said: str) -> None:
    jobs = [job(value, a=name, seed=str(n)) for name, values in scores.items() for n, value in enumerate(values)]
    assert said in verdict(groups_of(jobs or [job(None, a="1")], "a", "seed"), METRIC)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["0.01", "0.02", "0.05", "0.5"], "log"),
        (["10", "25", "50", "100"], "linear"),  # just a decade
        (["0", "1", "100"], "linear"),
        (["-1", "100"], "linear"),
        (["null", "0.1"], "category"),
        (["nan", "1"], "category"),
        (["[1,1]", "[2,1]"], "category"),
        ([], "category"),
    ],
)
def test_numbers_stand_on_an_axis_of_numbers(values: list[str], kind: str) -> None:
    scale = scale_of(values)
    assert scale.kind == kind
    assert list(scale.places.values()) == [float(v) if kind != "category" else n for n, v in enumerate(values)]


def test_a_figure_has_a_line_for_each_combination_of_the_others() -> None:
    jobs = [
        job(float(a) + int(seed) / 10, a=a, b=b, seed=seed) for a in ("0.1", "2") for b in "$xy" for seed in ("1", "2")
    ]
    groups = groups_of(jobs, "a", "b", "seed")
    line = lines_of(groups, "a", METRIC)["b=x"]
    assert {key: pytest.approx(values) for key, values in line.items()} == {"0.1": [0.2, 0.3], "2": [2.1, 2.2]}
    figure = against(groups, "a", METRIC)
    assert figure is not None
    axis = figure.axes[0]
    assert axis.get_xscale() == "log"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [r"b=\$", "b=x", "b=y"]
    low, high = axis.get_ylim()
    assert low < estimate([0.2, 0.3]).low < estimate([2.1, 2.2]).high < high  # type: ignore[operator]
    assert against(groups, "a", "test.labels.f1") is None
    assert against(groups[:3], "a", METRIC) is None  # one value alone
