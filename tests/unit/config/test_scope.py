from __future__ import annotations

import json
from pathlib import Path

import pytest

from spi_lightning.config.scope import earlier_state, job_scope
from spi_lightning.errors import SpiError


def test_a_job_leaves_config_provenance_and_status(tmp_path: Path) -> None:
    with job_scope(tmp_path / "job", "seed: 1\n") as job:
        assert json.loads((job.folder / "status.json").read_text())["state"] == "running"
        job.record({"gain": 7.8})
    status = json.loads((tmp_path / "job/status.json").read_text())
    assert status["state"] == "complete"
    assert status["ended"] >= status["started"]
    provenance = json.loads((tmp_path / "job/provenance.json").read_text())
    assert provenance["gain"] == 7.8
    assert {"versions", "machine", "command", "commit"} <= provenance.keys()
    assert (tmp_path / "job/config.yaml").read_text() == "seed: 1\n"
    assert not list((tmp_path / "job").glob("*.partial-*"))


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), SystemExit(3)])
def test_a_failure_is_kept_with_its_traceback_and_goes_on_up(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)), job_scope(tmp_path, "seed: 1\n"):
        raise error
    assert json.loads((tmp_path / "status.json").read_text())["state"] == "failed"
    assert type(error).__name__ in (tmp_path / "traceback.txt").read_text()


def test_the_next_success_clears_the_traceback(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no"), job_scope(tmp_path, ""):
        raise ValueError("no")
    with job_scope(tmp_path, ""):
        pass
    assert not (tmp_path / "traceback.txt").exists()


def test_a_folder_with_other_settings_is_refused(tmp_path: Path) -> None:
    assert earlier_state(tmp_path, "a: {b: 1}\n") is None
    with job_scope(tmp_path, "a: {b: 1, c: [2, 3]}\nworkers: 1\nrun: x\n"):
        pass
    assert earlier_state(tmp_path, "a: {b: 1, c: [2, 3]}\nworkers: 8\nrun: ./x\n") == "complete"
    with pytest.raises(SpiError, match=r"a\.b is 1 there and 2 here"):
        earlier_state(tmp_path, "a: {b: 2, c: [2, 3]}\nworkers: 1\nrun: x\n")


def test_a_damaged_folder_is_told(tmp_path: Path) -> None:
    with job_scope(tmp_path, "a: 1\n"):
        pass
    (tmp_path / "status.json").write_text("{")
    with pytest.raises(SpiError, match="cannot be read"):
        earlier_state(tmp_path, "a: 1\n")


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpiError, match=r"run: the folder .* cannot be written"), job_scope(tmp_path / "file/job", ""):
        pass
