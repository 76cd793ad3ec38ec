"""spi-predict with a small ensemble of random weights, on files of every way to come by patterns."""

from __future__ import annotations

import csv
import dataclasses
import json
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from spi_lightning.inference.ensemble_file import load_ensemble, save_ensemble
from spi_lightning.inference.first_looks import FirstLooks, choose_bound
from spi_lightning.inference.scores import read_scores
from spi_lightning.instrument import Geometry
from spi_lightning.patterns import open_run
from spi_lightning.patterns.export_cxi import write_cxi
from spi_lightning.patterns.prepare import prepare
from spi_lightning.patterns.settings import CropSettings, PrepareSettings
from tests.unit.inference.small import small_ensemble

GEOMETRY = Geometry(photon_energy=1700.0, distance=0.13, pixel_size=75e-6, centre=(14.5, 11.5))


@pytest.fixture
def predict(spi, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess]:
    """Run spi-predict in an empty folder that holds two files of patterns and an ensemble trained on such."""
    rng = np.random.default_rng(3)
    for number, n in ((1, 25), (2, 15)):
        rates = rng.gamma(0.5, 1.0, n)[:, None, None]
        write_cxi(
            tmp_path / f"run{number}.cxi",
            [rng.poisson(rates, (n, 24, 30)).astype(np.uint16)],
            n,
            shape=(24, 30),
            dtype=np.uint16,
            geometry=GEOMETRY,
            ids=[f"run{number}:{i}" for i in range(n)],
            labels=np.array([-1, 1, 0, 0, 0])[np.arange(n) % 5] if number == 1 else np.zeros(n, np.int8),
        )
    put_ensemble(tmp_path / "RUN/ensemble", PrepareSettings())

    return partial(spi, "spi-predict")


def put_ensemble(folder: Path, prepare: PrepareSettings, shape: tuple[int, int] = (24, 30)) -> None:
    """Save one whose threshold splits the patterns of the fixture."""
    ensemble = small_ensemble(2, shape)
    trained_on = dataclasses.replace(ensemble.trained_on, prepare=dataclasses.asdict(prepare))
    save_ensemble(folder, dataclasses.replace(ensemble, trained_on=trained_on))


def middle(folder: Path) -> float:
    """A threshold that half of the patterns reach."""
    counts = np.concatenate([open_run([folder / f"run{k}.cxi"]).read(range(n)) for k, n in ((1, 25), (2, 15))])
    scores = load_ensemble(folder / "RUN/ensemble").probabilities(torch.from_numpy(counts)).mean(1)
    return float(scores.median()) + 1e-5


def summary(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text())


def test_scores_selection_and_exports(predict, tmp_path: Path) -> None:
    threshold = middle(tmp_path)
    exports = ("export.cxi=true", "export.emc=true")
    done = predict(
        "ensemble=RUN/ensemble", "data.path='run*.cxi'", "run=out", f"threshold={threshold}", "device=cpu", *exports
    )
    out = tmp_path / "out"
    scores, facts = read_scores(out / "scores.h5"), summary(out)

    assert scores.ids.tolist() == [f"run1:{i}" for i in range(25)] + [f"run2:{i}" for i in range(15)]
    ensemble = load_ensemble(tmp_path / "RUN/ensemble")
    counts = open_run([tmp_path / "run1.cxi"]).read(range(25))
    expected = ensemble.probabilities(torch.from_numpy(counts)).numpy()
    np.testing.assert_allclose(scores.models[:25], expected, atol=1e-6)
    assert scores.origin.source == ensemble.fingerprint
    assert scores.origin.threshold == threshold

    selected = scores.probabilities >= threshold
    assert 5 < selected.sum() < 35
    assert (facts["patterns"], facts["selected"]) == (40, int(selected.sum()))
    assert facts["patterns per second"] > 0
    true = int((selected & (scores.labels == 1)).sum())
    assert (facts["labelled"], facts["labelled single hits"]) == (35, 5)
    assert facts["precision"] == pytest.approx(true / (selected & (scores.labels >= 0)).sum(), abs=1e-4)
    assert facts["recall"] == pytest.approx(true / 5)

    with open(out / "selection.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["id"] for row in rows} == set(scores.ids[selected].tolist())
    assert [float(row["probability"]) for row in rows] == sorted((float(r["probability"]) for r in rows), reverse=True)

    exported = open_run([out / "selected.cxi"])
    assert exported.ids.tolist() == scores.ids[selected].tolist()
    run = open_run([tmp_path / "run1.cxi", tmp_path / "run2.cxi"])
    assert (exported.read(range(len(exported))) == run.read(np.flatnonzero(selected))).all()
    photons = open_run([out / "selected.emc"], detector=str(out / "detector.h5"))
    assert (photons.read(range(len(photons))) == exported.read(range(len(exported)))).all()
    assert f"selected  {selected.sum()}" in done.stdout


def test_nothing_selected_is_no_error(predict, tmp_path: Path) -> None:
    done = predict(
        "ensemble=RUN/ensemble", "data.path=run2.cxi", "run=out", "threshold=1", "export.cxi=true", "export.emc=true"
    )
    assert "No pattern reaches the threshold of 1" in done.stdout
    assert len(read_scores(tmp_path / "out/scores.h5").ids) == 15
    assert (tmp_path / "out/selection.csv").read_text() == "id,probability,label\n"
    assert not list((tmp_path / "out").glob("selected*"))
    facts = summary(tmp_path / "out")
    assert facts["selected"] == 0
    assert "recall" not in facts  # there is no labelled single hit: 0/0


def test_fewer_mirrors_are_other_scores(predict, tmp_path: Path) -> None:
    few = ("ensemble=RUN/ensemble", "data.path=run2.cxi")
    predict(*few, "run=four")
    predict(*few, "run=one", "mirrors=[none]", "batch=3")
    four, one = (read_scores(tmp_path / name / "scores.h5") for name in ("four", "one"))
    assert one.origin.mirrors == ("none",)
    assert summary(tmp_path / "four")["threshold"] == 0.5
    assert np.abs(four.models - one.models).max() > 1e-5


def test_patterns_are_prepared_as_in_training(predict, tmp_path: Path) -> None:
    """Trained on a crop, binned: the new frames are cropped and binned without being told."""
    put_ensemble(tmp_path / "RUN/ensemble", PrepareSettings(crop=CropSettings((16, 20), "full", 2)), (8, 10))
    predict("ensemble=RUN/ensemble", "data.path=run1.cxi", "run=out", "export.cxi=true", "threshold=0")
    found = open_run([tmp_path / "out/selected.cxi"]).read(range(25))
    stored = open_run([tmp_path / "run1.cxi"]).read(range(25))[:, 4:20, 5:25]
    assert (found == stored.reshape(25, 8, 2, 10, 2).sum((2, 4))).all()
    other = predict("ensemble=RUN/ensemble", "data.path=run1.cxi", "run=no", "data.prepare.crop.binning=1", ok=False)
    assert "trained on patterns of 8 x 10 pixels" in other.stderr
    whole = predict("ensemble=RUN/ensemble", "data=default", "data.path=run1.cxi", "run=whole", ok=False)
    assert "but these are 24 x 30" in whole.stderr
    assert not (tmp_path / "no/scores.h5").exists()


def test_frames_without_labels_and_geometry(predict, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "plain.h5", "w") as file:
        file["frames"] = np.ones((3, 24, 30), np.uint8)
    predict("ensemble=RUN/ensemble", "data.path=plain.h5", "run=out", "threshold=0")
    facts = summary(tmp_path / "out")
    assert "labelled" not in facts
    assert read_scores(tmp_path / "out/scores.h5").labels is None
    refused = predict("ensemble=RUN/ensemble", "data.path=plain.h5", "run=no", "export.emc=true", ok=False)
    assert "photon_energy" in refused.stderr
    assert not (tmp_path / "no/scores.h5").exists()  # told before the work, not after it


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("data.path=run1.cxi",), "ensemble: this value must be given"),
        (("ensemble=RUN/ensemble",), "data.path: this value must be given"),
        (("ensemble=RUN", "data.path=run1.cxi"), "Did you mean RUN/ensemble?"),
        (("ensemble=nowhere", "data.path=run1.cxi"), "nowhere holds no ensemble.json"),
        (("ensemble=RUN/ensemble", "data.path=nowhere.cxi"), "nowhere.cxi"),
        (("ensemble=RUN/ensemble", "data.path=run1.cxi", "threshold=2"), "threshold is 2"),
        (("ensemble=RUN/ensemble", "data.path=run1.cxi", "mirrors=[up]"), "mirrors.0: found 'up'"),
        (("ensemble=RUN/ensemble", "data.path=run1.cxi", "mirrors=[]"), "mirrors is"),
        (("ensemble=RUN/ensemble", "data.path=run1.cxi", "batch=0"), "batch is 0"),
        (("ensemble=RUN/ensemble", "data.path=run1.cxi", "device=gpu7"), "device: 'gpu7'"),
        (("ensemble=RUN/ensemble", "data.path=run1.cxi", "data.prepare.crop.binning=two"), "found 'two'"),
        (("ensemble=RUN/ensemble", "data.path=run1.cxi", "treshold=0.1"), "Did you mean 'threshold'?"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_sentence(predict, tmp_path: Path, arguments, message: str) -> None:
    done = predict(*arguments, "run=out", ok=False)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("out/*.h5"))


def test_a_cascade_selects_what_the_ensemble_selects(predict, tmp_path: Path) -> None:
    threshold = middle(tmp_path)
    arguments = ("ensemble=RUN/ensemble", "data.path=run*.cxi", f"threshold={threshold}")
    told = predict(*arguments, "run=early", "cascade.enabled=true", ok=False)
    assert "does not know what a first look shows. Run spi-evaluate" in told.stderr
    ensemble = load_ensemble(tmp_path / "RUN/ensemble")
    odds = np.linspace(threshold - 0.01, threshold + 0.02, 30)
    looks = FirstLooks(tuple(np.log(odds / (1 - odds)).tolist()), (threshold,) * 30, (0,) * 30, 0.05)
    save_ensemble(tmp_path / "RUN/ensemble", dataclasses.replace(ensemble, first_looks=looks))
    predict(*arguments, "run=full")
    predict(*arguments, "run=fast", "cascade.enabled=true", "cascade.missed=0.1", "cascade.audit=1.0")
    full, fast = (read_scores(tmp_path / name / "scores.h5") for name in ("full", "fast"))
    bound = fast.origin.cascade
    assert bound == pytest.approx(choose_bound(looks, threshold, 0.1))
    assert full.origin.cascade is None
    np.testing.assert_allclose(fast.models, full.models, atol=1e-6)  # for the audit was of all
    facts = summary(tmp_path / "fast")
    assert 0 < facts["needed more than a first look"] < 40
    assert facts["audited"] == 40 - facts["needed more than a first look"]
    assert (tmp_path / "fast/selection.csv").read_text() == (tmp_path / "full/selection.csv").read_text()
    told = predict(*arguments, "run=views", "cascade.enabled=true", "mirrors=[none]", ok=False)
    assert "Leave mirrors=null" in told.stderr


def test_predicting_the_training_data_is_told(predict, tmp_path: Path) -> None:
    ensemble = load_ensemble(tmp_path / "RUN/ensemble")
    same = prepare(open_run([tmp_path / "run1.cxi"]), PrepareSettings()).fingerprint()
    trained_on = dataclasses.replace(ensemble.trained_on, fingerprint=same)
    save_ensemble(tmp_path / "own", dataclasses.replace(ensemble, trained_on=trained_on))
    for name, told in (("run1", True), ("run2", False)):
        done = predict("ensemble=own", f"data.path={name}.cxi", f"run={name}")
        assert ("the very data of the training" in done.stdout) == told
