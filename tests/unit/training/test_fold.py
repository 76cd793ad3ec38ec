"""Training a fold: it learns, it can be repeated, resumed and left alone once it is finished."""

from __future__ import annotations

import gc
import multiprocessing
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from spi_lightning.augmentation.settings import Transforms
from spi_lightning.augmentation.with_batchgenerators import BatchgeneratorsPipeline
from spi_lightning.data.sampler import SamplerSettings
from spi_lightning.errors import SpiError
from spi_lightning.inference.mirroring import member_probabilities
from spi_lightning.inference.scores import read_scores
from spi_lightning.models.small_cnn import SmallCNN
from spi_lightning.training.fold import load_weights, set_up
from spi_lightning.training.module import SingleHitModule
from tests.unit.training.easy import TRAINER, divided, easy_run, recipe, small_network, trained

LONGER = replace(TRAINER, epochs=12)


def _weights(folder: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return torch.load(folder / f"{name}.ckpt", weights_only=True)["state_dict"]


def _same(first: Path, second: Path) -> bool:
    a, b = _weights(first), _weights(second)
    scores = [read_scores(folder / "predictions.h5").probabilities for folder in (first, second)]
    return all(torch.equal(a[name], b[name]) for name in a | b) and np.array_equal(*scores)


def test_it_learns_and_predicts_what_it_has_not_seen(tmp_path: Path) -> None:
    folder = trained(tmp_path, trainer=LONGER)
    splits, training_set = divided(easy_run())
    scores = read_scores(folder / "predictions.h5")
    unseen = splits.validation_of(0)
    assert scores.ids.tolist() == splits.ids[unseen].tolist()
    assert scores.labels is not None
    assert scores.probabilities[scores.labels == 1].min() > scores.probabilities[scores.labels == 0].max()

    network = small_network().eval()
    load_weights(network, folder / "last.ckpt")
    patterns = recipe(training_set).normalisation(training_set.tensor(training_set.rows(unseen)))[:, None]
    expected = member_probabilities(network, patterns, ("none", "rows"))
    np.testing.assert_allclose(scores.probabilities, expected, rtol=1e-5)


def test_a_seed_gives_the_same_weights_and_another_seed_others(tmp_path: Path) -> None:
    first, second = trained(tmp_path / "a"), trained(tmp_path / "b")
    assert _same(first, second)
    assert not _same(first, trained(tmp_path / "c", seed=2))


def test_workers_do_not_change_the_weights_and_end_with_the_fold(tmp_path: Path) -> None:
    pipeline = BatchgeneratorsPipeline(Transforms(), order=1)
    first = trained(tmp_path / "a", pipeline=pipeline, workers=0)
    before = set(multiprocessing.active_children())
    gc.disable()  # which may end them by chance
    try:
        second = trained(tmp_path / "b", pipeline=pipeline, workers=2)
        assert set(multiprocessing.active_children()) <= before
    finally:
        gc.enable()
    assert _same(first, second)


class _Killed(Exception):
    pass


def _network_with_dropout() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Dropout(0.3), small_network())


def test_dropout_draws_the_same_after_a_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"network": _network_with_dropout, "trainer": replace(TRAINER, epochs=4)}
    whole = trained(tmp_path / "whole", **settings)
    _stop_at(monkeypatch, 9)
    with pytest.raises(_Killed):
        trained(tmp_path / "stopped", **settings)
    monkeypatch.undo()
    assert _same(whole, trained(tmp_path / "stopped", **settings))


def test_a_fold_that_was_stopped_before_its_predictions_makes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained(tmp_path / "whole")

    def stop(*_: object) -> None:
        raise _Killed

    monkeypatch.setattr("spi_lightning.training.fold._predict", stop)
    with pytest.raises(_Killed):
        trained(tmp_path / "stopped")
    monkeypatch.undo()
    assert _same(whole, trained(tmp_path / "stopped"))


def _stop_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    train = SingleHitModule.training_step

    def stopping(self: SingleHitModule, batch, batch_idx: int) -> torch.Tensor:
        if self.trainer.global_step == step:
            raise _Killed
        return train(self, batch, batch_idx)

    monkeypatch.setattr(SingleHitModule, "training_step", stopping)


@pytest.mark.parametrize("at", [5, 8, 17])
def test_what_was_stopped_goes_on_to_the_same_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    whole = trained(tmp_path / "whole", trainer=LONGER)
    _stop_at(monkeypatch, at)
    with pytest.raises(_Killed):
        trained(tmp_path / "stopped", trainer=LONGER)
    assert not (tmp_path / "stopped" / "predictions.h5").exists()
    monkeypatch.undo()
    resumed = trained(tmp_path / "stopped", trainer=LONGER)
    assert _same(whole, resumed)
    assert (whole / "history.csv").read_text() == (resumed / "history.csv").read_text()


def test_the_end_is_kept_where_validation_does_not_divide_the_epochs(tmp_path: Path) -> None:
    folder = trained(tmp_path, trainer=replace(TRAINER, epochs=5, validate_every=2))
    assert torch.load(folder / "last.ckpt", weights_only=True)["global_step"] == 5 * 4
    assert [line.split(",")[0] for line in (folder / "history.csv").read_text().splitlines()] == ["epoch", "1", "3"]


def test_a_finished_fold_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    monkeypatch.setattr(pl.Trainer, "fit", lambda *_, **__: pytest.fail("it was trained again"))
    trained(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_best_is_a_checkpoint_of_its_own(tmp_path: Path) -> None:
    folder = trained(tmp_path, checkpoint="best", trainer=LONGER)
    best = torch.load(folder / "best.ckpt", weights_only=True)
    monitored = [row["val/average_precision"] for row in best["callbacks"]["History"]["rows"]]
    assert best["epoch"] < 11
    assert max(monitored) == pytest.approx(1.0)


def test_checkpoints_hold_nothing_but_tensors_and_plain_values(tmp_path: Path) -> None:
    folder = trained(tmp_path)
    for name in ("best", "last"):
        assert _weights(folder, name)  # which weights_only refuses otherwise


def test_a_checkpoint_of_another_network_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    folder = trained(tmp_path)
    with pytest.raises(SpiError, match="cannot be used as a checkpoint of this network"):
        load_weights(SmallCNN((3,)), folder / "last.ckpt")
    (folder / "last.ckpt").write_bytes(b"not a checkpoint")
    with pytest.raises(SpiError, match=r"last\.ckpt: holds more than tensors and plain values, or is damaged"):
        load_weights(small_network(), folder / "last.ckpt")


def test_a_training_that_diverges_says_so(tmp_path: Path) -> None:
    def overflowing(parameters):
        return torch.optim.SGD(parameters, 1e30)

    with pytest.raises(SpiError, match=r"not finite any more\. Lower optimizer\.lr"):
        trained(tmp_path, optimizer=overflowing)
    assert not (tmp_path / "predictions.h5").exists()


def test_oversampling_shows_the_share_that_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    step = SingleHitModule.training_step

    def counting(self: SingleHitModule, batch, batch_idx: int) -> torch.Tensor:
        seen.extend(batch.labels.tolist())
        return step(self, batch, batch_idx)

    monkeypatch.setattr(SingleHitModule, "training_step", counting)
    trained(tmp_path, sampler=SamplerSettings(0.2, 64, 20))
    assert len(seen) == 3 * 20 * 64
    assert np.mean(seen) == pytest.approx(0.2, abs=4 * np.sqrt(0.16 / len(seen)))


def test_the_process_is_left_as_it_was(tmp_path: Path) -> None:
    torch.manual_seed(5)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    trained(tmp_path, trainer=replace(TRAINER, threads=threads + 1))
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.are_deterministic_algorithms_enabled()
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ


def test_every_fold_and_seed_begins_with_weights_of_its_own(tmp_path: Path) -> None:
    splits, training_set = divided(easy_run())

    def weights(fold: int, seed: int) -> torch.Tensor:
        fit = set_up(recipe(training_set, seed=seed), training_set, splits, fold, tmp_path)
        return torch.cat([weight.flatten() for weight in fit.module.network.parameters()])

    first = weights(0, 1)
    assert torch.equal(weights(0, 1), first)
    assert not torch.equal(weights(1, 1), first)
    assert not torch.equal(weights(0, 2), first)


def test_what_is_asked_of_the_trainer_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[int] = []
    step = SingleHitModule.training_step

    def noting(self: SingleHitModule, batch, batch_idx: int) -> torch.Tensor:
        used.append(torch.get_num_threads())
        return step(self, batch, batch_idx)

    monkeypatch.setattr(SingleHitModule, "training_step", noting)
    held = trained(tmp_path / "held", optimizer=_descent, trainer=replace(TRAINER, threads=3, gradient_clip=1e-9))
    assert set(used) == {3}
    free = trained(tmp_path / "free", optimizer=_descent)
    moved = [_weights(folder)["network.head.weight"] for folder in (held, free)]
    splits, training_set = divided(easy_run())
    start = set_up(recipe(training_set), training_set, splits, 0, tmp_path).module.network.head.weight.detach()
    assert float((moved[0] - start).abs().max()) < 1e-7 < 1e-3 < float((moved[1] - start).abs().max())


def _descent(parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=1.0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
@pytest.mark.parametrize("precision", ["32-true", "16-mixed"])
def test_it_learns_on_a_gpu(tmp_path: Path, precision: str) -> None:
    folder = trained(tmp_path, device="cuda", trainer=replace(LONGER, precision=precision))
    scores = read_scores(folder / "predictions.h5")
    assert scores.labels is not None
    assert scores.probabilities[scores.labels == 1].min() > scores.probabilities[scores.labels == 0].max()
