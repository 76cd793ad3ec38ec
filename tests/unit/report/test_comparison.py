from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spi_lightning.errors import SpiError
from spi_lightning.inference.scores import Origin, Scores, read_scores, score_file
from spi_lightning.records import rows_of
from spi_lightning.report.circumstances import circumstances, code_is_same
from spi_lightning.report.comparison import (
    TABLES,
    Tolerance,
    Verdict,
    agreement,
    compare_scores,
    compare_tables,
    compare_values,
)
from spi_lightning.report.reproduction import conclusion, write_reproduction

WIDE = Tolerance(absolute=0.05, relative=0.1, count=3, probability=0.02)
cells = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.integers(0, 10**6).map(str),
    st.sampled_from(["", "score below 0.5", "12 → 3", "none"]),
)


@given(cells)
def test_a_value_is_identical_to_itself(cell: str) -> None:
    for tolerance in (None, WIDE):
        assert compare_values(cell, cell, tolerance)[1] is Verdict.IDENTICAL


@given(cells, cells)
def test_without_tolerance_every_other_text_differs(before: str, now: str) -> None:
    verdict = compare_values(before, now, None)[1]
    assert (verdict is Verdict.IDENTICAL) == (before == now)
    assert verdict.agrees == (before == now)


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_numbers_agree_within_the_larger_bound(before: float, now: float) -> None:
    difference, verdict = compare_values(repr(before), repr(now), WIDE)
    assert difference == now - before
    assert verdict.agrees == (abs(now - before) <= max(WIDE.absolute, WIDE.relative * abs(before)))


@given(st.integers(0, 10**5), st.integers(0, 10**5))
def test_counts_have_a_bound_of_their_own(before: int, now: int) -> None:
    verdict = compare_values(str(before), str(now), WIDE)[1]
    assert verdict.agrees == (abs(now - before) <= max(WIDE.count, WIDE.relative * before))


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 0.5), st.floats(0, 0.5))
def test_a_wider_tolerance_never_refuses_what_a_narrower_one_takes(a: float, b: float, one: float, two: float) -> None:
    narrow, wide = (dataclasses.replace(WIDE, absolute=bound) for bound in sorted((one, two)))
    if compare_values(repr(a), repr(b), narrow)[1].agrees:
        assert compare_values(repr(a), repr(b), wide)[1].agrees


def test_a_number_that_is_lost_differs_and_other_text_is_not_judged() -> None:
    assert compare_values("0.3", "", WIDE) == (None, Verdict.DIFFERS)
    assert compare_values("", "0.3", WIDE) == (None, Verdict.DIFFERS)
    assert compare_values("EM classes 0, 2 of 20", "EM classes 1, 5, 6 of 20", WIDE) == (None, Verdict.NOT_JUDGED)
    assert compare_values("A fringe is missing.", "", WIDE) == (None, Verdict.DIFFERS)


rows = st.lists(
    st.fixed_dictionaries({"selection": st.sampled_from("abc"), "name": st.sampled_from("xy"), "after": cells}),
    max_size=6,
)


@given(rows)
def test_a_table_is_identical_to_itself_however_often_a_row_is_named(table: list[dict[str, str]]) -> None:
    found = compare_tables("selection_steps", table, table, None)
    assert [value.verdict for value in found] == [Verdict.IDENTICAL] * len(table)


def test_rows_and_columns_that_are_gone_are_missing_and_new_ones_are_passed_over() -> None:
    before = [{"by": "labels", "quantity": "f1", "value": "0.5"}, {"by": "labels", "quantity": "auroc", "value": "0.9"}]
    now = [{"by": "labels", "quantity": "auroc", "value": "0.9", "new": "1"}, {"by": "truth", "quantity": "f1"}]
    found = compare_tables("test", before, now, WIDE)
    assert {value.row: value.verdict for value in found if value.column == "value"} == {
        "labels; f1": Verdict.MISSING,
        "labels; auroc": Verdict.IDENTICAL,
    }
    assert {value.row for value in found} == {"labels; f1", "labels; auroc"}
    assert all(value.verdict is Verdict.MISSING for value in compare_tables("test", before, [], WIDE))


def test_a_reason_that_nothing_was_dropped_for_counts_as_none_and_a_threshold_in_it_may_be_another() -> None:
    def row(reason: str, patterns: int) -> dict[str, str]:
        return {"selection": "singles", "reason": reason, "patterns": str(patterns)}

    before = [row("score below 0.84", 100), row("size below 55 nm", 2)]
    now = [row("score below 0.85", 102), row("size above 84 nm", 5)]
    counts = {
        v.row: v.verdict for v in compare_tables("selection_reasons", before, now, WIDE) if v.column == "patterns"
    }
    assert counts == {
        "singles; score below 0.84": Verdict.WITHIN,
        "singles; size below 55 nm": Verdict.WITHIN,
        "singles; size above 84 nm": Verdict.DIFFERS,
    }


def test_scores_are_compared_network_by_network(tmp_path: Path) -> None:
    values = np.random.default_rng(1).random((40, 3), dtype=np.float32) * 0.9

    def scores(values: np.ndarray, threshold: float = 0.5, first: str = "p") -> Scores:
        ids, origin = np.array([f"{first}{index}" for index in range(40)]), Origin("s", "d", threshold, ("none",))
        with score_file(tmp_path / "scores.h5", ids, 3, origin) as write:
            write(0, values)
        return read_scores(tmp_path / "scores.h5")

    def verdicts(now: Scores, tolerance: Tolerance | None) -> list[Verdict]:
        return [value.verdict for value in compare_scores("scores.h5", before, now, tolerance)]

    before = scores(values)
    assert verdicts(scores(values), None) == [Verdict.IDENTICAL] * 3
    assert verdicts(scores(values[:, ::-1]), None)[1] is Verdict.DIFFERS  # the mean is the same, the networks are not
    near, far = scores(values + np.float32(0.01)), scores(values + np.float32(0.03))
    assert all(verdict.agrees for verdict in verdicts(near, WIDE))
    assert not all(verdict.agrees for verdict in verdicts(near, None))
    assert verdicts(far, WIDE) == [Verdict.DIFFERS, Verdict.NOT_JUDGED, Verdict.IDENTICAL]
    assert verdicts(scores(values, first="q"), WIDE) == [Verdict.DIFFERS]
    assert verdicts(scores(values, threshold=0.6), WIDE)[2] is Verdict.DIFFERS


def test_what_is_written_says_what_differs(tmp_path: Path) -> None:
    before = [{"by": "labels", "quantity": "f1", "value": "0.5", "low": "0.4"}]
    now = [{"by": "labels", "quantity": "f1", "value": "0.7", "low": "0.41"}]
    found = compare_tables("test", before, now, WIDE)
    write_reproduction(tmp_path, found, [], ["A note."], exact=False)
    written = rows_of(tmp_path / "reproduction.csv")
    assert [(row["column"], row["verdict"]) for row in written] == [("value", "differs"), ("low", "within tolerance")]
    assert float(written[0]["difference"]) == pytest.approx(0.2)
    text = (tmp_path / "reproduction.md").read_text()
    assert "Does not agree (within the tolerance): of 2 values 1 within tolerance, 1 differs." in text
    assert "A note." in text
    assert agreement(found) == {Verdict.DIFFERS: 1, Verdict.WITHIN: 1}
    assert conclusion(found[1:], exact=False).startswith("Reproduced within the tolerance")
    (tmp_path / "bad.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SpiError, match="cannot be read as a table"):
        rows_of(tmp_path / "bad.csv")


def test_every_table_has_columns_that_tell_its_rows_apart() -> None:
    from spi_lightning.report.selections import SelectionRow
    from spi_lightning.report.tables import Row

    for name, kind in (("cross_validation", Row), ("test", Row), ("selections", SelectionRow)):
        assert set(TABLES[name]) <= {field.name for field in dataclasses.fields(kind)}


NOW = {
    "versions": {"torch": "2.1", "numpy": "2.0"},
    "machine": {"system": "Linux", "processor": "EPYC"},
    "commit": "a" * 40,
    "device": "cpu",
    "computes with": "AVX512",
    "threads": 2,
    "threads of each fold": [1, 1],
    "data": "d" * 64,
    "labels": "e" * 64,
    "truth": None,
}


def _verdicts(*then: dict[str, object], code: bool | None = True) -> dict[str, str]:
    return {each.name: each.verdict for each in circumstances(then, NOW, code)}


def test_circumstances_are_the_same_another_or_unknown() -> None:
    assert set(_verdicts(NOW).values()) == {"same"}
    other = _verdicts({**NOW, "versions": {"torch": "2.0", "h5py": "3"}, "device": "cuda", "threads": None})
    assert {name for name, verdict in other.items() if verdict == "differs"} == {"torch", "h5py", "device"}
    assert {name for name, verdict in other.items() if verdict == "not recorded"} == {"numpy", "threads"}
    assert set(_verdicts({}, code=None).values()) == {"not recorded"}
    assert _verdicts({**NOW, "truth": "f" * 64})["truth"] == "not recorded"
    several = _verdicts(NOW, {**NOW, "versions": {"torch": "2.0"}, "threads": 1, "data": None})
    assert {name for name, verdict in several.items() if verdict != "same"} == {"torch"}


def test_the_code_is_the_same_where_nothing_of_the_package_has_changed() -> None:
    one, two = "a" * 40, "b" * 40
    ours = "diff --git a/spi_lightning/x.py b/spi_lightning/x.py\n-a\n+b"
    docs = "diff --git a/docs/x.md b/docs/x.md\n-a\n+b"
    assert code_is_same((one, None), (one, None), []) is True
    assert code_is_same((one, docs), (one, f"{docs}\n{docs}"), []) is True
    assert code_is_same((one, ours), (one, f"{docs}\n{ours}\n"), ["spi_lightning/x.py"]) is True
    assert code_is_same((one, ours), (one, None), []) is False
    assert code_is_same((one, None), (one, ours), ["spi_lightning/x.py"]) is False
    assert code_is_same((one, None), (two, None), []) is True
    assert code_is_same((one, None), (two, None), ["conf/train.yaml"]) is False
    assert code_is_same((one, None), (two, None), None) is False
    assert code_is_same((None, None), (two, None), None) is None
