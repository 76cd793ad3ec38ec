from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from spi_lightning.config.earlier import claim, earlier_state
from spi_lightning.config.scope import job_scope, sole_job
from spi_lightning.errors import SpiError
from spi_lightning.provenance import write_json


def test_a_job_leaves_config_provenance_and_status(tmp_path: Path) -> None:
    with job_scope(tmp_path, "seed: 1\n") as job:
        assert json.loads((tmp_path / "status.json").read_text())["state"] == "running"
        job.record({"gain": 7.8})
    status = json.loads((tmp_path / "status.json").read_text())
    assert status["state"] == "complete"
    assert status["ended"] >= status["started"]
    provenance = json.loads((tmp_path / "provenance.json").read_text())
    assert provenance["gain"] == 7.8
    assert {"versions", "machine", "command", "commit"} <= provenance.keys()
    assert (tmp_path / "config.yaml").read_text() == "seed: 1\n"
    assert not list(tmp_path.glob("*.partial-*"))


@pytest.mark.parametrize(
    ("error", "state"), [(ValueError("no"), "failed"), (KeyboardInterrupt(), "stopped"), (SystemExit(3), "stopped")]
)
def test_what_ends_a_job_is_kept_with_its_traceback_and_goes_on_up(tmp_path: Path, error, state: str) -> None:
    with pytest.raises(type(error)), job_scope(tmp_path, "seed: 1\n"):
        raise error
    assert json.loads((tmp_path / "status.json").read_text())["state"] == state
    assert type(error).__name__ in (tmp_path / "traceback.txt").read_text()


def test_the_next_success_clears_the_traceback(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no"), job_scope(tmp_path, ""):
        raise ValueError("no")
    with job_scope(tmp_path, ""):
        pass
    assert not (tmp_path / "traceback.txt").exists()


def test_what_only_an_interrupted_job_needs_goes_once_it_is_complete(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()

    def fail() -> None:
        with job_scope(tmp_path, "") as job:
            job.remove_when_complete(tmp_path / "parts")
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    assert (tmp_path / "parts").exists()
    with job_scope(tmp_path, "") as job:
        job.remove_when_complete(tmp_path / "parts")
    assert not (tmp_path / "parts").exists()


def test_a_number_that_is_none_never_reaches_a_record(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"), job_scope(tmp_path, "") as job:
        job.record({"mean": float("nan")})


def test_a_folder_with_other_settings_is_refused(tmp_path: Path) -> None:
    assert earlier_state(tmp_path, "a: {b: 1}\n") is None
    with job_scope(tmp_path, "a: {b: 1, c: [2, 3]}\nworkers: 1\nrun: x\n"):
        pass
    assert earlier_state(tmp_path, "a: {b: 1, c: [2, 3]}\nworkers: 8\nrun: ./x\n") == "complete"
    with pytest.raises(SpiError, match=r"a\.b is 1 there and 2 here"):
        earlier_state(tmp_path, "a: {b: 2, c: [2, 3]}\nworkers: 1\nrun: x\n", may_change=("a.b",))
    with pytest.raises(SpiError, match="the order of a has changed"):
        earlier_state(tmp_path, "a: {c: [2, 3], b: 1}\nworkers: 1\nrun: x\n")


def test_what_follows_the_scores_is_new_in_a_config_or_asks_for_spi_select(tmp_path: Path) -> None:
    """A run of a version before selections is still the same run."""
    (tmp_path / "config.yaml").write_text("a: 1\n")
    write_json(tmp_path / "status.json", {"state": "complete"})
    later = "a: 1\ncallbacks: {em: {classes: 3}}\nsteps: {}\nselections: {x: [y]}\nmoresh: null\n"
    assert earlier_state(tmp_path, later) == "complete"
    (tmp_path / "config.yaml").write_text(later)
    with pytest.raises(SpiError, match=f"spi-select run={tmp_path} makes other selections"):
        earlier_state(tmp_path, later.replace("[y]", "[z]"))
    with pytest.raises(SpiError, match=r"Give another run=FOLDER.*") as refused:
        earlier_state(tmp_path, f"a: {'long ' * 99}\n" + later[5:])
    assert len(str(refused.value)) < 400


def test_an_interrupted_job_may_go_on_with_what_matters_only_later(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()  # what it has made so far
    with pytest.raises(SystemExit), job_scope(tmp_path, "a: {b: 1, c: 2}\n"):
        raise SystemExit(143)
    assert earlier_state(tmp_path, "a: {b: 5, c: 2}\n", may_change=("a.b",)) == "stopped"
    with pytest.raises(SpiError, match=r"a\.c is 2 there and 5 here"):
        earlier_state(tmp_path, "a: {b: 5, c: 5}\n", may_change=("a.b",))


def test_a_damaged_folder_is_told(tmp_path: Path) -> None:
    with job_scope(tmp_path, "a: 1\n"):
        pass
    (tmp_path / "status.json").write_text("{")
    with pytest.raises(SpiError, match="cannot be read"):
        earlier_state(tmp_path, "a: 1\n")


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpiError, match=r"run: the folder .* cannot be written"), sole_job(tmp_path / "file/job"):
        pass


def test_one_process_at_a_time_and_leftovers_of_a_killed_one_are_cleared(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts/part.partial-77").write_text("half")
    (tmp_path / "patterns.cxi.partial-77").write_text("half")
    (tmp_path / "patterns.cxi").write_text("whole")
    code = (
        "import sys; from pathlib import Path; from spi_lightning.config.scope import sole_job\n"
        "with sole_job(Path(sys.argv[1])): pass"
    )
    with sole_job(tmp_path):
        assert sorted(path.name for path in tmp_path.iterdir()) == ["lock", "parts", "patterns.cxi"]
        assert not list((tmp_path / "parts").iterdir())
        other = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
        assert other.returncode != 0
        assert "is at work in" in other.stderr
        assert "process" in other.stderr
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)


def test_a_job_that_failed_before_it_made_anything_binds_nobody(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no"), job_scope(tmp_path, "seed: 1\n"):
        raise ValueError("no")
    assert earlier_state(tmp_path, "seed: 2\n") is None
    (tmp_path / "splits.json").touch()
    with pytest.raises(SpiError, match="seed is 1 there and 2 here"):
        earlier_state(tmp_path, "seed: 2\n")


def test_a_damaged_config_of_an_earlier_job_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("x: [\n")
    with pytest.raises(SpiError, match=r"what an earlier job left in .* cannot be read") as told:
        earlier_state(tmp_path, "seed: 1\n")
    assert "\n" not in str(told.value)


def test_a_part_of_a_run_must_agree_with_the_others(tmp_path: Path) -> None:
    claim(tmp_path, "fold: 1\nseed: 1\ncut: 0.5\n", ("cut",))
    claim(tmp_path, "fold: 2\nseed: 1\ncut: 0.7\n", ("cut",))
    with pytest.raises(SpiError, match="seed is 1 there and 2 here"):
        claim(tmp_path, "fold: 3\nseed: 2\ncut: 0.5\n", ("cut",))


def test_what_another_job_writes_inside_the_folder_is_left_to_it(tmp_path: Path) -> None:
    own, other = tmp_path / "scores.partial-1", tmp_path / "folds/1/scores.partial-2"
    other.parent.mkdir(parents=True)
    (other.parent / "lock").touch()
    own.touch()
    other.touch()
    with sole_job(tmp_path):
        assert not own.exists()
        assert other.exists()
    with sole_job(other.parent):
        assert not other.exists()
