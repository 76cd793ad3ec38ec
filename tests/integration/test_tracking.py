"""A small sweep with all loggers, read back from what each of them leaves."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from spi_lightning.commands.parts import read_train_config
from tests.integration.conftest import BIN
from tests.unit.tracking.wandb_file import OfflineRun

JOBS = ("seed-1", "seed-2")
RUNS = ("fold_0", "fold_1", "whole")


def command(name: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    alone = {key: value for key, value in os.environ.items() if not key.startswith("WANDB")}
    done = subprocess.run(
        [str(BIN / name), *arguments],
        cwd=cwd,
        env=alone | {"OMP_NUM_THREADS": "1", "NETRC": str(cwd / "none"), "HOME": str(cwd)},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a sweep over two seeds, of two folds each, in one process."""
    folder = tmp_path_factory.mktemp("tracked")
    command("spi-simulate", "simulate=tiny", "simulate.n_patterns=120", "workers=1", "run=simulated", cwd=folder)
    settings = ("trainer.threads=1", "trainer.log_every=2", "ensemble.threshold.value=0.1")
    data = ("experiment=tiny", "data.path=simulated/patterns.cxi", "run=overnight")
    every = "logger=[csv,tensorboard,wandb,mlflow]"
    done = command("spi-train", "-m", *data, "seed=1,2", *settings, every, cwd=folder)
    for text in (done.stdout, done.stderr):
        assert not any(word in text for word in ("wandb", "mlflow", "alembic", "logger."))
    return folder


def table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def figures(made: Path, job: str) -> set[str]:
    return {path.stem for path in (made / "overnight" / job / "figures").glob("*.png")}


def tables(made: Path, job: str) -> set[str]:
    return {path.stem for path in (made / "overnight" / job / "tables").glob("*.csv")}


def final(made: Path, job: str) -> dict[str, float]:
    """What metrics.csv of the training says, which is checked against the tables here."""
    folder = made / "overnight" / job
    found = {row["name"]: float(row["value"]) for row in table(folder / "metrics.csv")}
    by_labels = {row["quantity"]: row["value"] for row in table(folder / "tables/test.csv") if row["by"] == "labels"}
    for name in ("f1", "recall", "average_precision", "auroc"):
        assert found[f"test/{name}"] == float(by_labels[name])
    for row in table(folder / "tables/selections.csv"):
        assert found[f"patterns/{row['selection']}"] == int(row["patterns"])
    return found


def tensorboard(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0, "images": 0})
    events.Reload()
    return events


def mlflow_runs(made: Path) -> dict[str, Run]:
    client = MlflowClient(f"sqlite:///{made}/outputs/mlflow.db")
    experiment = client.get_experiment_by_name("spi-lightning")
    found = client.search_runs([experiment.experiment_id])
    assert len({run.info.run_name for run in found}) == len(found)
    return {run.info.run_name: run for run in found}


def test_jobs_of_a_sweep_are_runs_of_their_own_in_a_group(made: Path) -> None:
    names = {f"{job}{fold}" for job in JOBS for fold in ("", "/fold 0", "/fold 1")}
    wandb = [OfflineRun(made / "overnight" / job / fold) for job in JOBS for fold in (".", "folds/0", "folds/1")]
    runs = mlflow_runs(made)
    events = {str(path.parent.relative_to(made / "overnight")) for path in (made / "overnight").rglob("events.*")}

    assert len({run.id for run in wandb}) == 6
    assert {run.name for run in wandb} == set(runs) == names
    assert {run.group for run in wandb} == {run.data.tags["group"] for run in runs.values()} == {"overnight"}
    assert {run.exit_code for run in wandb} == {0}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    for name, run in runs.items():
        whole, _, fold = name.partition("/")
        assert run.data.tags.get("mlflow.parentRunId") == (runs[whole].info.run_id if fold else None)
    assert events == {f"{job}/tensorboard/{run}" for job in JOBS for run in RUNS}


@pytest.mark.parametrize("job", JOBS)
def test_tensorboard_shows_curves_results_and_what_tells_jobs_apart(made: Path, job: str) -> None:
    folder = made / "overnight" / job
    whole, fold = tensorboard(folder / "tensorboard/whole"), tensorboard(folder / "tensorboard/fold_1")
    metrics, texts = final(made, job), set(whole.Tags()["tensors"])

    told = {tag.removeprefix("whole/"): whole.Scalars(tag)[0].value for tag in whole.Tags()["scalars"]}
    assert told == pytest.approx(metrics)
    assert set(whole.Tags()["images"]) == {f"figures/{name}" for name in figures(made, job)}
    assert {f"tables/{name}/text_summary" for name in tables(made, job)} <= texts
    assert len(fold.Scalars("train/batch_loss")) == 4
    history = [float(row["val/loss"]) for row in table(folder / "folds/1/history.csv")]
    assert [event.value for event in fold.Scalars("val/loss")] == pytest.approx(history)
    start = whole.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    assert b"seed" in start
    assert b"epochs" not in start


@pytest.mark.parametrize("job", JOBS)
def test_wandb_and_mlflow_have_results_settings_and_origin(made: Path, job: str) -> None:
    folder = made / "overnight" / job
    wandb, run = OfflineRun(folder), mlflow_runs(made)[job]
    metrics, facts = final(made, job), json.loads((folder / "provenance.json").read_text())
    client = MlflowClient(f"sqlite:///{made}/outputs/mlflow.db")
    shown = {key.partition(".")[0] for key in wandb.history[-1]}
    files = {
        kind: {Path(file.path).stem for file in client.list_artifacts(run.info.run_id, kind)}
        for kind in ("figures", "tables")
    }

    assert {name: wandb.summary[name] for name in metrics} == pytest.approx(metrics)
    assert {f"figures/{name}" for name in figures(made, job)} <= shown
    assert {f"tables/{name}" for name in tables(made, job)} <= shown
    assert sorted(run.data.metrics.values()) == pytest.approx(sorted(metrics.values()))
    assert run.data.metrics["patterns/singles_EM"] == metrics["patterns/singles + EM"]
    assert files == {"figures": figures(made, job), "tables": tables(made, job)}
    assert (wandb.config["seed"], run.data.params["seed"]) == (int(job[-1]), job[-1])
    assert run.data.params["trainer.log_every"] == "2"
    for about in (wandb.config["about"], run.data.tags):
        assert about["data fingerprint"] == facts["data"]
        assert about["labels fingerprint"] == facts["labels"]
        assert about.get("commit") == facts["commit"]
        assert (Path(about["checkpoint"]) / "weights.safetensors").exists()


def test_an_evaluation_shows_its_results_in_the_same_runs(made: Path, tmp_path: Path) -> None:
    here = tmp_path / "here"
    shutil.copytree(made, here)
    job = here / "overnight/seed-1"
    before, known = final(here, "seed-1"), OfflineRun(job)
    run = mlflow_runs(here)["seed-1"]
    command("spi-evaluate", "run=overnight/seed-1", "threshold=0.5", cwd=here)
    after = final(here, "seed-1")

    assert before["patterns/singles"] > after["patterns/singles"]
    again = tensorboard(job / "tensorboard/whole")
    assert [event.value for event in again.Scalars("whole/patterns/singles")] == [after["patterns/singles"]]
    assert OfflineRun(job).id == known.id
    assert OfflineRun(job).summary["patterns/singles"] == after["patterns/singles"]
    runs = mlflow_runs(here)
    assert len(runs) == 6
    assert runs["seed-1"].info.run_id == run.info.run_id
    assert runs["seed-1"].data.metrics["patterns/singles"] == after["patterns/singles"]
    assert len(tensorboard(job / "tensorboard/fold_0").Scalars("val/loss")) == 2


def test_the_config_of_an_earlier_version_can_be_read(made: Path, tmp_path: Path) -> None:
    text = (made / "overnight/seed-1/config.yaml").read_text()
    assert "  log_every: 2\n" in text
    (tmp_path / "config.yaml").write_text(text.replace("  log_every: 2\n", "  tensorboard: false\n"))
    assert read_train_config(tmp_path).trainer.log_every == 50
