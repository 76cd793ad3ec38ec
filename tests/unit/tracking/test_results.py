"""What a training's folder says of it to loggers: names, groups, settings, numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from spi_lightning.provenance import write_json
from spi_lightning.tracking.results import about, results
from spi_lightning.tracking.run import Place, keep_id, kept_id, plain_name
from tests.unit.tracking.opened import run_folder

TEST = "by,quantity,value,low,high\nlabels,f1,0.5,0.4,0.6\nlabels,precision,,,\nlabels,patterns,24,,\ntruth,f1,0.25,,\n"
FOLDS = "by,quantity,value\nlabels,auroc,0.75\ntruth,auroc,0.5\n"
SELECTIONS = "selection,steps,patterns,contrast,diameter\nsingles + EM,9 → 3,3,0.5,nan\nlabelled,7,7,,63.5\n"


def sweep(root: Path, name: str) -> Path:
    """The folder of a job of a sweep over seeds and experiments."""
    run = run_folder(root / "overnight", name)
    overrides = {"experiment": "maxf1", "seed": "7", "fold": "0"}
    jobs = [{"folder": name, "overrides": overrides}, {"folder": "other", "overrides": {"seed": "8"}}]
    write_json(root / "overnight/sweep.json", {"jobs": jobs})
    return run


def test_jobs_of_a_sweep_are_a_group(tmp_path: Path) -> None:
    job, alone = Place(sweep(tmp_path, "seed-7")), Place(run_folder(tmp_path, "alone"))
    fold = Place(job.run, 0)

    assert (job.group, job.name, job.folder) == ("overnight", "seed-7", job.run)
    assert (fold.group, fold.name, fold.folder) == ("overnight", "seed-7/fold 0", job.run / "folds/0")
    assert (alone.group, alone.name) == ("alone", "alone")


def test_a_sweep_over_folds_is_one_training(tmp_path: Path) -> None:
    run = run_folder(tmp_path)
    write_json(run / "sweep.json", {"jobs": [{"folder": "folds/0", "overrides": {"fold": "0"}}]})
    assert (Place(run).group, Place(run, 0).name) == ("run", "run/fold 0")
    assert results(Place(run)).settings == {"model._target_": "some.Network", "trainer.epochs": 3, "seed": 7}


def test_the_settings_that_tell_a_job_from_others_are_the_swept_ones(tmp_path: Path) -> None:
    assert results(Place(sweep(tmp_path, "seed-7"))).settings == {"experiment": "maxf1", "seed": 7}


def test_the_facts_of_a_fold_are_its_own_jobs_where_it_had_one(tmp_path: Path) -> None:
    run = run_folder(tmp_path)
    assert about(Place(run, 0)).facts["commit"] == "c0ffee"
    write_json(run / "folds/0/provenance.json", {"commit": "beef", "data": "d", "machine": {"cores": 2}})
    facts = about(Place(run, 0)).facts

    assert (facts["commit"], facts["data fingerprint"]) == ("beef", "d")
    assert "machine" not in facts
    assert about(Place(run)).facts["checkpoint"] == str(run / "ensemble")


def test_final_numbers_are_those_of_the_tables(tmp_path: Path) -> None:
    run = run_folder(tmp_path)
    assert results(Place(run)).metrics == {}
    (run / "tables").mkdir()
    for name, text in (("test", TEST), ("cross_validation", FOLDS), ("selections", SELECTIONS)):
        (run / f"tables/{name}.csv").write_text(text, encoding="utf-8")
    found = results(Place(run))

    assert found.metrics == {
        "test/f1": 0.5,
        "test by truth/f1": 0.25,
        "cross-validation/auroc": 0.75,
        "patterns/singles + EM": 3.0,
        "contrast/singles + EM": 0.5,
        "patterns/labelled": 7.0,
        "diameter/labelled": 63.5,
    }
    assert set(found.tables) == {"test", "cross_validation", "selections"}


def test_ids_are_kept_beside_each_other_and_a_damaged_file_is_begun_anew(tmp_path: Path) -> None:
    assert kept_id(tmp_path, "wandb") is None
    keep_id(tmp_path, "wandb", "abc")
    keep_id(tmp_path, "mlflow", "def")
    assert (kept_id(tmp_path, "wandb"), kept_id(tmp_path, "mlflow")) == ("abc", "def")
    (tmp_path / "tracking.json").write_text('{"wandb": "a', encoding="utf-8")
    assert kept_id(tmp_path, "wandb") is None
    keep_id(tmp_path, "wandb", "new")
    assert kept_id(tmp_path, "wandb") == "new"


@pytest.mark.parametrize(
    ("name", "plain"),
    [("contrast/singles + EM", "contrast/singles_EM"), ("test by truth/f1", "test_by_truth/f1"), ("a-b.c", "a-b.c")],
)
def test_names_for_those_that_take_letters_alone(name: str, plain: str) -> None:
    assert plain_name(name) == plain
