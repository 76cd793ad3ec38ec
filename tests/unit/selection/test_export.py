from __future__ import annotations

import csv
from pathlib import Path

import h5py
import numpy as np
import pytest

from spi_lightning.instrument import Geometry
from spi_lightning.patterns import open_run
from spi_lightning.patterns.export_cxi import write_cxi
from spi_lightning.patterns.prepare import prepare
from spi_lightning.patterns.prepared import PreparedRun
from spi_lightning.patterns.settings import PrepareSettings
from spi_lightning.selection.export import export_selections
from spi_lightning.selection.names import file_name
from spi_lightning.selection.select import select_all
from spi_lightning.selection.steps.em import EM
from spi_lightning.selection.steps.threshold import Threshold
from tests.unit.selection.known import context, findings


@pytest.fixture
def run(tmp_path: Path) -> PreparedRun:
    """Eight patterns with the ids of the findings."""
    counts = np.random.default_rng(1).poisson(1.0, (8, 6, 5)).astype(np.uint16)
    geometry = Geometry(photon_energy=1700.0, distance=0.13, pixel_size=75e-6, centre=(2.0, 2.5))
    write_cxi(
        tmp_path / "run1.cxi",
        [counts],
        8,
        shape=(6, 5),
        dtype=np.uint16,
        geometry=geometry,
        ids=[f"run1:{place}" for place in range(8)],
    )
    return prepare(open_run(tmp_path / "run1.cxi"), PrepareSettings(), Geometry())


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_selection_is_written_in_every_form(tmp_path: Path, run: PreparedRun) -> None:
    known = findings()
    plans = {
        "singles": [("threshold", Threshold())],
        "singles + EM": [("threshold", Threshold()), ("em", EM())],
        "none": [("threshold", Threshold("fixed", 1.0))],
    }
    select_all(plans, context(known))
    (tmp_path / "out").mkdir()
    files = export_selections(tmp_path / "out", known, run, csv=True, cxi=True, emc=True)

    assert sorted(path.name for path in files) == sorted(
        [
            *("singles.csv", "singles.csv", "singles.cxi", "singles.emc", "none.csv", "none.csv"),
            *("singles_em.csv", "singles_em.csv", "singles_em.cxi", "singles_em.emc"),
        ]
    )
    table = rows(tmp_path / "out/singles_em.csv")
    assert table == [
        *[
            {"id": "run1:0", "index": "0", "score": "0.9", "label": "1", "diameter_nm": "60", "fidelity": "1.5"}
            | {"em_class": "0"}
        ]
    ]
    assert [row["diameter_nm"] for row in rows(tmp_path / "out/singles.csv")] == ["60", "84", "90", ""]
    dropped = rows(tmp_path / "out/dropped/singles_em.csv")
    assert [(row["id"], row["reason"]) for row in dropped] == [
        ("run1:1", "in an EM class that is not one of single hits"),
        ("run1:2", "in an EM class that is not one of single hits"),
        ("run1:3", "no photons in the range of EM"),
    ]
    assert rows(tmp_path / "out/dropped/singles.csv") == []
    with h5py.File(tmp_path / "out/singles.cxi") as file:
        assert file["entry_1/image_1/ids"].asstr()[()].tolist() == [f"run1:{place}" for place in range(4)]
        assert np.array_equal(file["entry_1/image_1/data"], run.read(range(4)))


@pytest.mark.parametrize(
    ("name", "file"),
    [("singles + EM", "singles_em"), ("D_M", "d_m"), ("../../etc", "etc"), ("größe", "größe"), ("!", "selection")],
)
def test_a_name_becomes_a_plain_file(name: str, file: str) -> None:
    assert file_name(name) == file


def test_what_an_earlier_job_has_written_is_replaced(tmp_path: Path, run: PreparedRun) -> None:
    (tmp_path / "out").mkdir()
    for cut in (0.5, 0.95):
        known = findings()
        select_all({f"above {cut}": [("threshold", Threshold("fixed", cut))]}, context(known))
        export_selections(tmp_path / "out", known, run, csv=True, cxi=True, emc=False)
    names = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")}
    assert names == {"above_0.95.csv", "dropped/above_0.95.csv"}
