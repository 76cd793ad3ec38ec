from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from spi_lightning.data.groups import groups_of
from spi_lightning.errors import SpiError
from spi_lightning.instrument import Geometry
from spi_lightning.patterns import open_run
from spi_lightning.patterns.export_cxi import write_cxi
from spi_lightning.patterns.prepare import prepare
from spi_lightning.patterns.settings import PrepareSettings
from tests.unit.data.labelled import labelled_run
from tests.unit.patterns.fake_run import GEOMETRY, photons


def write(path: Path, n: int, ids: list[str] | None = None) -> Path:
    path.parent.mkdir(exist_ok=True)
    write_cxi(path, [photons(n)], n, shape=(24, 30), dtype=np.uint16, geometry=GEOMETRY, ids=ids)
    return path


def test_blocks_are_consecutive_and_of_equal_size() -> None:
    groups = groups_of(labelled_run([0] * 103), "block", 10)
    assert (np.diff(groups) >= 0).all()
    assert np.unique(groups).tolist() == list(range(10))
    assert set(np.bincount(groups)) == {10, 11}


def test_without_groups_each_pattern_is_its_own() -> None:
    assert groups_of(labelled_run([0] * 7), "none", 1).tolist() == list(range(7))


def test_files_are_groups_whatever_their_ids(tmp_path: Path) -> None:
    paths = [write(tmp_path / "b.cxi", 3, ["x", "y", "z"]), write(tmp_path / "a.cxi", 2), write(tmp_path / "c.cxi", 1)]
    run = open_run(paths)
    prepared = prepare(run, PrepareSettings(), Geometry())
    assert groups_of(run, "file", 1).tolist() == [0, 0, 0, 1, 1, 2]
    assert groups_of(prepared, "file", 1).tolist() == [0, 0, 0, 1, 1, 2]


def test_runs_come_from_ids_file_names_and_folders(tmp_path: Path) -> None:
    paths = [
        write(tmp_path / "amo86615_r0007_part2.cxi", 2),
        write(tmp_path / "selected.cxi", 3, ["run9:1", "r0007:5", "amo-R0011:3"]),
        write(tmp_path / "run9" / "detector2_frames.cxi", 1, ["12:34"]),
        write(tmp_path / "CORR-R0012-DA01-S00000.cxi", 1),
    ]
    groups = groups_of(open_run(paths), "run", 1)
    #           r7    run9 r7 R11  run9 (folder)  R12
    assert groups.tolist() == [0, 0, 1, 0, 2, 1, 3]


@pytest.mark.parametrize("name", ["sim1", "frames_0007", "run7_r8", "detector3"])
def test_a_run_that_cannot_be_told_is_refused(tmp_path: Path, name: str) -> None:
    run = open_run(write(tmp_path / "elsewhere" / f"{name}.cxi", 2))
    with pytest.raises(SpiError, match=f"2 of 2 patterns.*{name}.*split.group=file"):
        groups_of(run, "run", 1)


def test_more_blocks_than_patterns_are_refused() -> None:
    with pytest.raises(SpiError, match=r"split.blocks is 4, but the data has 3"):
        groups_of(labelled_run([0] * 3), "block", 4)


def test_run_0_is_a_run(tmp_path: Path) -> None:
    folder = tmp_path / "run7"
    run = open_run([write(folder / "amo_r0000.cxi", 2, ["a", "b"]), write(folder / "amo_r0003.cxi", 1, ["c"])])
    assert groups_of(run, "run", 1).tolist() == [0, 0, 1]
    alone = open_run([write(tmp_path / "run7" / "x_r0000.cxi", 1, ["d"]), write(tmp_path / "run7" / "y.cxi", 1, ["e"])])
    assert groups_of(alone, "run", 1).tolist() == [0, 1]
