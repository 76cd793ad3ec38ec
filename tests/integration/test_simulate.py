"""spi-simulate as a user runs it: its files, its reproducibility, and what survives a kill."""

from __future__ import annotations

import json
import os
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


def interrupted(folder: Path, arguments: tuple[str, ...], by: signal.Signals) -> int:
    """Start a simulation, end it after three parts, and wait until no process of it is left; its exit status."""
    command = [str(BIN / "spi-simulate"), *arguments, f"run={folder.name}"]
    process = subprocess.Popen(command, cwd=folder.parent, stdout=subprocess.DEVNULL, start_new_session=True)
    for _ in range(6000):
        if len(list(folder.glob("parts/part-*.h5"))) >= 3 or process.poll() is not None:
            break
        time.sleep(0.01)
    process.send_signal(by)
    status = process.wait(timeout=30)
    for _ in range(1000):
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return status
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    raise AssertionError("workers outlived their parent by 20 seconds")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_run_goes_on_and_ends_as_if_nothing_had_been(spi, tmp_path: Path, workers: int) -> None:
    many = (*FEW[:1], "simulate.n_patterns=1200", "output.batch=20", f"workers={workers}")
    interrupted(tmp_path / "killed", many, signal.SIGKILL)
    whole = list(tmp_path.glob("killed/parts/part-*.h5"))
    assert 3 <= len(whole) < 60, "the run was not interrupted in the middle"
    assert not (tmp_path / "killed/patterns.cxi").exists()
    written = {path: path.stat().st_mtime_ns for path in whole}

    refused = spi("spi-simulate", *many, "run=killed", "simulate.seed=9", ok=False)
    assert refused.returncode == 1
    assert "simulate.seed is 1 there and 9 here" in refused.stderr
    assert {path: path.stat().st_mtime_ns for path in whole} == written

    spi("spi-simulate", *many, "run=killed")
    assert not list(tmp_path.glob("killed/**/*.partial-*"))
    spi("spi-simulate", *many, "run=undisturbed")
    assert same(tmp_path / "killed/patterns.cxi", tmp_path / "undisturbed/patterns.cxi")
    assert "nothing is left to do" in spi("spi-simulate", *many, "run=killed").stdout


def test_a_scheduler_s_sigterm_ends_in_order_and_late_settings_may_change(spi, tmp_path: Path) -> None:
    many = (*FEW[:1], "simulate.n_patterns=1200", "output.batch=20", "workers=2")
    assert interrupted(tmp_path / "stopped", many, signal.SIGTERM) == 143
    assert json.loads((tmp_path / "stopped/status.json").read_text())["state"] == "stopped"
    more = (*many, "simulate.n_patterns=1220", "simulate.expert.labelled=9", "output.compression=none")
    spi("spi-simulate", *more, "run=stopped")
    run = open_run(tmp_path / "stopped/patterns.cxi")
    assert len(run) == 1220
    assert (run.labels == 1).sum() == 9


def test_parts_of_another_simulation_are_not_mixed_in(spi, tmp_path: Path) -> None:
    many = (*FEW[:1], "simulate.n_patterns=1200", "output.batch=20", "workers=1")
    interrupted(tmp_path / "run", many, signal.SIGKILL)
    for name in ("config.yaml", "status.json"):
        (tmp_path / "run" / name).unlink()  # as if parts had been copied in
    refused = spi("spi-simulate", *many, "run=run", "simulate.seed=2", ok=False)
    assert "holds parts of a simulation with other settings" in refused.stderr
    assert not (tmp_path / "run/patterns.cxi").exists()


def test_runs_of_two_seeds_are_one_data_set(spi, tmp_path: Path) -> None:
    spi("spi-simulate", "-m", *FEW, "run=seeds", "simulate.seed=1,2")
    run = open_run(tmp_path / "seeds/*/patterns.cxi")
    assert len(run) == 48
    assert len(set(run.ids.tolist())) == 48


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run=/proc/nowhere",), "run: the folder /proc/nowhere cannot be made"),
        (("run=",), "run: the folder to write to is empty"),
        (("output.batch=0",), "output.batch is 0"),
        (("workers=-2",), "workers is -2"),
        (("simulate.detector.beamstop_radius=1000",), "No pixel of the detector records"),
        (("simulate.particles.virus.diameter.high=9000", "workers=2", "output.batch=1"), "diameter.high"),
        (("simulate.particles.droplet.aspect=[0,1]",), "simulate.particles.droplet: aspect is [0.0, 1.0]"),
        (("simulate.particles.virus.capsid_thickness=-5",), "simulate.particles.virus: capsid_thickness is -5"),
        (("simulate.expert.labelled=99",), "simulate.expert.labelled is 99"),
        (("simulate.composition.single.count=[3,2]",), "simulate.composition.single.count is [3, 2]"),
        (("output.dragonfly=true", "simulate.detector.adu_per_photon=7.8"), "output.dragonfly=true asks for photons"),
        (("instrument=from_file",), "photon_energy, distance, pixel_size is not known"),
        (("device=cuda:7",), "is not here"),
        (("simulate.seed=1,2",), "add -m"),
        (("simulate.seed",), "cannot be read as KEY=VALUE"),
        (("simulat=tiny",), "Did you mean 'simulate'?"),
        (
            (
                "particle@simulate.particles.virus=density_map",
                "simulate.particles.virus.path=nowhere.mrc",
                "simulate.particles.virus.map_diameter=60",
            ),
            "nowhere.mrc: there is no such density map",
        ),
    ],
)
def test_what_cannot_be_simulated_is_told_in_a_sentence(spi, tmp_path: Path, arguments, message: str) -> None:
    run = () if any(argument.startswith("run=") for argument in arguments) else ("run=out",)
    done = spi("spi-simulate", *FEW, *arguments, *run, ok=False)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("*.cxi*"))


def test_raw_frames_in_detector_units_come_back_as_photons(spi, tmp_path: Path) -> None:
    """Simulate with read-out noise, then let spi-inspect find the gain and convert."""
    raw = ("simulate.detector.adu_per_photon=7.8", "simulate.detector.adu_noise=1.4")
    spi("spi-simulate", *FEW, "run=raw", *raw)
    spi("spi-inspect", "data=raw_adu", "data.path=raw/patterns.cxi", "run=look")
    found = json.loads((tmp_path / "look/summary.json").read_text())["found"]
    assert found["gain"] == pytest.approx(7.8, rel=0.03)
    assert found["noise"] == pytest.approx(1.4, rel=0.1)


def test_any_density_map_can_be_the_particle(spi, tmp_path: Path, shared_data: Path) -> None:
    """As docs/simulation.md says it, with the map that is at hand."""
    spi(
        "spi-simulate",
        "simulate=amo86615",
        "workers=1",
        "run=map",
        "particle@simulate.particles.virus=density_map",
        f"simulate.particles.virus.path={shared_data / 'prd1_1W8X_capsid_1nm.mrc.gz'}",
        "simulate.particles.virus.map_diameter=66.0",
        "simulate.n_patterns=8",
        "simulate.composition.single.share=1000",
        "simulate.beam.transmission=0.3",  # the empty capsid scatters less than the whole virus
        "simulate.expert.labelled=3",
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
    states = {folder.name: json.loads((folder / "status.json").read_text()) for folder in tmp_path.glob("sweep/*/")}
    bad, good = "simulate.least_photons-1000000000000.0", "simulate.least_photons-300"
    assert {name: status["state"] for name, status in states.items()} == {bad: "failed", good: "complete"}
    assert "Lower simulate.least_photons" in states[bad]["error"]
    assert (tmp_path / "sweep" / bad / "traceback.txt").exists()
    assert (tmp_path / "sweep" / good / "patterns.cxi").exists()
    assert not (tmp_path / "sweep" / bad / "patterns.cxi").exists()
