"""Loggers as their configs make them, and a training that they are told of."""

from __future__ import annotations

import csv
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from spi_lightning.provenance import write_json, write_text
from spi_lightning.tracking.csv import CSV
from spi_lightning.tracking.mlflow import MLflow
from spi_lightning.tracking.run import About, Logger, Place, Results, State, TrackedRun
from spi_lightning.tracking.tensorboard import TensorBoard
from spi_lightning.tracking.wandb import WeightsAndBiases
from tests.unit.training.easy import TRAINER, trained

CURVES = {
    *("train/loss", "train/batch_loss", "train/learning_rate", "val/loss", "val/f1", "val/precision", "val/recall"),
    *("val/average_precision", "val/auroc"),
}
CONFIG = "seed: 7\ntrainer:\n  epochs: 3\nmodel:\n  _target_: some.Network\n"
FACTS = {"commit": "c0ffee", "data": "d" * 8, "labels": "e" * 8, "device": "cpu"}


def database(root: Path) -> str:
    """One for all tests of a session: it takes seconds to make."""
    return f"sqlite:///{root.parent}/mlflow.db"


def loggers(root: Path) -> dict[str, Logger]:
    """All of them; every test has a root of its own."""
    return {
        "csv": CSV(),
        "tensorboard": TensorBoard(10),
        "wandb": WeightsAndBiases("project", None, "offline", 60.0, False),
        "mlflow": MLflow(database(root), root.name),
    }


def run_folder(root: Path, name: str = "run") -> Path:
    """The folder of a training that is about to start."""
    (root / name / "folds" / "0").mkdir(parents=True)
    write_text(root / name / "config.yaml", CONFIG)
    write_json(root / name / "provenance.json", FACTS)
    return root / name


def train(run: Path, told: dict[str, Logger], epochs: int = 3, **changes: Any) -> Path:
    """Train fold 0 of a run, four iterations an epoch."""
    trainer = replace(TRAINER, epochs=epochs, log_every=2)
    return trained(run / "folds" / "0", loggers=told, trainer=trainer, **changes)


def csv_curves(path: Path) -> dict[str, dict[int, float]]:
    """Step → value, by name; every step must stand there once."""
    curves: dict[str, dict[int, float]] = {}
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            curve = curves.setdefault(row["name"], {})
            assert int(row["step"]) not in curve
            curve[int(row["step"])] = float(row["value"])
    return curves


@dataclass(frozen=True)
class Ending:
    """A logger that ends the training when it is told of an iteration: stands for a user, a scheduler, a crash.

    Attributes:
        step: the iteration.
        how: what is raised; None: SIGKILL.
    """

    step: int
    how: BaseException | None = None

    package: ClassVar[str | None] = None

    def opened(self, place: Place, about: About) -> TrackedRun:
        return _Ending(self)


class _Ending:
    def __init__(self, ending: Ending):
        self.ending = ending

    def go_on_from(self, step: int) -> None:
        pass

    def log(self, values: Mapping[str, float], step: int, epoch: int) -> None:
        if step >= self.ending.step:
            if self.ending.how is not None:
                raise self.ending.how
            os.kill(os.getpid(), signal.SIGKILL)

    def flush(self) -> None:
        pass

    def publish(self, results: Results) -> None:
        pass

    def close(self, state: State) -> None:
        pass
