"""What is logged of an epoch, in every precision, compiled or not; and what training leaves in checkpoints."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score, roc_auc_score
from torch import nn

from spi_lightning.data.loaders import Batch
from spi_lightning.errors import SpiError
from spi_lightning.models.preact_resnet import PreActResNet
from spi_lightning.training.compilation import check_compiler
from spi_lightning.training.fold import check_device, load_weights
from spi_lightning.training.losses import CrossEntropy
from spi_lightning.training.module import SingleHitModule
from tests.unit.training.easy import TRAINER, divided, easy_run, recipe, small_network, trained


@pytest.fixture
def compiler() -> None:
    try:
        check_compiler("cpu")
    except SpiError as error:
        pytest.skip(str(error))


def _history(folder: Path) -> list[dict[str, float]]:
    with open(folder / "history.csv", newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def _residual() -> nn.Module:
    return PreActResNet(filters=(4, 8), blocks=(1, 1), strides=((1, 1), (2, 2)))


@pytest.mark.parametrize("network", [small_network, _residual])
def test_an_epochs_values_are_those_of_the_plain_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network
) -> None:
    """Loss and metrics against the network itself in float64, and scikit-learn."""
    losses: list[float] = []
    step = SingleHitModule.training_step

    def told(self: SingleHitModule, batch: Batch, batch_idx: int) -> torch.Tensor:
        loss = step(self, batch, batch_idx)
        losses.append(loss.item())
        return loss

    monkeypatch.setattr(SingleHitModule, "training_step", told)
    weighted = (0.1, 0.9)
    folder = trained(tmp_path, network=network, loss=lambda: CrossEntropy(weighted))
    rows = _history(folder)
    names = ["epoch", "lr", "train/loss", "val/loss", *(f"val/{n}" for n in ("auroc", "average_precision", "f1"))]
    assert sorted(rows[0]) == sorted([*names, "val/precision", "val/recall"])
    assert [row["train/loss"] for row in rows] == pytest.approx(np.reshape(losses, (3, 4)).mean(1), rel=1e-6)

    splits, training_set = divided(easy_run())
    plain = network().eval()
    load_weights(plain, folder / "last.ckpt")
    held = training_set.rows(splits.validation_of(0))
    patterns = recipe(training_set).normalisation(training_set.tensor(held))[:, None].double()
    with torch.no_grad():
        logits = plain.double()(patterns)
    labels = training_set.labels[held]
    found, scores = rows[-1], logits.softmax(1)[:, 1].numpy()
    expected = {
        "loss": nn.functional.cross_entropy(logits, torch.from_numpy(labels), torch.tensor(weighted).double()).item(),
        "auroc": roc_auc_score(labels, scores),
        "average_precision": average_precision_score(labels, scores),
        "f1": f1_score(labels, scores > 0.5),
        "precision": precision_score(labels, scores > 0.5, zero_division=0.0),
        "recall": recall_score(labels, scores > 0.5),
    }
    for name, value in expected.items():
        assert found[f"val/{name}"] == pytest.approx(value, rel=1e-4), name


def test_values_do_not_depend_on_the_blocks_of_validation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = trained(tmp_path / "whole")
    monkeypatch.setattr("spi_lightning.data.datamodule.BLOCK", 5)
    assert _history(trained(tmp_path / "parts")) == _history(whole)


def test_mixed_precision_on_a_cpu_learns_nearly_the_same(tmp_path: Path) -> None:
    full, mixed = (
        trained(tmp_path / precision, trainer=replace(TRAINER, epochs=12, precision=precision))  # type: ignore[arg-type]
        for precision in ("32-true", "bf16-mixed")
    )
    first, second = (torch.load(folder / "last.ckpt", weights_only=True)["state_dict"] for folder in (full, mixed))
    assert any(not torch.equal(first[name], second[name]) for name in first)
    assert all(value.dtype == first[name].dtype for name, value in second.items())
    assert _history(mixed)[0]["train/loss"] == pytest.approx(_history(full)[0]["train/loss"], rel=0.1)
    assert _history(mixed)[-1]["val/average_precision"] == pytest.approx(1.0)


def test_half_precision_on_a_cpu_is_refused() -> None:
    with pytest.raises(SpiError, match=r"trainer\.precision is 16-mixed, which needs a GPU\. On the CPU take 32-true"):
        check_device(replace(TRAINER, precision="16-mixed"), "cpu")
    check_device(replace(TRAINER, precision="16-mixed"), "cuda")


@pytest.mark.usefixtures("compiler")
def test_a_compiled_training_is_the_same_and_goes_on_uncompiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its checkpoints are plain ones: names of weights, the optimizer's state, and the place in the run."""
    fused, plain = (trained(tmp_path / str(on), trainer=replace(TRAINER, compile=on)) for on in (True, False))
    first, second = (torch.load(folder / "last.ckpt", weights_only=True)["state_dict"] for folder in (fused, plain))
    assert list(first) == list(second) == [f"network.{name}" for name in small_network().state_dict()]
    for name, value in second.items():
        torch.testing.assert_close(first[name], value, rtol=1e-2, atol=1e-3)
    assert any(not torch.equal(first[name], value) for name, value in second.items())  # it was another program

    step = SingleHitModule.training_step

    def stopping(self: SingleHitModule, batch: Batch, batch_idx: int) -> torch.Tensor:
        if self.trainer.global_step == 9:
            raise InterruptedError
        return step(self, batch, batch_idx)

    monkeypatch.setattr(SingleHitModule, "training_step", stopping)
    with pytest.raises(InterruptedError):
        trained(tmp_path / "stopped", trainer=replace(TRAINER, compile=True))
    monkeypatch.undo()
    resumed = _history(trained(tmp_path / "stopped"))
    assert [row["epoch"] for row in resumed] == [0, 1, 2]
    for row, expected in zip(resumed, _history(plain), strict=True):
        assert row["train/loss"] == pytest.approx(expected["train/loss"], rel=1e-3)


def test_a_missing_compiler_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object, **__: object) -> None:
        raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found\nand much more")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: none)
    with pytest.raises(SpiError, match=r"does not work here \(InvalidCxx.* found\)\. It needs a C\+\+ compiler"):
        check_device(replace(TRAINER, compile=True), "cpu")
    check_device(TRAINER, "cpu")
