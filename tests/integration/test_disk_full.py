"""On a full disk a command ends with a sentence, leaves earlier results whole, and succeeds once there is room."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.killing import results
from spi_lightning.config.earlier import RECORDS
from tests.integration.conftest import SMALL
from tests.integration.running import run_here

ROOM = 24 * 2**20  # bytes of the disk
TRAIN = " ".join([*SMALL[1], "logger=none"])
PREDICT = "spi-predict ensemble=trained/ensemble data.path=simulated/patterns.cxi callbacks=none run=out"
SELECT = "spi-select run=predicted callbacks=none"
FULL = "No space left on device"


@pytest.fixture
def disk(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A small disk of its own, on which commands run beside what they need."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk cannot be mounted here: that needs the rights of root")
    for name in ("simulated", "trained", "predicted"):
        shutil.copytree(made / name, folder / name)
    monkeypatch.chdir(folder)
    monkeypatch.setattr("spi_lightning.config.scope.uncommitted_changes", lambda: None)  # they may be large
    yield folder
    monkeypatch.undo()
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path, spare: int) -> Path:
    """A file that leaves so many bytes free."""
    path = disk / "filler"
    path.write_bytes(bytes(shutil.disk_usage(disk).free - spare))
    return path


def told(command: str) -> str:
    """What a command says that fails for want of space."""
    status, stdout, stderr = run_here(command)
    assert status == 1, stdout + stderr
    assert stderr.count("error: ") == 1
    assert FULL in stderr
    assert "Traceback" not in stdout + stderr
    return stderr


def whole(run: Path, before: dict[str, str]) -> bool:
    """Whether all that was there is as it was."""
    now = results(run)
    return all(now.get(name) == content for name, content in before.items())


@pytest.mark.parametrize("spare", [0, 32_768])
def test_a_prediction(spare: int, disk: Path) -> None:
    filler = fill(disk, spare)
    told(PREDICT)
    assert {path.name for path in (disk / "out").rglob("*") if path.is_file()} <= RECORDS
    filler.unlink()
    assert run_here(PREDICT)[0] == 0
    assert (disk / "out/scores.h5").exists()


def test_a_selection(disk: Path) -> None:
    before = results(disk / "predicted")
    assert "selection.h5" in before
    filler = fill(disk, 32_768)
    told(SELECT)
    assert whole(disk / "predicted", before)
    filler.unlink()
    assert run_here(SELECT)[0] == 0


def test_a_training_and_its_checkpoints(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk fills up while the second fold is trained: what there is of it stays, and it goes on from there."""
    monkeypatch.setattr("spi_lightning.report.evaluation.draw_augmentation", lambda *_: None)  # which comes first
    shutil.rmtree(disk / "trained/ensemble")
    (disk / "trained/folds/1/predictions.h5").unlink()
    (disk / "trained/scores.h5").unlink()
    before = results(disk / "trained")
    last = disk / "trained/folds/1/last.ckpt"
    checkpoint = last.read_bytes()
    filler = fill(disk, len(checkpoint) * 3 // 4)
    assert "folds/1/last.ckpt could not be written" in told(TRAIN)
    assert last.read_bytes() == checkpoint
    assert whole(disk / "trained", before)
    filler.unlink()
    assert run_here(TRAIN)[0] == 0
    assert (disk / "trained/scores.h5").exists()
