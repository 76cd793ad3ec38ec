from __future__ import annotations

import fcntl
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spi_lightning.config.sweep import LONGEST, SweepJob, SweepRecord, job_name, look_up

VALUES = st.dictionaries(st.text("abc._", min_size=1, max_size=8), st.text(max_size=60), min_size=1, max_size=3)


def test_a_job_is_called_by_its_swept_values() -> None:
    assert job_name({"seed": "1", "experiment": "maxf1"}) == "experiment-maxf1_seed-1"
    assert job_name({"sampler.single_share": "0.02"}) == "sampler.single_share-0.02"
    assert job_name({}) == "."


def test_what_needs_quotes_is_left_out_and_told_apart_by_a_hash() -> None:
    first, second = job_name({"model.blocks": "[1,2]"}), job_name({"model.blocks": "[12]"})
    assert re.fullmatch(r"model\.blocks-1-2-[0-9a-f]{8}", first)
    assert first != second


@given(VALUES)
def test_a_name_is_one_folder_that_needs_no_quotes(swept: dict[str, str]) -> None:
    name = job_name(swept)
    assert re.fullmatch(r"[A-Za-z0-9._-]+", name)
    assert name not in ("", ".", "..")
    assert len(name) <= LONGEST + 9


@given(VALUES, VALUES)
def test_different_values_have_different_names(one: dict[str, str], other: dict[str, str]) -> None:
    whole = ["_".join(f"{key.lstrip('+~')}-{value}" for key, value in sorted(each.items())) for each in (one, other)]
    assert (job_name(one) == job_name(other)) == (whole[0] == whole[1])


def _job(folder: Path, name: str = "seed-1") -> SweepJob:
    (folder / name).mkdir(parents=True, exist_ok=True)
    return SweepJob(name, folder / name, [], {"seed": "1"}, ("", None))


@pytest.mark.parametrize(
    ("status", "state", "error"),
    [
        ({"state": "complete"}, "complete", None),
        ({"state": "failed", "error": "SpiError: No."}, "failed", "No."),
        ({"state": "failed", "error": "ValueError: No."}, "failed", "ValueError: No."),
        ({"state": "running"}, "killed", "It was killed, or its machine went down."),
        (None, "missing", None),
    ],
)
def test_how_a_job_went_stands_in_its_folder(tmp_path: Path, status, state, error) -> None:
    job = _job(tmp_path)
    if status is not None:
        times = {"started": "2026-01-01T00:00:00+00:00", "ended": "2026-01-01T00:01:30+00:00"}
        (job.folder / "status.json").write_text(json.dumps(status | times))
        (job.folder / "traceback.txt").write_text("Traceback")
    look_up(job)
    assert (job.state, job.error) == (state, error)
    assert job.seconds == (None if status is None else 90.0)
    assert job.traceback == ("Traceback" if state == "failed" else None)


def test_a_job_that_is_at_work_is_told_from_a_killed_one(tmp_path: Path) -> None:
    job = _job(tmp_path)
    (job.folder / "status.json").write_text('{"state": "running"}')
    with open(job.folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        look_up(job)
        assert job.state == "running"
    look_up(job)
    assert job.state == "killed"


def test_jobs_of_earlier_sweeps_in_a_folder_stay_in_its_record(tmp_path: Path) -> None:
    for name in ("seed-1", "seed-2"):
        job = _job(tmp_path, name)
        job.state = "complete"
        record = SweepRecord(tmp_path, ["seed"])
        record.add([job])
        record.end()
        assert record.complete
    written = json.loads((tmp_path / "sweep.json").read_text())
    assert [job["folder"] for job in written["jobs"]] == ["seed-1", "seed-2"]
    assert written["swept"] == ["seed"]


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"jobs": 3}', '{"jobs": [1, {"folder": "a"}]}'])
def test_a_damaged_record_is_begun_anew(tmp_path: Path, text: str) -> None:
    (tmp_path / "sweep.json").write_text(text)
    SweepRecord(tmp_path, ["seed"]).add([_job(tmp_path)])
    assert [job["folder"] for job in json.loads((tmp_path / "sweep.json").read_text())["jobs"]] == ["seed-1"]


def test_a_sweep_without_a_folder_of_its_own_leaves_no_record(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    record = SweepRecord(None, [])
    record.add([_job(tmp_path)])
    record.end()
    assert not record.complete
    assert not list(tmp_path.rglob("sweep.json"))
