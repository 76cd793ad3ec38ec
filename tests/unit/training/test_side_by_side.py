from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from spi_lightning import progress as shown
from spi_lightning.data.splits import Splits, SplitSettings, make_splits
from spi_lightning.data.training_set import TrainingSet, load_training_set
from spi_lightning.errors import SpiError
from spi_lightning.inference.scores import read_scores
from spi_lightning.training import at_once
from spi_lightning.training.at_once import PROCESS, Sharing, share_out
from spi_lightning.training.side_by_side import train_folds
from tests.unit.training.easy import TRAINER, easy_run, recipe

GB = 10**9


def _machine(monkeypatch: pytest.MonkeyPatch, cores: int, memory: int = 1000 * GB) -> None:
    monkeypatch.setattr(at_once, "available_cores", lambda: cores)
    monkeypatch.setattr(at_once, "_free_memory", lambda: memory)


@pytest.mark.parametrize(
    ("cores", "wanted", "threads", "expected"),
    [
        (1, None, 0, Sharing(1, (1, 1, 1, 1, 1), 1)),
        (2, None, 0, Sharing(2, (1, 1, 1, 1, 2), 2)),  # the fifth has the machine to itself
        (16, None, 0, Sharing(5, (3, 3, 3, 3, 3), 16)),
        (16, None, 8, Sharing(2, (8, 8, 8, 8, 8), 16)),
        (4, None, 8, Sharing(1, (8, 8, 8, 8, 8), 8)),
        (16, 1, 0, Sharing(1, (16, 16, 16, 16, 16), 16)),
        (5, 3, 0, Sharing(3, (1, 1, 1, 2, 2), 5)),
        (2, 7, 0, Sharing(5, (1, 1, 1, 1, 1), 5)),
        (2, 2, 4, Sharing(2, (4, 4, 4, 4, 4), 8)),
    ],
)
def test_cores_are_shared_out(
    monkeypatch: pytest.MonkeyPatch, cores: int, wanted: int | None, threads: int, expected: Sharing
) -> None:
    _machine(monkeypatch, cores)
    assert share_out(5, wanted, threads, "cpu", 0) == expected


def test_memory_limits_the_processes_but_changes_no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = 64 * 192 * 96 * 4
    _machine(monkeypatch, 16, 8 * GB)
    assert share_out(5, None, 0, "cpu", batch) == Sharing(2, (3, 3, 3, 3, 3), 16)
    assert share_out(5, 4, 0, "cpu", batch).processes == 4
    _machine(monkeypatch, 16, PROCESS)
    assert share_out(5, None, 0, "cpu", batch).processes == 1


def test_a_gpu_has_one_fold_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    _machine(monkeypatch, 16)
    assert share_out(5, None, 0, "cuda", 0).processes == 1
    assert share_out(5, 3, 0, "cuda:1", 0).processes == 3


def test_the_narrowest_control_group_limits_the_memory(tmp_path: Path) -> None:
    root = tmp_path / "cgroup"
    (root / "system/job/step").mkdir(parents=True)
    (root / "system/memory.max").write_text("max\n")
    (root / "system/job/memory.max").write_text("3000\n")
    (root / "system/job/step/memory.max").write_text("5000\n")
    (tmp_path / "memory.max").write_text("1\n")  # beside the tree
    (tmp_path / "membership").write_text("1:cpu:/else\n0::/system/job/step\n")
    assert at_once._limits(tmp_path / "membership", root) == [5000, 3000]
    (root / "system/job/memory.current").write_text("2500\n")
    (root / "system/job/memory.stat").write_text("anon 900\ninactive_file 1100\nactive_file 500\n")
    assert at_once._limits(tmp_path / "membership", root) == [5000, 1600]
    (tmp_path / "membership").write_text("4:memory:/version/1\n")
    assert at_once._limits(tmp_path / "membership", root) == []
    assert at_once._limits(tmp_path / "none", root) == []


def test_progress_is_told_seldom_but_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[shown.Standing] = []
    clock = iter(np.arange(0, 1000, shown.SHOWN_EVERY / 4))
    monkeypatch.setattr(shown.time, "monotonic", lambda: float(next(clock)))
    with shown.progress_told_to(told.append), shown.progress("Fold 3", 50, "iterations") as advance:
        for _ in range(50):
            advance(1)
    assert told[0] == shown.Standing("Fold 3", 50, 0, "iterations")
    assert told[-1] == shown.Standing("Fold 3", 50, 50, "iterations")
    assert len(told) <= 2 + 50 // 4
    assert [now.done for now in told] == sorted(now.done for now in told)


def test_progress_is_told_how_far_it_came_before_an_error() -> None:
    told: list[shown.Standing] = []

    def read() -> None:
        with shown.progress("Reading", 9) as advance:
            advance(4)
            raise KeyError

    with shown.progress_told_to(told.append), pytest.raises(KeyError):
        read()
    assert told[-1].done == 4


def test_a_bar_goes_on_to_the_next_part_of_the_work(capsys: pytest.CaptureFixture) -> None:
    with shown.bars() as show:
        show(0, shown.Standing("Fold 0", 8, 8, "iterations"))
        show(1, shown.Standing("Fold 1", 8, 3, "iterations"))
        show(0, shown.Standing("Fold 0: predicting", 20, 5, "patterns"))
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("Fold 0: predicting")
    assert "5/20" in first
    assert second.startswith("Fold 1")
    assert "3/8" in second


def _three_folds() -> tuple[Splits, TrainingSet]:
    run = easy_run()
    splits = make_splits(run, SplitSettings(singles=None, others=None, test_share=0.25, folds=3))
    return splits, load_training_set(run, splits, lambda _: None)


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "last.ckpt", weights_only=True)["state_dict"]


@pytest.mark.slow
def test_several_at_once_are_the_same_to_the_last_bit(tmp_path: Path) -> None:
    splits, training_set = _three_folds()
    one, each = Sharing(1, (1, 1, 1), 1), Sharing(2, (1, 1, 1), 2)
    train_folds(recipe(training_set), training_set, splits, tmp_path / "one", one)
    train_folds(recipe(training_set), training_set, splits, tmp_path / "each", each)
    for fold in ("0", "1", "2"):
        theirs, ours = _weights(tmp_path / "one" / fold), _weights(tmp_path / "each" / fold)
        assert all(torch.equal(theirs[name], ours[name]) for name in theirs)
        scores = [read_scores(tmp_path / way / fold / "predictions.h5").probabilities for way in ("one", "each")]
        assert np.array_equal(*scores)
        histories = [(tmp_path / way / fold / "history.csv").read_text() for way in ("one", "each")]
        assert histories[0] == histories[1]
    assert sorted(path.name for path in (tmp_path / "each").iterdir()) == ["0", "1", "2"]


@pytest.mark.slow
def test_a_fold_that_fails_leaves_the_others_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    splits, training_set = _three_folds()
    (tmp_path / "0").mkdir()
    (tmp_path / "0/last.ckpt").write_bytes(b"not a checkpoint")
    (tmp_path / "2/history.csv").mkdir(parents=True)  # where a file is to be written
    settings = recipe(training_set, trainer=replace(TRAINER, epochs=1))
    with caplog.at_level(logging.INFO, "spi_lightning"), pytest.raises(SpiError) as failed:
        train_folds(settings, training_set, splits, tmp_path, Sharing(3, (1, 1, 1), 3))
    first, last, advice = str(failed.value).splitlines()
    assert first.startswith("Fold 0: ")
    assert "last.ckpt: holds more than tensors and plain values, or is damaged" in first
    assert last.startswith("Fold 2: an unexpected error: IsADirectoryError")
    assert advice == "The other folds are trained. The same command goes on with what is left."
    assert "Fold 2 said:" in caplog.text
    assert "Traceback (most recent call last)" in caplog.text
    assert (tmp_path / "1/predictions.h5").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1", "2"]


def test_finished_folds_need_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    splits, training_set = _three_folds()
    for fold in ("0", "2"):
        (tmp_path / fold).mkdir()
        (tmp_path / fold / "predictions.h5").touch()
    monkeypatch.setattr("multiprocessing.get_context", lambda *_: pytest.fail("a process was made"))
    train_folds(recipe(training_set), training_set, splits, tmp_path, Sharing(3, (1, 1, 1), 3))
    assert (tmp_path / "1/predictions.h5").exists()
    assert sorted(path.name for path in (tmp_path / "0").iterdir()) == ["predictions.h5"]
