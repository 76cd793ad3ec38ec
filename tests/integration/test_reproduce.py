"""spi-reproduce: the same again on the same machine, and everything that must be told where it is not."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import h5py
import pytest
from omegaconf import OmegaConf

from spi_lightning.commands.recorded import read_recorded, started_in
from spi_lightning.commands.reproduce import reproduce
from spi_lightning.commands.train import train
from spi_lightning.config.compose import composed
from spi_lightning.config.launch import conf_folder
from spi_lightning.config.reproduce_schema import ReproduceConfig
from spi_lightning.config.scope import job_scope, sole_job
from spi_lightning.config.train_schema import TrainConfig
from spi_lightning.errors import SpiError
from spi_lightning.inference.scores import read_scores
from spi_lightning.records import rows_of
from tests.integration.conftest import BIN
from tests.integration.running import run_in

DATA = "simulation/patterns.cxi"
SETTINGS = (
    "experiment=tiny",
    f"data.path={DATA}",
    "run=runs/a",
    "trainer.threads=1",
    "trainer.epochs=1",
    "logger=none",
)


@pytest.fixture(scope="module", autouse=True)
def checkout() -> Iterator[None]:
    """A checkout without changes: somebody may be writing in it while the tests run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("spi_lightning.config.scope.uncommitted_changes", lambda: None)
        patch.setattr("spi_lightning.provenance.uncommitted_changes", lambda: None)
        yield


@pytest.fixture(scope="module")
def work(checkout: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a simulation, a training in ``runs/a``, and its reproduction in ``runs/a/reproduction``."""
    root = tmp_path_factory.mktemp("work")
    command = [str(BIN / "spi-simulate"), "simulate=tiny", "workers=1", "run=simulation"]
    subprocess.run(command, cwd=root, check=True, capture_output=True, timeout=120)
    before = Path.cwd()
    os.chdir(root)
    try:
        config = composed("train", conf_folder(), TrainConfig, list(SETTINGS))
        text, folder = OmegaConf.to_yaml(OmegaConf.create(asdict(config))), Path("runs/a")
        with sole_job(folder), job_scope(folder, text) as job:
            train(config, job)
    finally:
        os.chdir(before)
    return root


def _again(run: Path, *overrides: str, into: Path | None = None) -> Path:
    """Reproduce in this process. Returns the folder of the reproduction."""
    into = into or run / "reproduction"
    settings = [f"run={run}", f"into={into}", *overrides]
    config = composed("reproduce", conf_folder(), ReproduceConfig, settings)
    with sole_job(into), job_scope(into, "reproduces: a run") as job:
        reproduce(config, job)
    return into


def _kept(work: Path, place: Path) -> Path:
    """A copy of what is least needed of the run, to be changed; the reproduction of the original serves for it, too."""
    place.mkdir(parents=True)
    for name in ("config.yaml", "provenance.json"):
        shutil.copy(work / "runs/a" / name, place)
    if (work / "runs/a/uncommitted.diff").exists():
        shutil.copy(work / "runs/a/uncommitted.diff", place)
    shutil.copytree(work / "runs/a/tables", place / "tables")
    return place


def _edited(path: Path, edit: Callable[[dict], None]) -> None:
    facts = json.loads(path.read_text())
    edit(facts)
    path.write_text(json.dumps(facts))


def _hashes(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file() and "reproduction" not in path.parts]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def again(work: Path) -> Path:
    """The reproduction, made from elsewhere."""
    before = _hashes(work / "runs/a")
    into = _again(work / "runs/a", "agreement=identical")
    assert _hashes(work / "runs/a") == before
    return into


def test_the_same_machine_gives_identical_values(again: Path, work: Path) -> None:
    rows = rows_of(again / "tables/reproduction.csv")
    assert {row["verdict"] for row in rows} == {"identical"}
    tables = {row["table"] for row in rows}
    assert {"cross_validation", "test", "selections", "overlap", "selection_steps", "scores.h5"} <= tables
    assert {"folds/0/predictions.h5", "folds/1/predictions.h5"} <= tables
    assert "identical" in (again / "tables/reproduction.md").read_text()
    facts = json.loads((again / "training/provenance.json").read_text())
    assert facts["threads of each fold"] == [1, 1]
    assert facts["data"] == json.loads((work / "runs/a/provenance.json").read_text())["data"]


def test_a_killed_reproduction_goes_on(again: Path, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    training = again / "training"
    finished = (training / "folds/0/predictions.h5").stat().st_mtime_ns
    for name in ("scores.h5", "folds/1/predictions.h5", "folds/1/last.ckpt"):
        (training / name).unlink()
    _edited(training / "status.json", lambda status: status.update(state="running"))
    _again(work / "runs/a", "agreement=identical")
    assert (training / "folds/0/predictions.h5").stat().st_mtime_ns == finished
    assert "all" in capsys.readouterr().out
    _again(work / "runs/a", "agreement=identical")
    assert "is complete; it is compared" in capsys.readouterr().out


def test_what_was_kept_is_enough_and_other_settings_do_not_agree(work: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "docs/recipe"
    _again(work / "runs/a", f"recipe={recipe}", into=tmp_path / "into")
    assert {path.name for path in recipe.iterdir()} == {"config.yaml", "provenance.json", "tables"}
    assert not any(str(work) in path.read_text() for path in recipe.glob("*.*"))
    config = OmegaConf.load(recipe / "config.yaml")
    config.optimizer.lr, config.seed, config.callbacks = 0.5, 7, {}
    OmegaConf.save(config, recipe / "config.yaml")
    settings = (f"run={recipe}", f"data.path={DATA}", f"into={tmp_path}/into", "agreement=identical")
    done = run_in(work, "spi-reproduce", *settings)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "error: Does not agree (identical values were expected)" in done.stderr
    assert "scores.h5 is not there: probabilities are not compared." in done.stdout
    assert "Traceback" not in done.stderr
    assert {row["verdict"] for row in rows_of(tmp_path / "into/tables/reproduction.csv")} >= {"identical", "differs"}


def test_a_small_difference_agrees_within_the_tolerance_alone(
    again: Path, work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = _kept(work, tmp_path / "runs/a")
    path = run / "tables/test.csv"
    rows = rows_of(path)
    auroc = next(row for row in rows if row["quantity"] == "auroc" and row["by"] == "labels")
    path.write_text(path.read_text().replace(auroc["value"], repr(float(auroc["value"]) + 0.02), 1))
    with pytest.raises(SpiError, match="Does not agree"):
        _again(run, "agreement=identical", into=again)
    with pytest.raises(SpiError, match="Does not agree"):
        _again(run, "agreement=tolerance", "tolerance.absolute=0.01", "tolerance.relative=0", into=again)
    _again(run, "agreement=tolerance", "tolerance.absolute=0.03", into=again)
    assert "within tolerance" in (again / "tables/reproduction.md").read_text()
    capsys.readouterr()


def test_a_gpu_that_is_not_here_is_told_and_the_tolerance_is_taken(
    again: Path, work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    run = _kept(work, tmp_path / "runs/a")
    _edited(run / "provenance.json", lambda facts: facts.update({"device": "cuda", "computes with": "NVIDIA H200"}))
    path = run / "tables/test.csv"
    path.write_text(path.read_text().replace("labels,patterns,", "labels,patterns,1", 1))
    with pytest.raises(SpiError, match="within the tolerance"):
        _again(run, into=again)
    said = " ".join(capsys.readouterr().out.split())
    assert "The device of then, cuda, is not here: cpu computes" in said
    assert "NVIDIA H200" in said
    with pytest.raises(SpiError, match="'cuda' is not here"):
        _again(run, "device=cuda", into=again)


def test_other_versions_are_told_and_refused_where_strict(
    again: Path, work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = _kept(work, tmp_path / "runs/a")

    def older(facts: dict) -> None:
        facts["versions"]["torch"] = "1.0"
        del facts["versions"]["numpy"]

    _edited(run / "provenance.json", older)
    _again(run, into=again)
    said = capsys.readouterr().out
    assert "Not as it was" in said
    assert "1.0" in said
    assert "not recorded" in said
    with pytest.raises(SpiError, match=r"strict=true, and not as it was, or not recorded: torch, numpy"):
        _again(run, "strict=true", into=tmp_path / "into")
    assert not (tmp_path / "into/training").exists()
    (run / "provenance.json").unlink()
    monkeypatch.chdir(work)  # nothing says any more where the run was started
    _again(run, into=again)
    assert "provenance.json is not there" in capsys.readouterr().out


def test_other_data_and_labels_are_refused_before_the_training(work: Path, tmp_path: Path) -> None:
    other = tmp_path / "patterns.cxi"
    shutil.copy(work / DATA, other)
    with h5py.File(other, "r+") as file:
        file["entry_1/image_1/data"][0] += 1
    with pytest.raises(SpiError, match=r"is not what .* was trained on: the fingerprint of its data was"):
        _again(work / "runs/a", f"data.path={other}", into=tmp_path / "into")
    with h5py.File(work / DATA) as file:
        ids = [name.decode() for name in file["entry_1/image_1/ids"][:5]]
    (tmp_path / "labels.txt").write_text("\n".join(ids))
    with pytest.raises(SpiError, match="the fingerprint of its labels was"):
        _again(work / "runs/a", f"data.labels={tmp_path / 'labels.txt'}", into=tmp_path / "into")
    assert not (tmp_path / "into/training").exists()


def test_data_that_have_moved_are_asked_for(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = _kept(work, tmp_path / "kept")
    _edited(run / "provenance.json", lambda facts: facts.pop("folder"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SpiError, match=r"data.path: simulation/patterns.cxi, .* Give its place with data.path=FILE"):
        _again(run, into=tmp_path / "into")
    with pytest.raises(
        SpiError, match=r"data.prepare.mask_file: .*mask.npy, .* Give its place with data.mask_file=FILE"
    ):
        _again(run, f"data.path={work / DATA}", "data.mask_file=mask.npy", into=tmp_path / "into")


def test_a_reproduction_by_another_program_is_not_gone_on_with(again: Path, work: Path) -> None:
    path = again / "training/provenance.json"
    before = path.read_text()
    _edited(path, lambda facts: facts["versions"].update(torch="1.0"))
    try:
        with pytest.raises(SpiError, match=r"holds a reproduction by another program \(torch\)"):
            _again(work / "runs/a")
    finally:
        path.write_text(before)


def test_folders_that_are_no_whole_run_are_refused(work: Path, tmp_path: Path) -> None:
    def refused(run: Path, *overrides: str, match: str, into: Path | None = None) -> None:
        with pytest.raises(SpiError, match=match):
            _again(run, *overrides, into=into or tmp_path / "into")

    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", match="it has no config.yaml. Give one")
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep/sweep.json").write_text("{}")
    refused(tmp_path / "sweep", match="is a sweep. Give the folder of one of its jobs")
    refused(work / "runs/a", match="is the run itself", into=work / "runs/a")
    refused(work / "runs/a", match="holds something else than a reproduction", into=work)
    refused(work / "runs/a", match="cannot be made in", into=work / DATA / "x")

    run = _kept(work, tmp_path / "a")
    refused(work / "runs/a", match="holds something else than a reproduction", into=run)
    (run / "status.json").write_text('{"state": "failed"}')
    refused(run, match="is not complete")
    (run / "status.json").write_text("[]")
    refused(run, match="holds no names and values")
    (run / "status.json").unlink()
    (run / "provenance.json").write_text("{")
    refused(run, match=r"provenance.json cannot be read")
    (run / "provenance.json").write_text("{}")
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("fold: null", "fold: 1"))
    refused(run, match="is a fold of a run")
    (run / "config.yaml").write_text(text.replace("epochs: 1", "epochs: many"))
    refused(run, match="is not the config of a training")
    (run / "config.yaml").write_text(text)
    shutil.rmtree(run / "tables")
    refused(run, match="has no tables")
    refused(work / "runs/a", "tolerance.count=-1", match="tolerance.count is -1")


def test_a_recipe_has_no_paths_of_a_machine(work: Path, tmp_path: Path) -> None:
    run = _kept(work, tmp_path / "a")
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace(DATA, f"{work}/{DATA}"))
    with pytest.raises(SpiError, match="names files by their place on this machine"):
        _again(run, f"recipe={tmp_path}/recipe", into=tmp_path / "into")
    _again(run, f"recipe={tmp_path}/recipe", f"data.path={DATA}", into=tmp_path / "into")
    assert read_recorded(tmp_path / "recipe").config["data"]["path"] == DATA
    (run / "config.yaml").write_text(text)
    with pytest.raises(SpiError, match="holds something else than a recipe"):
        _again(run, f"recipe={work}", into=tmp_path / "into")


def test_what_was_evaluated_and_selected_later_counts(work: Path, tmp_path: Path) -> None:
    run = _kept(work, tmp_path / "a")
    ended = {"state": "complete", "ended": "2026-01-01T10:00:00+00:00"}
    (run / "status.json").write_text(json.dumps(ended))
    for name, hour, config in (
        ("evaluation", 11, {"threshold": 0.25, "truth": {"dataset": "truth"}}),
        ("selection", 12, {"selections": {}, "steps": {}, "callbacks": {}}),
    ):
        (run / name).mkdir()
        (run / name / "status.json").write_text(json.dumps({**ended, "ended": f"2026-01-01T{hour}:00:00+00:00"}))
        (run / name / "config.yaml").write_text(json.dumps(config))
    recorded = read_recorded(run)
    assert recorded.config["ensemble"]["threshold"] == {"rule": "fixed", "value": 0.25}
    assert recorded.config["truth"] == {"path": None, "dataset": "truth", "kind": "auto"}
    assert recorded.config["callbacks"] == recorded.config["selections"] == {}
    (run / "status.json").write_text(json.dumps({**ended, "ended": "2026-01-01T13:00:00+00:00"}))
    unchanged = read_recorded(run).config
    assert unchanged["ensemble"]["threshold"]["value"] == 0.5
    assert unchanged["callbacks"]


def test_folds_of_jobs_of_their_own_have_their_own_threads(work: Path, tmp_path: Path) -> None:
    run = _kept(work, tmp_path / "a")
    assert read_recorded(run).threads_of_folds() == (1, 1)
    (run / "folds/1").mkdir(parents=True)
    (run / "folds/1/provenance.json").write_text('{"threads of this fold": 4, "device": "cpu"}')
    assert read_recorded(run).threads_of_folds() == (1, 4)
    _edited(run / "provenance.json", lambda facts: facts.pop("threads of each fold"))
    assert read_recorded(run).threads_of_folds() is None


def test_relative_paths_count_from_where_the_run_was_started(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert started_in(read_recorded(work / "runs/a")) == work.resolve()
    job = _kept(work, work / "runs/a/job")  # of a sweep, whose folder the config names
    assert started_in(read_recorded(job)) == work.resolve()
    shutil.rmtree(job)
    kept = _kept(work, tmp_path / "kept")
    assert started_in(read_recorded(kept)) == work  # as recorded
    _edited(kept / "provenance.json", lambda facts: facts.pop("folder"))
    assert started_in(read_recorded(kept)) == tmp_path


def test_scores_that_are_there_are_compared(again: Path, work: Path) -> None:
    then, now = (read_scores(folder / "scores.h5") for folder in (work / "runs/a", again / "training"))
    assert (then.models == now.models).all()
