"""spi-select and spi-report as a user runs them, on a small training and a small prediction."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

from spi_lightning.config.earlier import DOWNSTREAM
from spi_lightning.inference.scores import Origin, read_scores, score_file
from spi_lightning.patterns import open_run
from spi_lightning.selection.selection_file import read_findings
from tests.integration.conftest import EM, SMALL
from tests.integration.running import run_in


@pytest.fixture
def here(made: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    shutil.copytree(made, tmp_path / "here")
    return tmp_path / "here"


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_training_and_a_prediction_leave_selections(made: Path) -> None:
    for run in ("trained", "predicted"):
        found = read_findings(made / run / "selection.h5")
        scores = read_scores(made / run / "scores.h5")
        chosen = scores.ids[scores.probabilities >= scores.origin.threshold]
        assert set(found.ids[found.selections["singles"].kept]) == set(chosen)
        assert {"singles", "labelled"} <= set(found.selections)
        table = {row["selection"]: row for row in rows(made / run / "tables/selections.csv")}
        assert {name: int(row["patterns"]) for name, row in table.items()} == {
            name: len(selection.kept) for name, selection in found.selections.items()
        }
        assert (made / run / "tables/overlap.md").exists()
        page = (made / run / "report.html").read_text()
        assert "singles + EM" in page
    events = [path.name for path in (made / "trained/tensorboard/whole").iterdir()]
    assert any(name.startswith("events") for name in events)
    assert "MaxF1" in (made / "trained/tables/selections.md").read_text()
    facts = json.loads((made / "predicted/summary.json").read_text())
    assert facts["selections"]["singles"] == facts["selected"]


def test_tensorboard_is_told_scalars_and_figures(made: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(made / "trained/tensorboard/whole"))
    events.Reload()

    assert {"figures/overlap", "figures/examples"} <= set(events.Tags()["images"])
    sizes = [tag for tag in events.Tags()["scalars"] if tag.startswith("whole/diameter/")]
    found = read_findings(made / "trained/selection.h5")
    assert found.sizes is not None
    for tag in sizes:
        kept = found.rows(found.selections[tag.removeprefix("whole/diameter/")].kept)
        assert events.Scalars(tag)[0].value == pytest.approx(float(found.sizes.diameter[kept].nanmedian()), rel=1e-5)


def test_selections_of_ones_own_in_any_order_are_exported(here: Path) -> None:
    done = run_in(
        here,
        "spi-select",
        *("run=predicted", EM, "device=cpu", "export.cxi=true", "export.emc=true"),
        "selections=none",
        "+selections={late: [size, {photons: {at_least: 200}}, {threshold: {rule: fixed, value: 0.0}}], "
        "early: [{threshold: {rule: fixed, value: 0.0}}, {photons: {at_least: 200}}, size], best: [{threshold: "
        "{rule: precision, value: 0.2}}]}",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = read_findings(here / "predicted/selection.h5")
    late, early = (found.selections[name] for name in ("late", "early"))

    assert late.kept.tolist() == early.kept.tolist()
    assert len(late.kept) > 0
    assert [step.name for step in late.steps] == ["size", "photons", "threshold"]
    assert early.steps[0].before == 120
    table = rows(here / "predicted/selection/late.csv")
    assert sorted(int(row["index"]) for row in table) == late.kept.tolist()
    assert all(55 <= float(row["diameter_nm"]) <= 84 for row in table)
    written = open_run(here / "predicted/selection/late.cxi")
    assert written.ids.tolist() == found.ids[late.kept].tolist()
    dragonfly = open_run(here / "predicted/selection/late.emc", detector=here / "predicted/selection/detector.h5")
    assert np.array_equal(dragonfly.read(range(len(late.kept))), written.read(range(len(late.kept))))
    assert json.loads((here / "predicted/selection/status.json").read_text())["state"] == "complete"
    assert "late" in (here / "predicted/report.html").read_text()


def test_it_is_repeatable_and_what_was_made_before_is_replaced(here: Path) -> None:
    own = (
        "selections=none",
        "+selections={singles_x: [threshold, photons], $: [labelled], *b*: [{listed: {path: no}}]}",
    )
    settings = (EM, "callbacks.psd.resamples=20")
    texts = []
    for selections in ((), own, ()):
        done = run_in(here, "spi-select", "run=trained", *settings, *selections)
        assert done.returncode == 0, done.stdout + done.stderr
        texts.append((here / "trained/tables/selections.csv").read_text())
        assert not (here / "trained/selection.new").exists()
        if selections:
            page = (here / "trained/report.html").read_text()
            assert ">singles + EM<" not in page  # but for the config of the training
            assert "Selection &#39;*b*&#39; is left out" in page
            exported = {path.name for path in (here / "trained/selection").glob("*.csv")}
            assert exported == {"singles_x.csv", "selection.csv"}
            assert not list((here / "trained/figures").glob("classes_*"))
    assert texts[0] == texts[2] != texts[1]


def test_what_was_moved_can_be_named(here: Path) -> None:
    (here / "trained/ensemble").rename(here / "moved")
    (here / "simulated/patterns.cxi").rename(here / "patterns.cxi")
    plain = ("spi-select", "run=predicted", "callbacks=none")
    assert "moved" not in run_in(here, *plain).stderr
    done = run_in(here, *plain, "ensemble=moved", "data.path=patterns.cxi")
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_evaluation_of_an_earlier_version_leaves_selections_alone(here: Path) -> None:
    config = here / "trained/config.yaml"
    values = yaml.safe_load(config.read_text())
    config.write_text(yaml.safe_dump({k: v for k, v in values.items() if k not in DOWNSTREAM}, sort_keys=False))
    before = (here / "trained/selection.h5").read_bytes()
    done = run_in(here, "spi-evaluate", "run=trained")

    assert done.returncode == 0, done.stdout + done.stderr
    assert (here / "trained/selection.h5").read_bytes() == before
    same = run_in(here, *SMALL[1])
    assert "is complete: nothing is left to do" in same.stdout, same.stderr


def test_what_is_switched_off_is_told_and_the_rest_is_made(here: Path) -> None:
    all_of_them = ("steps.threshold.rule=fixed", "steps.threshold.value=0.0")
    done = run_in(here, "spi-select", "run=predicted", "callbacks.em=null", "callbacks.size=null", *all_of_them)

    assert done.returncode == 0, done.stdout + done.stderr
    text = " ".join(done.stdout.split())
    assert "Selection 'singles + EM' is left out: step em: EM is off" in text
    assert "Selection 'singles + size' is left out: step size: sizes are not known" in text
    assert {"singles", "labelled"} == set(read_findings(here / "predicted/selection.h5").selections)
    plain = run_in(here, "spi-select", "run=predicted", "callbacks=none", *all_of_them)
    assert plain.returncode == 0, plain.stdout + plain.stderr
    assert {"singles", "labelled"} == set(read_findings(here / "predicted/selection.h5").selections)


def test_the_scores_of_another_run_are_refused_and_the_rest_is_made(here: Path) -> None:
    scores = read_scores(here / "predicted/scores.h5")
    with score_file(here / "foreign.h5", scores.ids, 1, Origin("x", "other data", 0.5, ("none",))) as write:
        write(0, scores.models[:, :1])
    done = run_in(
        here,
        "spi-select",
        *("run=predicted", "callbacks=none"),
        "selections=none",
        "+selections={mine: [threshold], theirs: [{threshold: {scores: foreign.h5}}], "
        "same: [{threshold: {scores: trained}}], gone: [{threshold: {scores: nowhere.h5}}]}",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    text = " ".join(done.stdout.split())
    assert "'theirs' is left out: step threshold: foreign.h5 holds the scores of other patterns" in text
    assert "'gone' is left out: step threshold: nowhere.h5 does not exist" in text
    # The training's scores are of the same patterns: those of its test set.
    found = read_findings(here / "predicted/selection.h5")
    assert set(found.selections) == {"mine", "same"}
    assert "not scored" in {found.selections["same"].reasons[place] for place in found.selections["same"].reason}


def test_what_cannot_be_done_is_told_in_a_sentence(here: Path) -> None:
    """Each of these is a selection of its own: the others are still made."""
    wanted = {
        "nothing": "[{threshold: {rule: fixed, value: 1.0}}, em, size]",
        "no such class": "[{em: {classes: [99]}}]",
        "no such file": "[{listed: {path: nowhere.txt}}]",
        "one": "[{listed: {path: one.txt}}, em]",
        "good": "[threshold]",
    }
    (here / "one.txt").write_text(f"id\n{read_scores(here / 'predicted/scores.h5').ids[0]}\n")
    plans = ", ".join(f"{name}: {steps}" for name, steps in wanted.items())
    done = run_in(here, "spi-select", "run=predicted", EM, "selections=none", f"+selections={{{plans}}}")

    assert done.returncode == 0, done.stdout + done.stderr
    text = " ".join(done.stdout.split())
    assert "Traceback" not in done.stdout + done.stderr
    assert "Selection 'nothing' is empty: step threshold (score at least 1) dropped all 120 patterns." in text
    assert "Selection 'no such class' is left out: step em: there is no class 99: they go from 0 to 2." in text
    assert "Selection 'no such file' is left out: step listed: nowhere.txt does not exist" in text
    assert "Selection 'one' is left out: step em: 1 of 1 patterns have photons in the range of EM; it needs 2" in text
    assert set(read_findings(here / "predicted/selection.h5").selections) == {"nothing", "good"}


def test_a_range_of_em_beyond_the_detector_is_told(here: Path) -> None:
    settings = (EM, "callbacks.em.q_range=[5, 6]", "selections.labelled=null")
    done = run_in(here, "spi-select", "run=predicted", *settings)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "EM is left out" in " ".join(done.stdout.split())


def test_one_pattern_no_labels_no_geometry(here: Path) -> None:
    """The least that can be asked for is still answered, with what can be known."""
    with h5py.File(here / "simulated/patterns.cxi") as source, h5py.File(here / "bare.h5", "w") as file:
        file["frames"] = source["entry_1/image_1/data"][:1]
    done = run_in(
        here, "spi-predict", "ensemble=trained/ensemble", "data.path=bare.h5", "run=bare", "threshold=0.0", EM
    )
    assert done.returncode == 0, done.stdout + done.stderr
    text = " ".join(done.stdout.split())
    assert "The centre of the beam is not known: PSD, sizes and EM are left out." in text
    assert "'labelled' is left out: step labelled: no pattern of this run has a label" in text
    assert len(read_findings(here / "bare/selection.h5").selections["singles"].kept) == 1
    again = run_in(here, "spi-select", "run=bare", EM)
    assert again.returncode == 0, again.stdout + again.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run=nowhere",), "has no scores.h5"),
        (("run=simulated",), "has no scores.h5"),
        (("run=trained", "selections={mine: [threshold]}"), "To add keys, write '+selections=…'"),
        (("run=trained", "selections.singles=[treshold]"), "Did you mean 'threshold'"),
        (("run=trained", "steps.size.smallest=big"), "steps.size.smallest: found 'big'"),
        (("run=trained", "callbacks.psd._target_=os.system"), "not on the list"),
    ],
)
def test_a_mistake_is_told_before_anything_is_made(here: Path, arguments: tuple[str, ...], said: str) -> None:
    before = sorted(here.rglob("*"))
    done = run_in(here, "spi-select", *arguments)

    assert done.returncode == 1
    assert said in done.stderr
    assert sorted(here.rglob("*")) == before


def test_changed_data_are_told(here: Path) -> None:
    with h5py.File(here / "simulated/patterns.cxi", "a") as file:
        file["entry_1/image_1/data"][0, 0, 0] += 1
        file["entry_1/image_1/mask"][5, 5] = 1
    done = run_in(here, "spi-select", "run=predicted")

    assert done.returncode == 1
    assert "Run spi-predict again" in done.stderr


def test_a_report_of_every_kind_of_run(here: Path) -> None:
    for run in ("trained", "predicted", "simulated"):
        (here / run / "report.html").unlink(missing_ok=True)
        done = run_in(here, "spi-report", f"run={run}")
        assert done.returncode == 0, done.stdout + done.stderr
        assert (here / run / "report.html").stat().st_size > 5000
    assert "no config.yaml" in run_in(here, "spi-report", "run=nowhere").stderr
