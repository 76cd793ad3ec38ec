"""Several devices that share a fold: two processes of the CPU, which talk by gloo."""

from __future__ import annotations

import multiprocessing
import os
import signal
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.environments import LightningEnvironment, SLURMEnvironment

from spi_lightning.augmentation.pipeline import NoAugmentation
from spi_lightning.callbacks.stage import Stage, run_stage
from spi_lightning.config.compose import composed
from spi_lightning.config.earlier import earlier_state
from spi_lightning.config.launch import conf_folder
from spi_lightning.config.train_schema import TrainConfig
from spi_lightning.data.sampler import SamplerSettings
from spi_lightning.errors import SpiError
from spi_lightning.inference.scores import read_scores
from spi_lightning.models.preact_resnet import PreActResNet
from spi_lightning.selection.results import Findings
from spi_lightning.selection.step import Context
from spi_lightning.training import at_once
from spi_lightning.training.at_once import Sharing, share_out
from spi_lightning.training.devices import OwnSignals, check_devices
from spi_lightning.training.fold import run, set_up
from spi_lightning.training.losses import CrossEntropy
from spi_lightning.training.recipe import Recipe
from spi_lightning.training.side_by_side import train_folds, train_one
from tests.unit.training.easy import TRAINER, divided, easy_run, recipe, trained

EPOCHS, BATCHES, SIZE = 3, 4, 8
NETWORK = partial(PreActResNet, (8,), (1,), ((2, 2),), "relu", "group")  # without statistics of a batch
ADVICE = "The same command goes on with what is left."


@dataclass(frozen=True)
class Noting:
    """Patterns as they are, each batch of a process being kept in a file."""

    folder: Path
    in_workers = False

    def __call__(self, patterns: torch.Tensor, mask: torch.Tensor, zero: float, seed: int) -> torch.Tensor:
        rank = os.environ.get("RANK", "0")
        batch = len(list(self.folder.glob(f"{rank}-*.npy")))
        np.save(self.folder / f"{rank}-{batch:02}.npy", patterns.numpy())
        return patterns


@dataclass
class Failing:
    """Patterns as they are, until a process fails, once."""

    flag: Path
    rank: str
    batch: int
    killed: bool
    in_workers = False
    given = 0

    def __call__(self, patterns: torch.Tensor, mask: torch.Tensor, zero: float, seed: int) -> torch.Tensor:
        self.given += 1
        if os.environ.get("RANK") == self.rank and self.given > self.batch and not self.flag.exists():
            self.flag.touch()
            if self.killed:
                os.kill(os.getpid(), signal.SIGKILL)
            raise ArithmeticError("out of numbers")
        return patterns


def _recipe(pipeline: object, devices: int, **changes: object) -> tuple[Recipe, tuple]:
    splits, training_set = divided(easy_run())
    settings = {
        "network": NETWORK,
        "loss": partial(CrossEntropy, (0.1, 0.9)),
        "sampler": SamplerSettings(single_share=0.5, batch_size=SIZE, batches=BATCHES),
        "trainer": replace(TRAINER, epochs=EPOCHS, devices=devices),
        "pipeline": pipeline,
    }
    return recipe(training_set, **settings | changes), (training_set, splits)


def _together(folder: Path, pipeline: object) -> Path:
    """Fold 0, trained by two processes."""
    settings, (training_set, splits) = _recipe(pipeline, devices=2)
    (folder / "0").mkdir(parents=True, exist_ok=True)
    train_one(settings, training_set, splits, 0, folder / "0")
    return folder / "0"


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "last.ckpt", weights_only=True)["state_dict"]


def _history(folder: Path) -> np.ndarray:
    return np.loadtxt(folder / "history.csv", delimiter=",", skiprows=1)


@pytest.fixture(scope="module")
def noted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Fold 0, trained by one process and by two, and in ``batches`` of each folder what they were shown."""
    ways = [tmp_path_factory.mktemp(name) for name in ("one", "two")]
    for way in ways:
        (way / "batches").mkdir()
    settings, (training_set, splits) = _recipe(Noting(ways[0] / "batches"), devices=1)
    (ways[0] / "0").mkdir()
    train_one(settings, training_set, splits, 0, ways[0] / "0")
    _together(ways[1], Noting(ways[1] / "batches"))
    return ways[0], ways[1]


def test_both_together_are_shown_what_one_is_shown(noted: tuple[Path, Path]) -> None:
    one, two = (way / "batches" for way in noted)
    whole = [np.load(path) for path in sorted(one.iterdir())]
    parts = [[np.load(path) for path in sorted(two.glob(f"{rank}-*"))] for rank in (0, 1)]
    assert len(whole) == len(parts[0]) == len(parts[1]) == EPOCHS * BATCHES
    assert all(len(part) == SIZE // 2 for each in parts for part in each)
    for batch, *shared in zip(whole, *parts, strict=True):
        assert np.array_equal(batch, np.concatenate(shared))
    # The share of single hits, by whom the patterns are.
    settings, (training_set, splits) = _recipe(NoAugmentation(), devices=2)
    rows = training_set.rows(splits.train_of(0))
    known = settings.normalisation(training_set.tensor(rows)).numpy()
    labels = {pattern.tobytes(): label for pattern, label in zip(known, training_set.labels[rows], strict=True)}
    seen = [[labels[pattern[0].tobytes()] for pattern in np.concatenate(each)] for each in parts]
    assert len(seen[0]) + len(seen[1]) == EPOCHS * BATCHES * SIZE
    assert np.mean(seen) == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(EPOCHS * BATCHES * SIZE))
    assert np.mean(seen[0]) != np.mean(seen[1])  # else a weighted loss would be the same without any care


def test_weights_metrics_and_predictions_are_those_of_one_process(noted: tuple[Path, Path]) -> None:
    one, two = (way / "0" for way in noted)
    ours, theirs = _weights(one), _weights(two)
    assert ours.keys() == theirs.keys()
    for name, weight in ours.items():
        torch.testing.assert_close(theirs[name], weight, rtol=1e-5, atol=1e-5)
    scores = [read_scores(folder / "predictions.h5") for folder in (one, two)]
    assert scores[0].ids.tolist() == scores[1].ids.tolist()
    np.testing.assert_allclose(scores[1].probabilities, scores[0].probabilities, atol=1e-5)
    assert (one / "history.csv").read_text().splitlines()[0] == (two / "history.csv").read_text().splitlines()[0]
    np.testing.assert_allclose(_history(two), _history(one), atol=1e-5)


def test_one_process_writes_and_nothing_is_left_over(noted: tuple[Path, Path]) -> None:
    one, two = (way / "0" for way in noted)
    assert sorted(path.name for path in one.iterdir()) == sorted(path.name for path in two.iterdir())
    steps = [torch.load(two / f"{name}.ckpt", weights_only=True)["global_step"] for name in ("last", "best")]
    assert steps[0] == EPOCHS * BATCHES
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_a_killed_process_ends_the_other_and_the_fold_goes_on_to_the_same_end(
    noted: tuple[Path, Path], tmp_path: Path
) -> None:
    pipeline = Failing(tmp_path / "flag", rank="1", batch=2 * BATCHES + 1, killed=True)
    with pytest.raises(SpiError) as failed:
        _together(tmp_path, pipeline)
    assert str(failed.value) == (
        "Fold 0: one of its 2 processes was killed, as happens where memory is short. Choose a smaller folds_at_once "
        f"or trainer.devices.\n{ADVICE}"
    )
    assert multiprocessing.active_children() == []
    assert not (tmp_path / "0/predictions.h5").exists()
    assert torch.load(tmp_path / "0/last.ckpt", weights_only=True)["global_step"] == 2 * BATCHES
    assert list(tmp_path.rglob("*.partial-*")) == []
    resumed, whole = _together(tmp_path, pipeline), noted[1] / "0"
    assert all(torch.equal(weight, _weights(resumed)[name]) for name, weight in _weights(whole).items())
    assert (resumed / "history.csv").read_text() == (whole / "history.csv").read_text()
    scores = [read_scores(folder / "predictions.h5").probabilities for folder in (whole, resumed)]
    assert np.array_equal(*scores)


@pytest.mark.slow
def test_what_the_fold_failed_of_is_told_and_not_what_came_of_it(tmp_path: Path) -> None:
    settings, (training_set, splits) = _recipe(Failing(tmp_path / "flag", rank="0", batch=1, killed=False), devices=2)
    (tmp_path / "folds/1").mkdir(parents=True)
    (tmp_path / "folds/1/predictions.h5").touch()  # finished
    with pytest.raises(SpiError) as failed:
        train_folds(settings, training_set, splits, tmp_path / "folds", Sharing(1, (1, 1), 2, 2))
    said, advice = str(failed.value).splitlines()
    assert said.startswith("Fold 0: an unexpected error: ArithmeticError: out of numbers. The traceback")
    assert advice == ADVICE
    assert multiprocessing.active_children() == []
    assert sorted(path.name for path in (tmp_path / "folds").iterdir()) == ["0", "1"]


def test_cores_are_shared_out_among_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(at_once, "available_cores", lambda: 16)
    monkeypatch.setattr(at_once, "_free_memory", lambda: 10**12)
    assert share_out(5, None, 0, "cpu", 0, devices=2) == Sharing(5, (1,) * 5, 16, 2)
    assert share_out(5, 2, 0, "cpu", 0, devices=2) == Sharing(2, (4, 4, 4, 4, 8), 16, 2)
    assert share_out(5, None, 4, "cpu", 0, devices=2) == Sharing(2, (4,) * 5, 16, 2)
    assert share_out(5, None, 0, "cuda", 0, devices=2).processes == 1
    monkeypatch.setattr(at_once, "_free_memory", lambda: 5 * at_once.PROCESS)
    assert share_out(5, None, 0, "cpu", 0, devices=2).processes == 2


def test_what_cannot_be_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(SpiError, match=r"trainer\.devices is 3, but torch finds 2 GPUs"):
        check_devices(3, "cuda")
    with pytest.raises(SpiError, match=r"device is cuda:1 and trainer\.devices is 2: one GPU was named"):
        check_devices(2, "cuda:1")
    with pytest.raises(SpiError, match="on GPUs all of them train one fold after the other"):
        check_devices(2, "cuda", folds_at_once=2)
    check_devices(2, "cuda", folds_at_once=1)
    check_devices(1, "cuda:1", folds_at_once=2)
    check_devices(3, "cpu", folds_at_once=2)
    with pytest.raises(SpiError, match=r"trainer\.devices"):
        replace(TRAINER, devices=0)


def test_a_batch_that_cannot_be_shared_is_refused_before_anything_is_read() -> None:
    wanted = ["experiment=tiny", "data.path=a.cxi", "run=b", "trainer.devices=3"]
    with pytest.raises(SpiError, match=r"sampler\.batch_size is 8, which trainer\.devices=3 cannot share evenly"):
        composed("train", conf_folder(), TrainConfig, wanted)


def test_runs_of_earlier_versions_had_one_device(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("trainer: {epochs: 3}\n")
    (tmp_path / "status.json").write_text('{"state": "running"}')
    assert earlier_state(tmp_path, "trainer: {epochs: 3, devices: 1}") == "running"
    with pytest.raises(SpiError, match=r"trainer\.devices is None there and 2 here"):
        earlier_state(tmp_path, "trainer: {epochs: 3, devices: 2}")


def test_slurm_is_left_to_whoever_submitted_the_job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plain = trained(tmp_path / "plain")
    slurm = {"NTASKS": "4", "JOB_NAME": "train", "JOB_ID": "7", "PROCID": "0", "LOCALID": "0", "NODEID": "0"}
    for name, value in slurm.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert SLURMEnvironment.detect()
    before = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGTERM)}
    within = trained(tmp_path / "within")
    assert {number: signal.getsignal(number) for number in before} == before
    assert all(torch.equal(weight, _weights(within)[name]) for name, weight in _weights(plain).items())
    splits, training_set = divided(easy_run())
    fit = set_up(recipe(training_set), training_set, splits, 0, tmp_path)
    environment = fit.trainer._accelerator_connector.cluster_environment
    assert type(environment) is LightningEnvironment


def test_a_device_that_is_to_stop_does_not_wait_for_the_others(tmp_path: Path) -> None:
    during: list[object] = []

    class Looking(pl.Callback):
        def on_train_batch_start(self, *_: object) -> None:
            during.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    splits, training_set = divided(easy_run())
    for callbacks in ([Looking()], [OwnSignals(), Looking()]):
        run(set_up(recipe(training_set), training_set, splits, 0, tmp_path, callbacks))
    assert during[0] != before  # it is Lightning's, which talks to the other devices
    assert during[-1] == before == signal.getsignal(signal.SIGTERM)


def test_nor_does_the_stage_after_the_scores_look_for_slurm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "4")  # for which Lightning would want processes
    patterns = easy_run(2, 2)
    findings = Findings(patterns.ids, None, np.ones(4, np.float32), 0.5, measured=np.arange(4))
    run_stage(Stage(patterns, Context(findings, lambda name: (findings.scores, None)), {}), [], tmp_path, "cpu")
    assert findings.photons.tolist() == patterns.frames.sum((1, 2)).tolist()
