"""Labels to judge by, from files of their own or from the patterns' own files."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from spi_lightning.data.truth import TruthSettings, read_truth
from spi_lightning.errors import SpiError
from spi_lightning.patterns import open_run
from spi_lightning.patterns.prepare import prepare
from spi_lightning.patterns.prepared import PreparedRun
from tests.unit.data.test_groups import write

DATASET = "entry_1/image_1/truth/single"


@pytest.fixture
def run(tmp_path: Path) -> PreparedRun:
    """Two files, the second of which is named first in the alphabet."""
    paths = [write(tmp_path / "b.cxi", 3, ["x", "y", "z"]), write(tmp_path / "a.cxi", 2, ["u", "v"])]
    for path, truth in zip(paths, ([1, 0, 1], [0, 1]), strict=True):
        with h5py.File(path, "a") as file:
            file[DATASET] = np.array(truth, np.int8)
    return prepare(open_run(paths))


def test_it_is_found_in_each_of_the_patterns_own_files(run: PreparedRun) -> None:
    truth = read_truth(run, TruthSettings(dataset=DATASET))
    assert truth is not None
    assert dict(zip(run.ids.tolist(), truth.tolist(), strict=True)) == {"x": 1, "y": 0, "z": 1, "u": 0, "v": 1}


def test_a_file_of_labels_goes_first(run: PreparedRun, tmp_path: Path) -> None:
    (tmp_path / "truth.csv").write_text("id,label\nu,1\nz,0\n")
    truth = read_truth(run, TruthSettings(path=str(tmp_path / "truth.csv")))
    assert truth is not None
    assert dict(zip(run.ids.tolist(), truth.tolist(), strict=True)) == {"x": -1, "y": -1, "z": 0, "u": 1, "v": -1}


def test_nothing_is_looked_for_where_nothing_is_named_and_what_is_missing_is_told(run: PreparedRun) -> None:
    assert read_truth(run, TruthSettings()) is None
    with pytest.raises(SpiError, match="entry_1/nothing"):
        read_truth(run, TruthSettings(dataset="entry_1/nothing"))
