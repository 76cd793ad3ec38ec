from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from spi_lightning.errors import SpiError
from spi_lightning.training.whole_checkpoints import WholeCheckpoints


class Full(dict):
    """What cannot be written to its end, for the disk is full."""

    def __reduce__(self) -> tuple[object, ...]:
        raise OSError(28, "No space left on device")


def test_the_old_checkpoint_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path, checkpoints = tmp_path / "folds/0/last.ckpt", WholeCheckpoints()
    checkpoints.save_checkpoint({"epoch": 1, "weights": torch.arange(3)}, path)
    before = path.read_bytes()
    with pytest.raises(SpiError, match=r"last\.ckpt could not be written \(No space left on device\)"):
        checkpoints.save_checkpoint({"epoch": 2, "weights": Full()}, path)
    assert path.read_bytes() == before
    assert [each.name for each in path.parent.iterdir()] == ["last.ckpt"]
    assert checkpoints.load_checkpoint(path)["weights"].tolist() == [0, 1, 2]


def test_a_checkpoint_is_not_written_by_way_of_another_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/nowhere")
    monkeypatch.setattr("tempfile.tempdir", "/nowhere")
    WholeCheckpoints().save_checkpoint({"epoch": 1}, tmp_path / "last.ckpt")
    assert (tmp_path / "last.ckpt").exists()


def test_nothing_that_could_run_is_read_even_where_it_is_asked_for(tmp_path: Path) -> None:
    torch.save({"epoch": Path.cwd}, tmp_path / "last.ckpt")
    with pytest.raises(pickle.UnpicklingError):
        WholeCheckpoints().load_checkpoint(tmp_path / "last.ckpt", weights_only=False)
