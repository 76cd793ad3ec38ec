from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spi_lightning.data.split_file import read_splits, write_splits
from spi_lightning.data.splits import SplitSettings, make_splits
from spi_lightning.errors import SpiError
from tests.unit.data.labelled import labelled_run, shuffled_labels
from tests.unit.patterns.fake_run import FakeRun

LABELS = shuffled_labels(20, 60, 5)
SCHEME = SplitSettings(singles=None, others=40, folds=2, group="block", blocks=17)


@pytest.fixture
def run() -> FakeRun:
    return labelled_run(LABELS)


@pytest.fixture
def path(run: FakeRun, tmp_path: Path) -> Path:
    write_splits(tmp_path / "splits.json", make_splits(run, SCHEME))
    return tmp_path / "splits.json"


def test_what_is_written_is_read_again(run: FakeRun, path: Path) -> None:
    made, read = make_splits(run, SCHEME), read_splits(path, run)
    assert read.scheme == SCHEME
    assert (read.fingerprint, read.labels_fingerprint) == (made.fingerprint, made.labels_fingerprint)
    assert (read.unlabelled, read.set_aside) == (made.unlabelled, made.set_aside)
    for one, other in zip([*made.folds, made.test], [*read.folds, read.test], strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_file_tells_ids_and_counts(run: FakeRun, path: Path) -> None:
    content, splits = json.loads(path.read_text()), make_splits(run, SCHEME)
    assert content["scheme"]["seed"] == SCHEME.seed
    assert content["data"] == run.fingerprint()
    assert content["unlabelled"] == 5
    for fold, part in zip([*splits.folds, splits.test], [*content["folds"], content["test"]], strict=True):
        assert part["ids"] == [f"run7:{i}" for i in fold]
        assert (part["singles"], part["others"]) == (int(LABELS[fold].sum()), int((LABELS[fold] == 0).sum()))
    assert [p.name for p in path.parent.iterdir()] == ["splits.json"]


def move(content: dict[str, Any]) -> None:
    content["test"]["ids"].append(content["folds"][0]["ids"][0])
    kind = "singles" if LABELS[int(content["folds"][0]["ids"][0].split(":")[1])] == 1 else "others"
    content["test"][kind] += 1


def only_others(content: dict[str, Any]) -> None:
    fold = content["folds"][1]
    fold["ids"] = [name for name in fold["ids"] if LABELS[int(name.split(":")[1])] == 0]
    fold["singles"] = 0


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        (move, "more than once.*fold 0 and the test set"),
        (only_others, "fold 1 of 2 has no single hit"),
        (lambda c: c["folds"][0]["ids"].__setitem__(0, "run8:0"), "not in the data, for instance 'run8:0'"),
        (lambda c: c["folds"][0].__setitem__("singles", 3), "fold 0 says 3 single hits"),
        (lambda c: c["test"]["ids"].pop(), "the test set says"),
        (lambda c: c.__setitem__("format", 2), "no splits.json of format 1"),
        (lambda c: c.pop("test"), "test: this key is missing"),
        (lambda c: c["folds"].pop(), "has 1 folds, its scheme 2"),
        (lambda c: c["scheme"].__setitem__("folds", "many"), "scheme.folds"),
        (lambda c: c["test"].__setitem__("ids", "run7:0"), "damaged: test.ids"),
    ],
)
def test_an_edited_file_is_refused(run: FakeRun, path: Path, edit: Callable[[dict[str, Any]], Any], text: str) -> None:
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))
    with pytest.raises(SpiError, match=text):
        read_splits(path, run)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, '{"format": 1}', "\0"])
def test_a_damaged_file_is_refused(run: FakeRun, path: Path, text: str) -> None:
    path.write_text(text)
    with pytest.raises(SpiError, match=r"splits.json .*which makes splits for these data"):
        read_splits(path, run)


def test_a_binary_or_missing_file_is_refused(run: FakeRun, path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SpiError, match="no text"):
        read_splits(path, run)
    with pytest.raises(SpiError, match="cannot be read"):
        read_splits(path.with_name("none.json"), run)


def test_other_data_and_other_labels_are_refused(run: FakeRun, path: Path) -> None:
    other = labelled_run(LABELS, brightest=3)
    with pytest.raises(SpiError, match="made for other data"):
        read_splits(path, other)
    assert run.labels is not None
    run.labels[np.flatnonzero(run.labels == 0)[0]] = 1
    with pytest.raises(SpiError, match="other labels"):
        read_splits(path, run)
    run.labels = None
    with pytest.raises(SpiError, match="other labels"):
        read_splits(path, run)


def test_the_papers_number_of_patterns_takes_seconds(tmp_path: Path) -> None:
    run = labelled_run(shuffled_labels(1393, 189_790), dtype=np.uint16)
    begin = time.perf_counter()
    splits = make_splits(run, SplitSettings())
    write_splits(tmp_path / "splits.json", splits)
    read = read_splits(tmp_path / "splits.json", run)
    assert time.perf_counter() - begin < 10  # some 2 s on one busy core
    np.testing.assert_array_equal(read.test, splits.test)
    assert (len(read.training), len(read.test)) == (20_000, 171_183)
    assert read.scheme == SplitSettings()
