from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import spi_lightning
from spi_lightning.errors import SpiError
from spi_lightning.inference.scores import Origin, read_scores, score_file, write_selection_csv

ORIGIN = Origin("ensemble", "data", 0.5, ("none", "both"))
IDS = np.array(["run7:0", "Lauf Ä:1", "r3:123456"])
MODELS = np.array([[0.2, 0.4], [1.0, 0.5], [0.0, 1e-7]], np.float32)
LABELS = np.array([1, 0, -1], np.int8)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with score_file(tmp_path / "scores.h5", IDS, 2, ORIGIN, LABELS) as write:
        write(0, MODELS[:2])
        write(2, MODELS[2:])
    return tmp_path / "scores.h5"


def test_round_trip(path: Path) -> None:
    scores = read_scores(path)
    assert scores.ids.tolist() == IDS.tolist()
    assert (scores.models == MODELS).all()
    assert (scores.labels == LABELS).all()
    assert scores.labels.dtype == np.int8
    assert scores.models.dtype == scores.probabilities.dtype == np.float32
    np.testing.assert_allclose(scores.probabilities, [0.3, 0.75, 5e-8], rtol=1e-6)
    assert scores.origin == ORIGIN


def test_other_programs_find_what_is_documented(path: Path) -> None:
    with h5py.File(path) as file:
        assert set(file) == {"id", "probability", "models", "label"}
        assert [name.decode() for name in file["id"][()]] == IDS.tolist()
        assert h5py.check_string_dtype(file["id"].dtype).encoding == "utf-8"
        assert file.attrs["program"] == spi_lightning.__version__
        assert file.attrs["mirrors"] == "none,both"
        assert file.attrs["threshold"] == 0.5


def test_without_labels_and_threshold(tmp_path: Path) -> None:
    origin = Origin("fold 3", "data", None, ("none",))
    with score_file(tmp_path / "predictions.h5", IDS, 1, origin) as write:
        write(1, MODELS[1:, :1])  # in any order
        write(0, MODELS[:1, :1])
        assert (write.probabilities == MODELS[:, 0]).all()
    scores = read_scores(tmp_path / "predictions.h5")
    assert scores.labels is None
    assert scores.origin == origin


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1, max_size=5))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_id_survives(tmp_path: Path, names: list[str]) -> None:
    with score_file(tmp_path / "s.h5", np.array(names), 1, ORIGIN) as write:
        write(0, np.zeros((len(names), 1), np.float32))
    assert read_scores(tmp_path / "s.h5").ids.tolist() == names


def test_what_is_not_whole_does_not_appear(tmp_path: Path) -> None:
    def stopped(*written: tuple[int, np.ndarray]) -> None:
        with score_file(tmp_path / "scores.h5", IDS, 2, ORIGIN) as write:
            for start, models in written:
                write(start, models)

    with pytest.raises(ValueError, match="1 of 3 patterns were given no score"):
        stopped((0, MODELS[:2]))
    for wrong in ((2, MODELS[:2]), (0, MODELS[:, :1]), (-1, MODELS[:1])):
        with pytest.raises(ValueError, match="do not fit"):
            stopped(wrong)
    with pytest.raises(ValueError, match="not finite"):
        stopped((0, MODELS * np.nan))
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SpiError, match="does not exist"), score_file(tmp_path / "no/scores.h5", IDS, 2, ORIGIN):
        pass


def replaced(name: str, values: np.ndarray) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[name]
        file[name] = values

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file.attrs.pop("format"), "not a file of scores"),
        (lambda file: file.attrs.update(version=2), "has version 2 of the format"),
        (lambda file: file.attrs.pop("source"), "where the scores come from"),
        (lambda file: file.attrs.update(threshold="half"), "where the scores come from"),
        (lambda file: file.attrs.update(mirrors="none,sideways"), "where the scores come from"),
        (lambda file: file.attrs.update(mirrors=""), "where the scores come from"),
        (lambda file: file.pop("models"), "'models' is missing"),
        (replaced("id", np.arange(3)), "'id' has another type"),
        (replaced("id", np.array([b"\xff", b"b", b"c"])), "not UTF-8"),
        (replaced("probability", np.zeros((3, 1))), "'probability' has another type or number of axes"),
        (replaced("probability", np.zeros(4, np.float32)), "different numbers of patterns"),
        (replaced("probability", np.full(3, np.nan)), "no probabilities"),
        (replaced("models", MODELS + 1), "no probabilities"),
        (replaced("label", np.array([0, 1, 7], np.int8)), "none of 1, 0, -1"),
    ],
)
def test_files_that_are_none_are_told(path: Path, change: Callable, message: str) -> None:
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(SpiError, match=message) as told:
        read_scores(path)
    assert str(path) in str(told.value)


def test_damaged_and_missing_files_are_told(path: Path) -> None:
    with pytest.raises(SpiError, match="does not exist"):
        read_scores(path.with_name("other.h5"))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(SpiError, match="cannot be opened"):
        read_scores(path)


def test_the_selection_is_sorted_and_can_be_read_as_a_table(tmp_path: Path) -> None:
    path = tmp_path / "selection.csv"
    ids = np.array(["run7:1", 'run "7", second:2', "run7:3"])
    write_selection_csv(path, ids, np.array([0.6, 0.9, 1e-9], np.float32), np.array([0, 1, -1]))
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["id", "probability", "label"]
    assert [row[0] for row in rows[1:]] == [ids[1], ids[0], ids[2]]
    assert [float(row[1]) for row in rows[1:]] == pytest.approx([0.9, 0.6, 1e-9])
    assert [row[2] for row in rows[1:]] == ["1", "0", "-1"]


def test_an_empty_selection_is_a_table_without_rows(tmp_path: Path) -> None:
    write_selection_csv(tmp_path / "selection.csv", np.array([], np.str_), np.array([], np.float32))
    assert (tmp_path / "selection.csv").read_text() == "id,probability\n"


def test_what_a_cascade_left_out_has_the_first_look_alone(tmp_path: Path) -> None:
    origin = Origin("ensemble", "data", 0.5, ("none",), cascade=0.25)
    spared = np.array([[0.2, np.nan], [1.0, 0.5], [0.0, np.nan]], np.float32)
    with score_file(tmp_path / "scores.h5", IDS, 2, origin) as write:
        write(0, spared)
    scores = read_scores(tmp_path / "scores.h5")
    assert scores.origin == origin
    np.testing.assert_array_equal(scores.models, spared)
    np.testing.assert_allclose(scores.probabilities, [0.2, 0.75, 0.0])
    with (
        pytest.raises(ValueError, match="not finite"),
        score_file(tmp_path / "other.h5", IDS, 2, origin) as write,
    ):
        write(0, spared[:, ::-1])
    with h5py.File(tmp_path / "scores.h5", "r+") as file:
        file.attrs["cascade"] = np.nan  # without a cascade, every network has to have a say
    with pytest.raises(SpiError, match="'models' has values that are no probabilities"):
        read_scores(tmp_path / "scores.h5")
