from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import pytest

from benchmarks import __main__ as benchmarks
from benchmarks.record import Row


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", benchmarks.MODULES)
def test_every_benchmark_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--quick", "--only", name, "--results", str(tmp_path)])
    status = benchmarks.main()
    captured = capfd.readouterr()
    assert status == 0, captured.err
    with open(tmp_path / "speed.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows
    for row in rows:
        assert row.keys() == Row.__annotations__.keys()
        assert row["what"]
        assert row["value"]
        assert (row["reached"] == "") == (row["target"] == "")
    facts = json.loads((tmp_path / "speed.json").read_text())
    assert facts["quick"] is True
    assert facts["failed"] == []
    assert f"{name} (1 of 1)" in captured.err


def test_a_benchmark_that_fails_leaves_a_line_and_the_others_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(benchmarks, "MODULES", ("missing", "trial"))
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--only", "missing", "trial", "--results", str(tmp_path)])
    plain = benchmarks.Remote

    def remote(factory: str, name: str, quick: bool) -> object:
        trial = "tests.unit.benchmarks.work:two_rows"
        return plain(trial) if name == "trial" else plain(factory, name, quick)

    monkeypatch.setattr(benchmarks, "Remote", remote)
    assert benchmarks.main() == 1
    with open(tmp_path / "speed.csv", encoding="utf-8", newline="") as file:
        failed, *others = csv.DictReader(file)
    assert (failed["what"], failed["value"], failed["reached"]) == ("missing", "failed", "no")
    assert failed["note"] == "ModuleNotFoundError: No module named 'benchmarks.missing'"
    assert [row["value"] for row in others] == ["1 GB", "2 GB"]
    assert json.loads((tmp_path / "speed.json").read_text())["failed"] == ["missing"]
    assert "Traceback" in capfd.readouterr().err
