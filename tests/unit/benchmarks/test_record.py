from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import pytest

from benchmarks import record
from benchmarks.record import Row, fact_row, interleaved, markdown, rate_row, share_row, store


def test_variants_take_turns_after_one_warm_up_each() -> None:
    calls: list[str] = []
    seconds = interleaved({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 3)
    assert calls == ["a", "b"] * 4
    assert {name: len(values) for name, values in seconds.items()} == {"a": 3, "b": 3}
    assert min(seconds["a"] + seconds["b"]) > 0


def test_a_rate_is_a_median_and_its_ratio_one_of_medians() -> None:
    row = rate_row("patterns", [10.0, 400.0, 30.0], "plain", [5.0, 15.0, 1.0], target=6)
    assert row["value"] == "30 /s"
    assert row["spread"] == "10 to 400"
    assert (row["baseline"], row["ratio"], row["target"], row["reached"]) == ("plain", "6.00", "≥ 6", "yes")
    assert rate_row("patterns", [29.0], "plain", [5.0], target=6, note="why")["reached"] == "no"
    assert rate_row("patterns", [29.0])["reached"] == ""


def test_a_target_without_a_baseline_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="needs the rates of the baseline"):
        rate_row("patterns", [29.0], target=6)


def test_a_share_is_reached_where_its_median_is_at_most_the_target() -> None:
    row = share_row("waiting", [0.07, 0.01, 0.9], at_most=0.07)
    assert (row["value"], row["spread"], row["target"], row["reached"]) == ("7 %", "1 % to 90 %", "≤ 7 %", "yes")
    assert share_row("waiting", [0.071], at_most=0.07)["reached"] == "no"
    assert share_row("waiting", [0.071])["reached"] == ""


@pytest.mark.parametrize(("reached", "shown"), [(None, ""), (True, "yes"), (False, "no")])
def test_a_fact_says_whether_it_is_as_wanted(reached: bool | None, shown: str) -> None:
    row = fact_row("memory", "1.2 GB", "below 2 GB", reached)
    assert (row["value"], row["target"], row["reached"]) == ("1.2 GB", "below 2 GB", shown)


def test_a_table_is_stored_with_where_it_comes_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [rate_row("patterns", [1.0], "a | b", [2.0], target=2, note="too\nslow"), fact_row("memory", "1 GB")]
    store("speed", rows, {"load": 0.5}, tmp_path / "results")
    with open(tmp_path / "results" / "speed.csv", encoding="utf-8", newline="") as file:
        assert list(csv.DictReader(file)) == rows
    facts = json.loads((tmp_path / "results" / "speed.json").read_text())
    assert facts["load"] == 0.5
    assert facts["hardware"]["cores"] >= 1
    assert facts["versions"]["torch"].split("+")[0] in (tmp_path / "results" / "speed.md").read_text()
    assert "patterns" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == ["speed.csv", "speed.json", "speed.md"]


def test_markdown_has_as_many_cells_in_each_line_whatever_is_in_them() -> None:
    lines = markdown([fact_row("a | b", "1\n2")]).splitlines()
    assert lines[2].startswith(r"| a \| b | 1 2 |")
    assert {line.replace(r"\|", "").count("|") for line in lines} == {len(Row.__annotations__) + 1}


@pytest.mark.parametrize("load", [0.4, 4.0])
def test_a_busy_machine_is_warned_of(
    load: float, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(record, "available_cores", lambda: 2)
    monkeypatch.setattr(record.os, "getloadavg", lambda: (load, 0.0, 0.0))
    assert record.load_at_start() == {"load average at the start": load}
    assert ("busy" in capsys.readouterr().err) == (load > 1)


@pytest.mark.parametrize(
    ("arguments", "folder"), [([], record.RESULTS), (["--quick"], None), (["--quick", "--results", "x"], Path("x"))]
)
def test_a_trial_does_not_replace_a_measurement(arguments: list[str], folder: Path | None) -> None:
    assert record.folder_of(record.parser(None).parse_args(arguments)) == folder


def _rows(quick: bool) -> list[Row]:
    return [fact_row("quick", str(quick))]


def test_a_benchmark_by_its_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["one", "--quick", "--results", str(tmp_path)])
    record.main(_rows, "one")
    assert "load average at the start" in json.loads((tmp_path / "one.json").read_text())
    assert "| quick | True |" in (tmp_path / "one.md").read_text()
