from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spi_lightning.errors import SpiError
from spi_lightning.patterns import label_files
from spi_lightning.patterns.labels import read_labels

IDS = np.array([f"run{r}:{i}" for r in (7, 12) for i in range(5)])
SINGLES = [0, 3, 7]  # run7:0, run7:3, run12:2
AS_LIST = np.isin(np.arange(10), SINGLES).astype(np.int8)
AS_CLASSES = np.array([1, -1, 0, 1, -1, -1, -1, 1, -1, -1], np.int8)  # run7:2 is the only one called other


@pytest.mark.parametrize(
    "text",
    [
        "0\n3\n7\n",
        "7\n0\n3",
        "\ufeff# by hand\n\n0\n  # weak\n3\n7\n",
        "index\n0\n3\n7\n",
        "run7:0\nrun7:3\nrun12:2\n",
        "id\nrun7:0\nrun7:3\nrun12:2\n",
        "7 0\n7 3\n12 2\n",  # run number and index, as Li et al. list them
        "run,index\n7,0\n7,3\n12,2\n",
        "r0007;0\nr0007;3\nr0012;2\n",
        "run7\t0\nrun7\t3\nrun12\t2\n",
        "[0, 3, 7]",
        '["run7:0", "run7:3", "run12:2"]',
        "[[7, 0], [7, 3], [12, 2]]",
        '{"indices": [0, 3, 7]}',
        '{"ids": ["run7:0", "run7:3", "run12:2"]}',
        '{"singles": [0, 3, 7]}',
    ],
)
def test_a_list_of_singles_makes_all_others_zero(tmp_path: Path, text: str):
    path = tmp_path / "singles.txt"
    path.write_text(text)
    labels = read_labels(path, IDS)
    assert labels.dtype == np.int8
    np.testing.assert_array_equal(labels, AS_LIST)
    if not text.startswith('{"i'):
        np.testing.assert_array_equal(read_labels(path, IDS, kind="singles"), AS_LIST)


@pytest.mark.parametrize(
    "text",
    [
        "id,label\nrun7:0,1\nrun7:3,1\nrun12:2,1\nrun7:2,0\n",
        "run7:2, 0\nrun12:2, 1\nrun7:3, 1\nrun7:0, 1,\n",
        "index label\n0 1\n3 1\n7 1\n2 0\n",
        "0 1.0\n3 1.0\n7 1.0\n2 0.0\n1 -1.0",
        "run,index,label\nrun7,0,1\nrun7,3,1\nrun12,2,1\nrun7,2,0\n",
        '{"run7:0": 1, "run7:3": true, "run12:2": 1, "run7:2": 0}',
        '{"ids": ["run7:0", "run7:3", "run12:2", "run7:2"], "labels": [1, 1, 1, 0]}',
        '{"indices": [0, 3, 7, 2], "labels": [1, 1, 1, 0]}',
        "[[0, 1], [3, 1], [7, 1], [2, 0]]",
    ],
)
def test_classes_leave_what_is_not_listed_unknown(tmp_path: Path, text: str):
    path = tmp_path / "classes.csv"
    path.write_text(text)
    np.testing.assert_array_equal(read_labels(path, IDS), AS_CLASSES)
    np.testing.assert_array_equal(read_labels(path, IDS, kind="classes"), AS_CLASSES)


@pytest.mark.parametrize(
    "text", ["1\n0\n0\n1\n0\n0\n0\n1\n0\n0\n", "label\n1\n0\n0\n1\n0\n0\n0\n1\n0\n0", str(list(AS_LIST))]
)
def test_one_label_a_line_for_every_pattern(tmp_path: Path, text: str):
    path = tmp_path / "labels.txt"
    path.write_text(text.replace("np.int8(", "").replace(")", ""))
    np.testing.assert_array_equal(read_labels(path, IDS), AS_LIST)


def test_kind_decides_between_a_list_and_run_numbers(tmp_path: Path):
    path = tmp_path / "pairs.txt"
    path.write_text("7 0\n12 1\n")  # run and index, but might be index and label
    assert np.flatnonzero(read_labels(path, IDS, kind="singles") == 1).tolist() == [0, 6]
    with pytest.raises(SpiError, match="12"):
        read_labels(path, IDS, kind="classes")


def test_ids_of_the_facility_in_two_columns(tmp_path: Path):
    path = tmp_path / "pulses.txt"
    path.write_text("trainId pulseId\n1000 8\n1001 0\n")
    ids = np.array([f"{t}:{p}" for t in (1000, 1001) for p in (0, 4, 8)])
    np.testing.assert_array_equal(read_labels(path, ids), [0, 0, 1, 1, 0, 0])


def test_ids_with_blanks_are_not_taken_for_columns(tmp_path: Path):
    path = tmp_path / "singles.txt"
    path.write_text("my run:2\nmy run:1\n")
    np.testing.assert_array_equal(read_labels(path, np.array([f"my run:{i}" for i in range(4)])), [0, 1, 1, 0])


class TestHdf5:
    @staticmethod
    def write(path: Path, **datasets: object) -> Path:
        with h5py.File(path, "w") as file:
            for name, values in datasets.items():
                file[name.replace("__", "/")] = values
        return path

    def test_the_only_dataset_called_labels_is_found(self, tmp_path: Path):
        path = self.write(tmp_path / "a.cxi", entry_1__image_1__labels=AS_LIST.astype(np.uint8), entry_1__x=[1, 2])
        np.testing.assert_array_equal(read_labels(path, IDS), AS_LIST)

    @pytest.mark.parametrize(
        "values", [AS_LIST.astype(bool), AS_LIST.astype(float), AS_LIST, SINGLES, [b"run7:0", b"run7:3", b"run12:2"]]
    )
    def test_a_dataset_that_was_named_may_be_classes_or_a_list(self, tmp_path: Path, values: object):
        path = self.write(tmp_path / "a.h5", chosen__them=values)
        np.testing.assert_array_equal(read_labels(path, IDS, dataset="chosen/them"), AS_LIST)

    def test_ids_beside_the_labels_say_whose_they_are(self, tmp_path: Path):
        path = self.write(tmp_path / "a.h5", g__labels=[0, 1, 1, 1], g__ids=["run7:2", "run12:2", "run7:3", "run7:0"])
        np.testing.assert_array_equal(read_labels(path, IDS), AS_CLASSES)

    def test_run_and_index_in_two_columns(self, tmp_path: Path):
        path = self.write(tmp_path / "a.h5", singles=[[7, 0], [7, 3], [12, 2]])
        np.testing.assert_array_equal(read_labels(path, IDS, dataset="singles"), AS_LIST)

    @pytest.mark.parametrize(
        ("datasets", "dataset", "expected"),
        [
            ({"x": [1]}, None, "no datasets called 'labels'.*/x"),
            ({"a__labels": AS_LIST, "b__labels": AS_LIST}, None, "2 datasets.*labels.dataset"),
            ({"labels": AS_LIST}, "lables", "no dataset 'lables'"),
            ({"a__labels": AS_LIST}, "a", "no dataset 'a'"),
            ({"labels": np.zeros((2, 2, 2))}, None, r"shape \(2, 2, 2\)"),
            ({"labels": np.zeros(0)}, None, r"shape \(0,\)"),
            ({"labels": 1}, None, r"shape \(\)"),
            ({"labels": np.full(10, 0.5)}, None, "no labels"),
            ({"labels": np.full(10, np.nan)}, None, "no labels"),
            ({"labels": np.zeros(10, complex)}, None, "no labels"),
            ({"labels": AS_LIST[:7]}, None, "7 labels.*10 patterns.*labels.kind=singles"),
            ({"labels": AS_LIST * 2}, None, "'2'"),
        ],
    )
    def test_errors_say_what_is_in_the_file(self, tmp_path: Path, datasets: dict, dataset: str | None, expected: str):
        path = self.write(tmp_path / "a.h5", **datasets)
        with pytest.raises(SpiError, match=f"(?s)a.h5.*{expected}"):
            read_labels(path, IDS, dataset=dataset)


@pytest.mark.parametrize(
    ("text", "kind", "expected"),
    [
        ("", "auto", "empty"),
        ("# nothing\n\n", "auto", "lists no pattern"),
        ("id,label\n", "auto", "lists no pattern"),
        ("[]", "auto", "lists no pattern"),
        ("3\n7\n3\n7\n0\n", "auto", "2 patterns are listed more than once.*'3', '7'"),
        ("run7:0,1\nrun7:0,0\n", "auto", "1 patterns have contradictory labels.*'run7:0'"),
        ("0\n3\n99\n-1\n", "auto", "2 of 4 indices are out of range.*'99', '-1'.*0 to 9"),
        ("3\n3\n3\n", "auto", "1 patterns are listed more than once.*'3'"),
        ("run7:0,1\nrun7:0,0\nrun7:0,1\n", "auto", "1 patterns have contradictory labels"),
        (
            "pattern_no,is_hit\nrun7:0,1\n",
            "auto",
            "If the first line is a header.*pattern_id.*single_hit",
        ),
        ("pattern_no,is_hit\nrun7:0,1\n", "classes", "1 of 2 labels are none.*If the first line is a header.*label"),
        ("4\n10\n", "auto", "Does the list count from 1"),
        ("run7:0\nrun8:1\nrun7:9\n", "auto", "2 of 3 patterns.*'run8:1', 'run7:9'.*run7:0.*run12:4"),
        ("8 0\n7 9\n", "singles", "2 of 2 patterns.*'8:0', '7:9'"),
        ("9" * 5000, "auto", "not in the data"),
        ("run7:0,1\nrun7:1,2\n", "classes", "1 of 2 labels are none.*'2'"),
        ("1\n0\n1\n", "classes", "3 labels in one column; the data has 10"),
        ("run7:0,1\nrun7:1\n", "auto", "entry 2 has 1 columns"),
        ('"run7:0,1\n', "auto", "quotation"),
        ('{"run7:0": 1, "run7:0": 0}', "auto", "'run7:0' more than once"),
        ('{"run7:0": 1', "auto", "JSON"),
        ("[" * 100_000, "auto", "JSON"),
        ("[1, null]", "auto", "null"),
        ("[NaN]", "auto", "NaN"),
        ('{"run7:0": {"label": 1}}', "auto", "label"),
        ('{"ids": ["run7:0"], "labels": [1, 0]}', "auto", "1 ids and 2 labels"),
        ("__import__('os').abort()", "auto", "not in the data"),
    ],
)
def test_errors_give_counts_and_examples(tmp_path: Path, text: str, kind: str, expected: str):
    path = tmp_path / "mine.txt"
    path.write_text(text)
    with pytest.raises(SpiError, match=f"(?s)mine.txt.*{expected}"):
        read_labels(path, IDS, kind=kind)


def test_whole_numbers_that_are_ids_and_indices_need_a_header(tmp_path: Path):
    ids, path = np.array(["3", "1", "2", "0"]), tmp_path / "list.txt"
    path.write_text("3\n1\n")
    with pytest.raises(SpiError, match=r"ids of some patterns and indices of others.*'3', '1'"):
        read_labels(path, ids)
    path.write_text("id\n3\n1\n")
    np.testing.assert_array_equal(read_labels(path, ids), [1, 1, 0, 0])
    path.write_text("index\n3\n1\n")
    np.testing.assert_array_equal(read_labels(path, ids), [0, 1, 0, 1])
    path.write_text("3\n1\n")  # where both readings mean the same, nothing needs to be said
    np.testing.assert_array_equal(read_labels(path, np.array(["0", "1", "2", "3"])), [0, 1, 0, 1])
    path.write_text("30\n10\n")  # no index reaches so far
    np.testing.assert_array_equal(read_labels(path, np.array(["30", "10", "20"])), [1, 1, 0])


def test_runs_and_indices_of_0_and_1_are_not_taken_for_labels(tmp_path: Path):
    path = tmp_path / "pairs.txt"
    for text in ("7 0\n12 1\n", "7 0\n7 1\n", "[[7, 1], [12, 0]]"):
        path.write_text(text)
        with pytest.raises(SpiError, match=r"run and index.*labels.kind=classes or data.prepare.labels.kind=singles"):
            read_labels(path, IDS)
    path.write_text("7 0\n12 1\n")
    assert np.flatnonzero(read_labels(path, IDS, kind="singles")).tolist() == [0, 6]
    path.write_text("run,index\n7,0\n12,1\n")
    assert np.flatnonzero(read_labels(path, IDS)).tolist() == [0, 6]
    path.write_text("run7:0 1\nrun12:1 0\n")  # ids leave no doubt
    assert read_labels(path, IDS).tolist() == [1, -1, -1, -1, -1, -1, 0, -1, -1, -1]
    path.write_text("index single\n7 0\n8 1\n")
    assert read_labels(path, IDS).tolist() == [-1] * 7 + [0, 1, -1]


def test_labels_of_two_patterns_may_be_a_list_as_well(tmp_path: Path):
    path = tmp_path / "two.txt"
    path.write_text("1\n0\n")
    with pytest.raises(SpiError, match=r"labels.kind=classes or data.prepare.labels.kind=singles"):
        read_labels(path, IDS[:2])
    assert read_labels(path, IDS[:2], kind="classes").tolist() == [1, 0]
    assert read_labels(path, IDS[:2], kind="singles").tolist() == [1, 1]


def test_run_and_index_that_mean_two_patterns_are_refused(tmp_path: Path):
    path = tmp_path / "pairs.txt"
    path.write_text("7 1\n")
    ids = np.array([f"run7:image_{k}:{i}" for k in (1, 2) for i in range(3)])
    with pytest.raises(SpiError, match=r"2 patterns.*run7:image_1:1.*run7:image_2:1"):
        read_labels(path, ids, kind="singles")


def test_files_that_are_no_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "some.bin"
    with pytest.raises(SpiError, match=r"some.bin.*does not exist"):
        read_labels(path, IDS)
    with pytest.raises(SpiError, match="folder"):
        read_labels(tmp_path, IDS)
    path.write_bytes(b"\x93NUMPY\x01\x00")
    with pytest.raises(SpiError, match="binary"):
        read_labels(path, IDS)
    path.write_text("0\n", encoding="utf-16")
    with pytest.raises(SpiError, match="binary"):
        read_labels(path, IDS)
    path.write_bytes(b"run\xff7:0\n")
    with pytest.raises(SpiError, match="binary"):
        read_labels(path, IDS)
    path.write_text("0\n")
    with pytest.raises(SpiError, match="no HDF5 file"):
        read_labels(path, IDS, dataset="labels")
    monkeypatch.setattr(label_files, "LARGEST_TEXT", 10)
    path.write_text("0\n" * 20)
    with pytest.raises(SpiError, match="40 bytes"):
        read_labels(path, IDS)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.one_of(
        st.binary(max_size=40),
        st.text("0123456789,;:\t\n\"# -.run[]{}", max_size=40).map(str.encode),
        st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
                     lambda part: st.lists(part, max_size=4) | st.dictionaries(st.text(max_size=5), part, max_size=4),
                     max_leaves=8).map(lambda value: json.dumps(value).encode()),
    ),
    kind=st.sampled_from(["auto", "classes", "singles"]),
)  # fmt: skip
def test_any_content_is_read_or_refused_in_words(tmp_path: Path, content: bytes, kind: str):
    path = tmp_path / "any"
    path.write_bytes(content)
    try:
        labels = read_labels(path, IDS, kind=kind)
    except SpiError as error:
        message = str(error)
    else:
        assert labels.shape == (10,)
        assert set(labels.tolist()) <= {-1, 0, 1}
        return
    assert str(path) in message


def test_the_labels_of_the_real_file(shared_data: Path):
    path = shared_data / "pr772_amo86615_20_labelled.cxi"
    ids = np.array([f"{path.stem}:{i}" for i in range(20)])
    labels = read_labels(path, ids)
    assert np.flatnonzero(labels == 1).tolist() == [1, 2, 3, 5, 6, 10, 13, 19]
    assert set(labels.tolist()) == {0, 1}
