"""spi-simulate as a user runs it: its files, its reproducibility, and what survives a kill."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from spi_lightning.patterns import open_run
from tests.integration.conftest import BIN

FEW = ("simulate=tiny", "simulate.n_patterns=24", "output.batch=8", "workers=1")


def contents(path: Path) -> dict[str, np.ndarray]:
    found = {}
    with h5py.File(path, "r") as file:
        file["entry_1/image_1"].visititems(
            lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None
        )
    return {name: value for name, value in found.items() if not name.startswith("process_1")}


def same(first: Path, second: Path) -> bool:
    a, b = contents(first), contents(second)
    return a.keys() == b.keys() and all(
        np.array_equal(a[name], b[name], equal_nan=np.asarray(a[name]).dtype.kind == "f") for name in a
    )


def test_a_run_is_a_file_that_reads_back_with_labels_and_truth(spi, tmp_path: Path) -> None:
    spi("spi-simulate", *FEW, "run=a", "output.dragonfly=true")
    folder = tmp_path / "a"
    run = open_run(folder / "patterns.cxi")
    assert (len(run), run.shape) == (24, (96, 48))
    assert run.dtype.kind == "u"
    assert run.geometry.photon_energy == pytest.approx(1700.0)
    assert run.geometry.centre == pytest.approx((-0.5, 47.5))
    assert set(np.unique(run.labels)) <= {0, 1}
    truth = contents(folder / "patterns.cxi")
    assert truth["truth/kind"].shape == (24,)
    assert truth["truth/quaternion"].shape == (24, 6, 4)
    photons = open_run(folder / "photons.emc", detector=folder / "detector.h5")
    assert np.array_equal(photons.read(range(24)), np.where(run.mask, run.read(range(24)), photons.read(range(24))))
    assert json.loads((folder / "status.json").read_text())["state"] == "complete"
    provenance = json.loads((folder / "provenance.json").read_text())
    assert provenance["versions"]["torch"]
    assert provenance["patterns"] == 24
    assert not (folder / "parts").exists()


def test_processes_parts_and_order_do_not_change_a_count(spi, tmp_path: Path) -> None:
    spi("spi-simulate", *FEW, "run=one")
    spi("spi-simulate", *FEW, "run=two", "workers=2", "output.batch=5")
    assert same(tmp_path / "one/patterns.cxi", tmp_path / "two/patterns.cxi")


def test_a_longer_run_begins_with_the_shorter_one(spi, tmp_path: Path) -> None:
    spi("spi-simulate", *FEW, "run=short")
    spi("spi-simulate", *FEW, "run=long", "simulate.n_patterns=30")
    short, long = (contents(tmp_path / name / "patterns.cxi")["data"] for name in ("short", "long"))
    assert np.array_equal(long[:24], short)


def test_a_killed_run_goes_on_and_ends_as_if_nothing_had_been(spi, tmp_path: Path) -> None:
    many = (*FEW[:1], "simulate.n_patterns=400", "output.batch=20", "workers=1")
    process = subprocess.Popen(
        [str(BIN / "spi-simulate"), *many, "run=killed"], cwd=tmp_path, stdout=subprocess.DEVNULL
    )
    parts = tmp_path / "killed/parts"
    for _ in range(3000):
        if len(list(parts.glob("part-*.h5"))) >= 3 or process.poll() is not None:
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    whole = list(parts.glob("part-*.h5"))
    assert 3 <= len(whole) < 20, "the run was not interrupted in the middle"
    assert not (tmp_path / "killed/patterns.cxi").exists()
    written = {path: path.stat().st_mtime_ns for path in whole}

    refused = spi("spi-simulate", *many, "run=killed", "simulate.seed=9", ok=False)
    assert refused.returncode == 1
    assert "simulate.seed is 1 there and 9 here" in refused.stderr
    assert {path: path.stat().st_mtime_ns for path in whole} == written

    spi("spi-simulate", *many, "run=killed")
    spi("spi-simulate", *many, "run=undisturbed")
    assert same(tmp_path / "killed/patterns.cxi", tmp_path / "undisturbed/patterns.cxi")
    assert "nothing is left to do" in spi("spi-simulate", *many, "run=killed").stdout


def test_raw_frames_in_detector_units_come_back_as_photons(spi, tmp_path: Path) -> None:
    """Simulate with read-out noise, then let spi-inspect find the gain and convert."""
    raw = ("simulate.detector.adu_per_photon=7.8", "simulate.detector.adu_noise=1.4")
    spi("spi-simulate", *FEW, "run=raw", *raw)
    spi("spi-inspect", "data=raw_adu", "data.path=raw/patterns.cxi", "run=look")
    found = json.loads((tmp_path / "look/summary.json").read_text())["found"]
    assert found["gain"] == pytest.approx(7.8, rel=0.03)
    assert found["noise"] == pytest.approx(1.4, rel=0.1)


def test_any_density_map_can_be_the_particle(spi, tmp_path: Path, shared_data: Path) -> None:
    spi(
        "spi-simulate",
        *FEW,
        "run=map",
        "particle@simulate.particles.virus=density_map",
        f"simulate.particles.virus.path={shared_data / 'prd1_1W8X_capsid_1nm.mrc.gz'}",
        "simulate.particles.virus.map_diameter=66.0",
        "simulate.n_patterns=8",
        "simulate.composition.single.share=1000",
        "simulate.beam.transmission=0.3",  # the empty capsid scatters less than the whole virus
    )
    totals = open_run(tmp_path / "map/patterns.cxi").read(range(8)).sum((1, 2))
    assert totals.min() > 500


def test_a_preset_of_every_name_runs(spi, tmp_path: Path) -> None:
    presets = sorted(path.stem for path in (Path(__file__).parents[2] / "conf/simulate").glob("*.yaml"))
    assert {"paper", "amo86615", "demo", "tiny"} <= set(presets)
    for preset in presets:
        few = ("simulate.n_patterns=4", "simulate.expert.labelled=null", "workers=1")
        spi("spi-simulate", f"simulate={preset}", f"run={preset}", *few)
        assert len(open_run(tmp_path / preset / "patterns.cxi")) == 4


def test_jobs_of_a_sweep_get_folders_of_their_own_and_a_failed_one_does_not_stop_the_others(spi, tmp_path) -> None:
    done = spi("spi-simulate", "-m", *FEW, "run=sweep", "simulate.least_photons=1e12,300", ok=False)
    assert done.returncode != 0
    states = {folder.name: json.loads((folder / "status.json").read_text()) for folder in tmp_path.glob("sweep/[0-9]")}
    assert (states["0"]["state"], states["1"]["state"]) == ("failed", "complete")
    assert "Lower simulate.least_photons" in states["0"]["error"]
    assert (tmp_path / "sweep/0/traceback.txt").exists()
    assert (tmp_path / "sweep/1/patterns.cxi").exists()
    assert not (tmp_path / "sweep/0/patterns.cxi").exists()
