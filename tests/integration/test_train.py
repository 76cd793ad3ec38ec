"""spi-train and spi-evaluate as a user runs them."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from spi_lightning.inference.ensemble_file import load_ensemble
from spi_lightning.inference.scores import read_scores
from spi_lightning.patterns import open_run
from spi_lightning.patterns.prepare import prepare
from tests.integration.conftest import BIN
from tests.integration.running import run_in

TRAIN = ("experiment=tiny", "data.path=patterns.cxi", "trainer.threads=1", "workers=0")
ARTEFACTS = (
    *("config.yaml", "provenance.json", "status.json", "splits.json", "normalisation.json", "scores.h5"),
    *("ensemble/weights.safetensors", "ensemble/ensemble.json"),
    *(f"folds/{k}/{name}" for k in (0, 1) for name in ("best.ckpt", "last.ckpt", "history.csv", "predictions.h5")),
    *(f"tables/{name}" for name in ("cross_validation.csv", "cross_validation.md", "test.csv", "test.md")),
    *(f"figures/{name}.png" for name in ("augmentation", "precision_recall", "score_histogram", "training")),
    *(f"figures/{name}.png" for name in ("highest", "mistakes")),
)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run whose single hits the expert knows."""
    folder = tmp_path_factory.mktemp("simulated")
    command = [str(BIN / "spi-simulate"), "simulate=tiny", "simulate.n_patterns=120", "workers=1", f"run={folder}"]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return folder / "patterns.cxi"


@pytest.fixture
def here(tmp_path: Path, simulated: Path) -> Path:
    """The empty folder that commands run in, with the simulated patterns."""
    (tmp_path / "patterns.cxi").symlink_to(simulated)
    return tmp_path


@pytest.fixture(scope="module")
def trained(simulated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the training ``a`` of default settings; tests must not change it."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "patterns.cxi").symlink_to(simulated)
    done = run_in(folder, "spi-train", *TRAIN, "run=a")
    assert done.returncode == 0, done.stderr
    return folder


def _same_results(first: Path, second: Path) -> bool:
    tables = [f"tables/{name}.csv" for name in ("cross_validation", "test")]
    scores = [read_scores(folder / "scores.h5") for folder in (first, second)]
    weights = [(folder / "ensemble" / "weights.safetensors").read_bytes() for folder in (first, second)]
    return (
        all((first / name).read_text() == (second / name).read_text() for name in tables)
        and np.array_equal(scores[0].models, scores[1].models)
        and weights[0] == weights[1]
    )


def test_all_folds_leave_tables_figures_and_an_ensemble(spi, here: Path) -> None:
    done = spi("spi-train", *TRAIN, "run=a", "paper=MaxF1")
    folder = here / "a"
    assert [name for name in ARTEFACTS if not (folder / name).is_file()] == []
    assert json.loads((folder / "status.json").read_text())["state"] == "complete"
    assert "0.645" in done.stdout
    assert "0.731" in done.stdout

    run = prepare(open_run([here / "patterns.cxi"]))
    splits = json.loads((folder / "splits.json").read_text())
    scores = read_scores(folder / "scores.h5")
    assert scores.ids.tolist() == splits["test"]["ids"]
    places = [run.ids.tolist().index(name) for name in scores.ids]
    ensemble = load_ensemble(folder / "ensemble")
    assert ensemble.first_looks is not None
    assert "first look" in done.stdout + done.stderr
    assert len(ensemble.first_looks.first) >= sum(np.isin(run.ids[run.labels == 1], splits["test"]["ids"], invert=True))
    import torch

    again = ensemble.probabilities(torch.from_numpy(run.read(places).astype(np.int32)))
    np.testing.assert_allclose(scores.models, again, atol=1e-6)

    with open(folder / "tables" / "test.csv", newline="") as file:
        rows = {row["quantity"]: row for row in csv.DictReader(file) if row["by"] == "labels"}
    selected = int((scores.probabilities >= ensemble.threshold).sum())
    assert int(float(rows["predicted"]["value"])) == selected

    again = spi("spi-train", *TRAIN, "run=a", "paper=MaxF1")
    assert "nothing is left to do" in again.stdout
    refused = spi("spi-train", *TRAIN, "run=a", "seed=2", "paper=MaxF1", ok=False)
    assert refused.returncode == 1
    assert "seed is 1 there and 2 here" in refused.stderr


def test_folds_one_by_one_and_as_a_sweep_give_the_same_tables(spi, here: Path, trained: Path) -> None:
    spi("spi-train", *TRAIN, "run=parts", "fold=1")
    early = spi("spi-evaluate", "run=parts", ok=False)
    assert early.returncode == 1
    assert "fold 0 of 2 is not finished" in early.stderr
    spi("spi-train", *TRAIN, "run=parts", "fold=0,1", "-m")
    assert (here / "parts/folds/0/status.json").is_file()
    spi("spi-evaluate", "run=parts")
    assert _same_results(trained / "a", here / "parts")

    other = spi("spi-train", *TRAIN, "run=parts", "fold=0", "optimizer.lr=0.5", ok=False)
    assert other.returncode == 1
    assert "optimizer.lr is 0.01 there and 0.5 here" in other.stderr


def test_a_refused_fold_leaves_its_folder_free(spi, here: Path) -> None:
    spi("spi-train", *TRAIN, "run=a", "fold=0")
    refused = spi("spi-train", *TRAIN, "run=a", "fold=1", "seed=2", ok=False)
    assert "seed is 1 there and 2 here" in refused.stderr
    spi("spi-train", *TRAIN, "run=a", "fold=1")


def test_a_failed_job_of_a_sweep_fails_in_a_sentence_and_the_others_run(spi, here: Path) -> None:
    done = spi("spi-train", *TRAIN, "run=a", "split.singles=2000,null", "-m", ok=False)
    assert done.returncode == 1
    assert "split.singles asks for 2000" in done.stderr
    assert "Traceback" not in done.stderr
    assert (here / "a/split.singles-null/tables/test.csv").is_file()


def test_what_is_lost_of_a_complete_run_is_made_again(spi, here: Path) -> None:
    unreachable = "ensemble.threshold={rule: precision, value: 1.0}"
    first = spi("spi-train", *TRAIN, unreachable, "run=a", ok=False)
    if first.returncode:
        assert "choose anew with spi-evaluate run=" in first.stderr
        spi("spi-train", *TRAIN, "run=a")
    before = (here / "a/folds/1/predictions.h5").read_bytes()
    for name in ("best.ckpt", "last.ckpt", "history.csv", "predictions.h5"):
        (here / "a/folds/1" / name).unlink()
    (here / "a/scores.h5").write_bytes(b"damaged")
    (here / "a/folds/0/history.csv").unlink()
    done = spi("spi-evaluate", "run=a", ok=False)
    assert "fold 1 of 2 is not finished" in done.stderr
    settings = [] if first.returncode else [unreachable]
    again = spi("spi-train", *TRAIN, *settings, "run=a")
    assert "left out of training.png" in again.stdout
    assert (here / "a/folds/1/predictions.h5").read_bytes() == before
    assert read_scores(here / "a/scores.h5").probabilities.size == 48


def test_an_evaluation_with_another_threshold_scores_nothing_anew(spi, here: Path, trained: Path) -> None:
    shutil.copytree(trained / "a", here / "a")
    before = read_scores(here / "a/scores.h5")
    done = spi("spi-evaluate", "run=a", "threshold={rule: recall, value: 1.0}")
    after = read_scores(here / "a/scores.h5")
    assert np.array_equal(before.models, after.models)
    assert after.origin.threshold is not None
    assert after.origin.threshold != before.origin.threshold
    out_of_fold = [read_scores(here / f"a/folds/{k}/predictions.h5") for k in (0, 1)]
    lowest = min(scores.probabilities[scores.labels == 1].min() for scores in out_of_fold)
    assert after.origin.threshold == pytest.approx(float(lowest))
    assert load_ensemble(here / "a/ensemble").threshold == after.origin.threshold
    assert "flatter" in done.stdout
    assert "first look" not in done.stdout + done.stderr
    spi("spi-evaluate", "run=a", "threshold=0.25")
    assert load_ensemble(here / "a/ensemble").threshold == 0.25


def test_a_killed_training_goes_on_to_the_same_result(spi, here: Path) -> None:
    longer = (*TRAIN, "trainer.epochs=30", "trainer.validate_every=2")
    spi("spi-train", *longer, "run=whole")
    command = [str(BIN / "spi-train"), *longer, "run=killed"]
    process = subprocess.Popen(command, cwd=here, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    first = here / "killed/folds/0/last.ckpt"
    deadline = time.monotonic() + 60
    while not first.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (here / "killed/scores.h5").exists()
    spi("spi-train", *longer, "run=killed")
    assert _same_results(here / "whole", here / "killed")


def test_sigterm_ends_in_order(here: Path) -> None:
    command = [str(BIN / "spi-train"), *TRAIN, "trainer.epochs=5000", "run=a"]
    process = subprocess.Popen(command, cwd=here, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (here / "a/folds/0/last.ckpt").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.terminate()
    assert process.wait(timeout=30) == 128 + signal.SIGTERM
    assert json.loads((here / "a/status.json").read_text())["state"] == "stopped"


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("fold=2", "fold is 2; with split.folds=2 they go from 0 to 1"),
        ("sampler.single_shar=0.1", "Did you mean 'single_share'?"),
        ("model.filter=[4]", "Did you mean 'filters'?"),
        ("model._target_=os.system", "not on the list"),
        ("sampler=0.1", "Give GROUP=NAME"),
        ("loss=focl", "Did you mean 'focal'?"),
        ("optimizer.lr=-1", "lr is -1"),
        ("ensemble.mirrors=[none,sideways]", "ensemble.mirrors"),
        ("split.singles=4000", "split.singles asks for 4000 single hits"),
        ("data.path=nothing.cxi", "nothing.cxi"),
        ("truth.path=nothing.csv", "nothing.csv"),
        ("truth.dataset=entry_1/nothing", "entry_1/nothing"),
        ("model.filters=[0]", "model.filters is [0]"),
        ("loss.weights=[0.0,1.0]", "two positive numbers"),
        ("trainer.validate_every=9", "from 1 to trainer.epochs, which is 2"),
        ("device=cuda:99", "device"),
    ],
)
def test_what_is_wrong_is_told_before_training(spi, here: Path, setting: str, said: str) -> None:
    done = spi("spi-train", *TRAIN, "run=a", setting, ok=False)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (here / "a/folds").exists()
    assert not (here / "a/splits.json").exists()


def test_a_mistyped_run_is_not_made(spi, here: Path) -> None:
    done = spi("spi-evaluate", "run=nowhere", ok=False)
    assert done.returncode == 1
    assert "nowhere is not the folder of a training" in done.stderr
    assert not (here / "nowhere").exists()


@pytest.mark.parametrize("experiment", ["maxf1", "moresh", "demo", "amo86615"])
def test_every_experiment_composes_and_runs(spi, here: Path, experiment: str) -> None:
    small = (
        "split.singles=null",
        "split.others=null",
        "split.test_share=0.3",
        "split.folds=2",
        "trainer.threads=1",
        "folds_at_once=1",
    )
    short = ("trainer.epochs=1", "sampler.batches=1", "sampler.batch_size=4", "trainer.validate_every=1")
    spi("spi-train", f"experiment={experiment}", "data.path=patterns.cxi", *small, *short, "run=a")
    assert (here / "a/tables/test.csv").is_file()


@pytest.mark.parametrize(
    "choice",
    [
        ("augmentation=batchgenerators", "loss=focal", "model=small_cnn"),
        ("augmentation=none", "optimizer=adamw", "scheduler=cosine", "normalisation.transform=sqrt"),
        ("loss=weighted_cross_entropy", "split=later", "split.blocks=12"),
    ],
)
def test_groups_swap(spi, here: Path, choice: tuple[str, ...]) -> None:
    spi("spi-train", *TRAIN, *choice, "split.folds=2", "run=a")
    assert (here / "a/tables/test.csv").is_file()
