from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from scipy import stats

from spi_lightning.config.launch import conf_folder
from spi_lightning.config.select_schema import ReportConfig
from spi_lightning.errors import SpiError
from spi_lightning.records import rows_of
from spi_lightning.report.sweep import write_sweep
from spi_lightning.report.sweep_groups import METRIC, check_metric
from spi_lightning.report.sweep_jobs import read_sweep
from tests.unit.report.test_page import Page

SCRIPT = "<script>alert('x')</script>"
HEADER = "by,quantity,value,low,high\n"


def done(root: Path, folder: str, score: float, config: str, gamma: float | None = 0.6) -> None:
    """What a complete spi-train leaves in its folder."""
    tables = root / folder / "tables"
    tables.mkdir(parents=True)
    (root / folder / "config.yaml").write_text(f"run: {root}\nfold: null\n{config}")
    (root / folder / "report.html").write_text("")
    origin = {"commit": "62131e4", "data": "d", "labels": "l"}
    (root / folder / "provenance.json").write_text(json.dumps(origin))
    rows = "".join(
        f"{by},{name},{score},0.1,0.9\n" for by in ("labels", "truth") for name in ("average_precision", "f1")
    )
    for table in ("cross_validation", "test"):
        (tables / f"{table}.csv").write_text(f"{HEADER}{rows}labels,precision,,,\nlabels,predicted,12,,\n")
    found = "" if gamma is None else f"{gamma},{gamma - 0.1},{gamma + 0.1}"
    columns = "selection,patterns,contrast,contrast_low,contrast_high\n"
    (tables / "selections.csv").write_text(f"{columns}singles,30,{found or ',,'}\n")


def recorded(root: Path, jobs: list[dict[str, Any]], swept: list[str], **more: Any) -> Path:
    times = {"started": "2026-11-23T01:00:00+00:00", "ended": "2026-11-23T02:00:00+00:00"}
    blank = {"error": None, "traceback": None, "seconds": 90.0, "state": "complete"}
    entries = [{**blank, "name": job.get("folder"), **job} for job in jobs]
    root.mkdir(exist_ok=True)
    record = {"command": "spi-train -m", **times, "swept": swept, "jobs": entries, **more}
    (root / "sweep.json").write_text(json.dumps(record))
    return root


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Two losses, three seeds; of one loss, a job failed and one was never started."""
    root = tmp_path / "sweep"
    jobs: list[dict[str, Any]] = []
    for loss, score in (("ce", 0.6), ("focal", 0.8)):
        for seed in (1, 2, 3):
            folder = f"loss-{loss}_seed-{seed}"
            jobs.append({"folder": folder, "overrides": {"loss": loss, "seed": str(seed)}})
            if loss == "ce" or seed == 1:
                done(root, folder, score + seed / 100, f"seed: {seed}\nloss: {{_target_: x.{loss}, weights: null}}\n")
    jobs[4] |= {"state": "failed", "error": f"No such file {SCRIPT}.", "traceback": f"Traceback {SCRIPT}"}
    jobs[5] |= {"state": "missing", "seconds": None}
    return recorded(root, jobs, ["loss", "seed"])


def test_a_sweep_has_a_page_and_two_tables(sweep: Path) -> None:
    assert write_sweep(sweep) == sweep / "report.html"
    page = Page(sweep / "report.html")
    assert page.headings() == ["Groups", "Jobs", "Against loss", "Jobs that are not complete", "The sweep"]
    assert re.findall(r'class="value">(.*?)<', page.html)[:2] == ["4 of 6", "0.810"]
    assert "1 failed, 1 missing" in page.text
    assert "Highest average precision, cross-validation: loss=focal." in page.text
    assert "No winner is claimed: a group of one seed has no interval" in page.text
    assert "ranked without the test set" in page.text
    assert [link["href"] for link in page.all("a") if link["href"].startswith(".")] == [  # type: ignore[union-attr]
        f"./loss-{name}/report.html" for name in ("ce_seed-1", "ce_seed-2", "ce_seed-3", "focal_seed-1")
    ]
    jobs = rows_of(sweep / "sweep.csv")
    assert [row["state"] for row in jobs] == [*["complete"] * 4, "failed", "missing"]
    assert [row["seed"] for row in jobs] == list("123123")
    assert jobs[3]["loss._target_"] == "x.focal"
    assert (jobs[0]["test.truth.f1"], jobs[0]["test.labels.predicted"]) == ("0.61", "12")
    assert "test.labels.precision" not in jobs[0]  # undefined in all of them
    assert float(jobs[0]["selection.singles.contrast_low"]) == pytest.approx(0.5)
    assert (jobs[0]["seconds"], jobs[5]["seconds"], jobs[4]["test.truth.f1"]) == ("90.0", "", "")
    assert jobs[4]["error"] == f"No such file {SCRIPT}."
    groups = {(row["loss"], row["metric"]): row for row in rows_of(sweep / "sweep_groups.csv")}
    row = groups["ce", METRIC]
    expected = stats.t.interval(0.95, 2, loc=0.62, scale=stats.sem([0.61, 0.62, 0.63]))
    assert (float(row["low"]), float(row["high"])) == pytest.approx(expected)
    assert (row["seeds"], row["jobs"], row["complete"]) == ("3", "3", "3")
    alone = groups["focal", METRIC]
    assert (alone["seeds"], alone["jobs"], alone["sd"], alone["low"]) == ("1", "3", "", "")


def test_the_page_needs_nothing_but_itself_and_its_own_script(sweep: Path) -> None:
    page = Page(write_sweep(sweep))
    (script,) = re.findall(r"<script>(.*?)</script>", page.html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = next(each["content"] for each in page.all("meta") if "http-equiv" in each)
    assert policy == f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    assert len(page.all("img")) == 5
    assert all((image["src"] or "").startswith("data:image/png") for image in page.all("img"))
    assert len(list((sweep / "figures").glob("sweep_loss_*.png"))) == 5
    for attributes in page.all("a"):
        target = attributes["href"] or ""
        assert target.startswith("./") or target[1:] in page.ids
    assert not list(sweep.rglob("*.partial-*"))


def test_cells_are_sorted_by_numbers_with_all_digits(sweep: Path) -> None:
    page = Page(write_sweep(sweep))
    orders = [cell["data-order"] for cell in page.all("td") if cell.get("class") == "number"]
    assert "0.61" in orders
    assert "90.0" in orders
    assert "" in orders  # of the jobs that have none
    assert "1.5 min" not in orders


def test_whatever_comes_from_elsewhere_is_escaped(tmp_path: Path) -> None:
    key, root = f"$a{SCRIPT}", tmp_path / SCRIPT.replace("/", "")
    done(root, "javascript:alert(1)", 0.5, f'seed: 1\nb: "{SCRIPT}"\n')
    done(root, '"><b>', 0.6, "seed: 1\nb: 2\n")
    tables = root / '"><b>' / "tables"
    (tables / "test.csv").write_text(f"{HEADER}labels,{SCRIPT},0.5,,\n")
    (tables / "selections.csv").write_text(f"selection,contrast\n{SCRIPT},0.5\n")
    names = ("javascript:alert(1)", '"><b>', "../outside", "/etc")
    jobs = [
        {"name": SCRIPT, "folder": name, "overrides": {key: f"{name}\ud800{SCRIPT}"}, "error": SCRIPT} for name in names
    ]
    jobs[3] |= {"state": "failed", "traceback": SCRIPT}
    page = Page(write_sweep(recorded(root, jobs, [key], command=SCRIPT)))
    assert len(page.all("script")) == 1
    assert not page.all("b")
    links = [attributes["href"] for attributes in page.all("a") if not (attributes["href"] or "").startswith("#")]
    assert links == ["./javascript%3Aalert%281%29/report.html", "./%22%3E%3Cb%3E/report.html"]
    assert page.text.count(SCRIPT) > 8


def test_what_is_missing_or_broken_leaves_a_gap(tmp_path: Path) -> None:
    root = tmp_path / "sweep"
    for name in ("whole", "broken", "other"):
        done(root, name, 0.5, f"seed: 1\na: {name}\n", gamma=None)
    broken = root / "broken"
    (broken / "config.yaml").write_text("a: &x {b: *x}\n")
    (broken / "provenance.json").write_text("[1]")
    (broken / "tables" / "test.csv").write_bytes(b"\xff\xfe\n\xff")
    (broken / "tables" / "cross_validation.csv").write_text("what,ever\n1,2\n")
    (broken / "tables" / "selections.csv").write_text("selection,contrast\n" + "a" * 200_000)
    for path in (root / "other" / "tables").iterdir():  # as of spi-simulate
        path.unlink()
    entries: list[Any] = [{"folder": name, "overrides": {"a": name}} for name in ("whole", "broken", "other")]
    entries += [{"folder": 3, "overrides": [], "state": None, "error": 1, "seconds": "x", "name": None}]
    recorded(root, entries, ["a"])
    page = Page(write_sweep(root))
    assert page.headings() == ["Groups", "Jobs", "Against a", "Jobs that are not complete", "The sweep"]
    rows = rows_of(root / "sweep.csv")
    assert [row["test.labels.f1"] for row in rows] == ["0.5", "", "", ""]
    assert [row["state"] for row in rows] == [*["complete"] * 3, "missing"]


def test_a_sweep_without_any_result_has_a_page(tmp_path: Path) -> None:
    root = recorded(
        tmp_path / "sweep", [{"folder": "a", "overrides": {"a": "1"}, "state": "failed"}], ["a"], ended=None
    )
    page = Page(write_sweep(root))
    assert "nothing is ranked" in page.text
    assert "had not ended when this page was written" in page.text
    assert "without the test set" not in page.text


def test_jobs_are_as_their_folders_say_while_the_sweep_goes_on(tmp_path: Path) -> None:
    root = tmp_path / "sweep"
    names = ("done", "at-work", "again", "other", "never")
    for name in names[:-1]:
        done(root, name, 0.5, "seed: 1\n")
    times = {"started": "2026-11-23T01:10:00+00:00", "ended": "2026-11-23T01:20:00+00:00"}
    later = {name: moment.replace("T01", "T03") for name, moment in times.items()}
    states = {"done": ("complete", times), "at-work": ("running", times), "again": ("complete", later)}
    states["other"] = ("complete", times)  # an earlier job, whose settings were others
    for name, (state, when) in states.items():
        (root / name / "status.json").write_text(json.dumps({"state": state, **when}))
    jobs = [{"folder": name, "overrides": {"a": name}, "state": "missing"} for name in names]
    jobs[2]["state"] = jobs[3]["state"] = "failed"
    recorded(root, jobs, ["a"])
    found = {each.name: each for each in read_sweep(root).jobs}
    assert {name: each.state for name, each in found.items()} == {
        **{"done": "complete", "at-work": "killed", "again": "complete", "other": "failed", "never": "missing"}
    }
    assert found["done"].metrics["seconds"] == 600
    assert METRIC in found["again"].metrics
    assert METRIC not in found["other"].metrics


def test_folds_that_were_jobs_are_no_rows_but_their_time_counts(tmp_path: Path) -> None:
    root = tmp_path / "sweep"
    done(root, "a-1", 0.5, "a: 1\n")
    jobs: list[dict[str, Any]] = [
        {"folder": f"{job}/folds/{fold}", "overrides": {"a": job[-1], "fold": str(fold)}, "seconds": 100.0}
        for job in ("a-1", "a-10")
        for fold in (0, 1)
    ]
    jobs[3] |= {"state": "failed", "error": "It was stopped by a mouse."}
    recorded(root, [*jobs, {"folder": "a-1", "overrides": {"a": "1"}, "seconds": 5.0}], ["a", "fold"])
    page = Page(write_sweep(root))
    (row,) = rows_of(root / "sweep.csv")
    assert (row["name"], row["seconds"], "fold" in row) == ("a-1", "205.0", False)
    assert "a-10/folds/1" in page.text
    assert "It was stopped by a mouse." in page.text
    assert "a-10/folds/0" not in page.text


def test_a_trial_that_a_search_gave_up_is_no_failure(tmp_path: Path) -> None:
    jobs = [{"folder": name, "overrides": {"a": name}, "state": "pruned"} for name in "12"]
    page = Page(write_sweep(recorded(tmp_path / "sweep", jobs, ["a"])))
    assert "2 pruned" in page.text
    assert page.headings() == ["Groups", "Jobs", "The sweep"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("split: {singles: 9}", "another share of single hits"),
        ("", "their figures cannot be compared"),
    ],
)
def test_what_makes_a_comparison_unfair_is_said(sweep: Path, change: str, said: str) -> None:
    assert said not in Page(write_sweep(sweep)).text
    folder = sweep / "loss-ce_seed-2"
    config = folder / "config.yaml"
    config.write_text(config.read_text() + change)
    if not change:
        (folder / "provenance.json").write_text(json.dumps({"data": "another"}))
    assert said in Page(write_sweep(sweep)).text


def test_who_ranks_by_the_test_set_is_told_so(sweep: Path) -> None:
    page = Page(write_sweep(sweep, "test.labels.f1"))
    assert "ranked by the test set" in page.text
    assert "Highest F1 score, test set: loss=focal." in page.text


def test_a_record_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text('{"jobs": 3}')
    with pytest.raises(SpiError, match=r"sweep\.json cannot be read .* Give the folder of a sweep"):
        write_sweep(tmp_path)
    (tmp_path / "sweep.json").write_text("[" * 100_000)
    with pytest.raises(SpiError, match=r"sweep\.json cannot be read"):
        write_sweep(tmp_path)


def test_the_metric_of_the_config_is_the_default_and_is_checked(sweep: Path) -> None:
    assert yaml.safe_load((conf_folder() / "report.yaml").read_text(encoding="utf-8"))["metric"] == METRIC
    assert ReportConfig(str(sweep), "selection.singles + EM.contrast").metric.endswith("contrast")
    with pytest.raises(SpiError, match=r"'test\.labels\.f2' is none to rank by\. Did you mean 'test\.labels\.f1'"):
        check_metric("test.labels.f2")
    with pytest.raises(SpiError, match=r"no config\.yaml and no sweep\.json"):
        ReportConfig(str(sweep / "figures"), METRIC)


def test_neither_torch_nor_matplotlib_is_needed_to_import_it() -> None:
    code = "import sys, spi_lightning.report.sweep; print({'torch', 'matplotlib', 'scipy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_values_that_are_no_numbers_are_no_metrics(sweep: Path) -> None:
    table = sweep / "loss-ce_seed-1" / "tables" / "test.csv"
    table.write_text(f"{HEADER}labels,f1,nan,,\nlabels,recall,inf,,\nlabels,auroc,x,,\nexperts,f1,0.5,,\n")
    found = read_sweep(sweep).jobs[0].metrics
    assert not [name for name in found if name.startswith("test.")]
    assert all(math.isfinite(value) for value in found.values())
