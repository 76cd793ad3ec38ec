"""What loggers are told of a fold's training, read back from what they leave."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mlflow.tracking import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from spi_lightning.tracking.mlflow import STATUS
from spi_lightning.tracking.run import kept_id
from spi_lightning.tracking.wandb import EXIT_CODES
from tests.unit.tracking.opened import CURVES, Ending, csv_curves, database, loggers, run_folder, train
from tests.unit.tracking.wandb_file import OfflineRun

Curves = dict[str, dict[int, float]]
ROOT = Path(__file__).resolve().parents[3]
KILLED = """
import sys
from pathlib import Path
from spi_lightning.tracking import mlflow
from tests.unit.tracking.opened import Ending, loggers, train
mlflow.OFTEN = 0.0  # so that the database has what will be told again
root = Path(sys.argv[1])
train(root / "run", {**loggers(root), "ending": Ending(10)})
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fold of ``run``, trained undisturbed; twelve iterations, four an epoch."""
    root = tmp_path_factory.mktemp("undisturbed")
    train(run_folder(root), loggers(root))
    return root


@pytest.fixture(scope="module")
def curves(root: Path) -> Curves:
    return csv_curves(root / "run/folds/0/metrics.csv")


def tensorboard_curves(run: Path) -> Curves:
    events = EventAccumulator(str(run / "tensorboard/fold_0"))
    events.Reload()
    told = {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    assert all(len(dict(points)) == len(points) for points in told.values())
    return {tag: dict(points) for tag, points in told.items()}


def mlflow_curves(root: Path, run_id: str) -> Curves:
    client = MlflowClient(database(root))
    told = {name: client.get_metric_history(run_id, name) for name in client.get_run(run_id).data.metrics}
    assert all(len({metric.step for metric in points}) == len(points) for points in told.values())
    return {name: {metric.step: metric.value for metric in points} for name, points in told.items()}


def same(found: Curves, expected: Curves) -> bool:
    """Whether they agree, but for the rounding to float32 that a logger does."""
    return found.keys() == expected.keys() and all(
        found[name].keys() == curve.keys()
        and all(math.isclose(found[name][step], value, rel_tol=1e-6) for step, value in curve.items())
        for name, curve in expected.items()
    )


def id_of(run: Path, logger: str) -> str:
    known = kept_id(run / "folds/0", logger)
    assert known is not None
    return known


def test_metrics_are_told_per_step_and_per_epoch(curves: Curves) -> None:
    assert curves.keys() == CURVES
    for name, curve in curves.items():
        steps = [2, 4, 6, 8, 10, 12] if name in ("train/batch_loss", "train/learning_rate") else [4, 8, 12]
        assert list(curve) == steps, name
    rates = list(curves["train/learning_rate"].values())
    assert rates[0] == pytest.approx(0.02)
    assert rates[0] == rates[1] > rates[2] == rates[3] > rates[4]


def test_every_logger_is_told_the_same(root: Path, curves: Curves) -> None:
    wandb = OfflineRun(root / "run/folds/0")

    assert same(tensorboard_curves(root / "run"), curves)
    assert same(mlflow_curves(root, id_of(root / "run", "mlflow")), curves)
    assert same({name: wandb.curve(name) for name in CURVES}, curves)
    assert wandb.curve("epoch") == {2: 0, 4: 0, 6: 1, 8: 1, 10: 2, 12: 2}


def test_every_logger_knows_settings_and_origin(root: Path) -> None:
    wandb = OfflineRun(root / "run/folds/0")
    run = MlflowClient(database(root)).get_run(id_of(root / "run", "mlflow"))
    events = EventAccumulator(str(root / "run/tensorboard/fold_0"))
    events.Reload()
    texts = {tag: events.Tensors(tag)[0].tensor_proto.string_val[0].decode() for tag in events.Tags()["tensors"]}

    assert (wandb.name, wandb.group, wandb.job_type, wandb.project) == ("run/fold 0", "run", "fold", "project")
    assert wandb.config["trainer"] == {"epochs": 3}
    assert run.data.params == {"seed": "7", "trainer.epochs": "3", "model._target_": "some.Network"}
    assert "epochs: 3" in texts["about/config/text_summary"]
    checkpoint = root / "run/folds/0/last.ckpt"
    facts = {
        "commit": "c0ffee",
        "data fingerprint": "d" * 8,
        "labels fingerprint": "e" * 8,
        "checkpoint": str(checkpoint),
        "group": "run",
    }
    assert checkpoint.exists()
    assert facts.items() <= wandb.config["about"].items()
    assert facts.items() <= run.data.tags.items()
    assert all(f"| {name} | {fact} |" in texts["about/facts/text_summary"] for name, fact in facts.items())


def test_a_fold_is_the_child_of_its_training(root: Path) -> None:
    client = MlflowClient(database(root))
    fold = client.get_run(id_of(root / "run", "mlflow"))
    whole = client.get_run(fold.data.tags["mlflow.parentRunId"])

    assert (fold.info.run_name, whole.info.run_name) == ("run/fold 0", "run")
    assert kept_id(root / "run", "mlflow") == whole.info.run_id
    assert fold.info.status == "FINISHED"


def test_loggers_change_nothing_of_the_training(root: Path, tmp_path: Path) -> None:
    plain = train(run_folder(tmp_path), {})
    told = root / "run/folds/0"

    weights = [torch.load(folder / "last.ckpt", weights_only=True)["state_dict"] for folder in (plain, told)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert (plain / "history.csv").read_bytes() == (told / "history.csv").read_bytes()
    left = {path.name for path in plain.iterdir()}
    assert left == {"best.ckpt", "last.ckpt", "history.csv", "predictions.h5"}
    assert not (tmp_path / "run/tensorboard").exists()


def test_after_a_kill_a_fold_goes_on_in_its_runs(tmp_path: Path, curves: Curves) -> None:
    run = run_folder(tmp_path)
    alone = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}  # not a part of this process
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        cwd=ROOT,
        env=alone | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert killed.returncode == -9, killed.stderr
    before = csv_curves(run / "folds/0/metrics.csv")
    assert max(before["train/batch_loss"]) == 10
    first = {name: id_of(run, name) for name in ("wandb", "mlflow")}
    assert max(mlflow_curves(tmp_path, first["mlflow"])["train/batch_loss"]) == 10
    train(run, loggers(tmp_path))

    assert same(csv_curves(run / "folds/0/metrics.csv"), curves)
    assert same(tensorboard_curves(run), curves)
    assert {name: id_of(run, name) for name in ("wandb", "mlflow")} == first
    assert same(mlflow_curves(tmp_path, first["mlflow"]), curves)
    start, end = OfflineRun(run / "folds/0", 0), OfflineRun(run / "folds/0", 1)
    assert start.id == end.id == first["wandb"]
    told = {name: start.curve(name) | end.curve(name) for name in CURVES}  # of what was before, a second may be lost
    assert same(told, {name: {step: curve[step] for step in told[name]} for name, curve in curves.items()})
    assert {name: list(end.curve(name)) for name in CURVES} == {
        name: [step for step in curve if step > 8] for name, curve in curves.items()
    }


class Broken(nn.Module):
    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("out of photons")


@pytest.mark.parametrize(("how", "state"), [(RuntimeError("out of photons"), "failed"), (SystemExit(143), "stopped")])
def test_however_a_training_ends_its_runs_end_and_the_next_has_its_own(
    tmp_path: Path, how: BaseException, state: str
) -> None:
    told = {name: logger for name, logger in loggers(tmp_path).items() if name in ("wandb", "mlflow")}
    changes = {"loss": Broken} if state == "failed" else {}
    with pytest.raises(type(how)):
        train(run_folder(tmp_path, "first"), {**told, "ending": Ending(2, how)}, **changes)
    train(run_folder(tmp_path, "second"), told, epochs=1)

    client = MlflowClient(database(tmp_path))
    first, second = (client.get_run(id_of(tmp_path / name, "mlflow")) for name in ("first", "second"))
    assert (first.info.status, second.info.status) == (STATUS[state], "FINISHED")
    first_run, second_run = (OfflineRun(tmp_path / name / "folds/0") for name in ("first", "second"))
    assert (first_run.exit_code, second_run.exit_code) == (EXIT_CODES[state], 0)
    assert first_run.id != second_run.id
    assert (first_run.group, second_run.group) == ("first", "second")
    assert list(second_run.curve("train/loss")) == [4]
