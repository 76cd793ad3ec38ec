"""The stage with its callbacks, on spheres whose PSD and size are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from spi_lightning.analysis.class_choice import ChoiceSettings
from spi_lightning.analysis.contrast import FringeSettings, expected_spacing, fringe_contrast
from spi_lightning.analysis.em_settings import EMSettings
from spi_lightning.analysis.psd import angular_mean, radial_bins
from spi_lightning.analysis.size import SizeSettings, form_factor
from spi_lightning.callbacks.em import ExpectationMaximisation
from spi_lightning.callbacks.examples import Examples
from spi_lightning.callbacks.overlap import Overlap
from spi_lightning.callbacks.psd import PowerSpectralDensity
from spi_lightning.callbacks.size import ParticleSize
from spi_lightning.callbacks.stage import Stage, run_stage
from spi_lightning.errors import SpiError
from spi_lightning.instrument import Geometry
from spi_lightning.patterns import open_run
from spi_lightning.patterns.export_cxi import write_cxi
from spi_lightning.patterns.prepare import prepare
from spi_lightning.patterns.prepared import PreparedRun
from spi_lightning.patterns.settings import PrepareSettings
from spi_lightning.progress import Standing, progress_told_to
from spi_lightning.reciprocal import q_magnitude
from spi_lightning.selection.results import Findings
from spi_lightning.selection.step import Context, Step
from spi_lightning.selection.steps.em import EM
from spi_lightning.selection.steps.size import Size
from spi_lightning.selection.steps.threshold import Threshold

SHAPE, CENTRE = (192, 96), (-0.5, 95.5)
GEOMETRY = Geometry(photon_energy=1700.0, distance=0.13, pixel_size=75e-6, centre=CENTRE)
DIAMETERS = np.array([60.0, 62.0, 64.0, 66.0, 68.0, 70.0] * 2 + [100.0, 40.0])
PLANS: dict[str, list[tuple[str, Step]]] = {
    "singles": [("threshold", Threshold())],
    "singles + size": [("threshold", Threshold()), ("size", Size())],
    "singles + size + EM": [("threshold", Threshold()), ("size", Size()), ("em", EM())],
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> PreparedRun:
    """Spheres of 20,000 photons each behind a beamstop."""
    q = q_magnitude(GEOMETRY.on_detector(SHAPE))
    rows, columns = np.indices(SHAPE)
    mask = np.hypot(rows - CENTRE[1], columns - CENTRE[0]) > 22
    rng = np.random.default_rng(5)
    counts = []
    for diameter in DIAMETERS:
        rate = form_factor(q, torch.tensor(diameter)).numpy() * mask
        counts.append(rng.poisson(rate / rate.sum() * 20_000))
    path = tmp_path_factory.mktemp("spheres") / "run1.cxi"
    n = len(DIAMETERS)
    write_cxi(path, [np.array(counts, np.uint16)], n, shape=SHAPE, dtype=np.uint16, geometry=GEOMETRY, mask=mask)
    return prepare(open_run(path), PrepareSettings(), Geometry())


def stage_of(run: PreparedRun, **plans: Any) -> Stage:
    scores = np.append(np.full(len(run) - 1, 0.9), 0.1).astype(np.float32)
    findings = Findings(run.ids, None, scores, 0.5, measured=np.arange(len(run)))
    return Stage(run, Context(findings, lambda name: (scores, None)), plans or PLANS)


def all_callbacks() -> list[pl.Callback]:
    em = EMSettings(classes=2, rotations=8, starts=2, iterations=8)
    return [
        PowerSpectralDensity(FringeSettings(pairs=2), resamples=40, seed=0),
        ParticleSize(SizeSettings(20.0, 140.0), (55.0, 84.0)),
        ExpectationMaximisation(em, ChoiceSettings(cut=0.5), (0.12, 0.3)),
        Overlap((("singles", "singles + size", "nobody"),)),
        Examples(each=3, seed=0),
    ]


def test_spheres_are_measured_and_selected(run: PreparedRun, tmp_path: Path) -> None:
    stage = stage_of(run)
    run_stage(stage, all_callbacks(), tmp_path, "cpu")
    found = stage.findings

    counts = torch.from_numpy(run.read(range(len(run))))
    assert np.array_equal(found.photons, counts.sum((1, 2)).numpy())
    psd = angular_mean(counts, radial_bins(SHAPE, CENTRE), torch.from_numpy(run.mask)).numpy()
    assert found.psd is not None
    assert np.allclose(found.psd, psd, rtol=1e-6, equal_nan=True)
    assert found.sizes is not None
    assert np.allclose(found.sizes.diameter.numpy(), DIAMETERS, atol=0.5)
    singles, sized, classified = found.selections.values()
    assert sized.kept.tolist() == list(range(12))
    assert singles.psd is not None
    assert np.allclose(singles.psd, psd[:13].mean(0), rtol=1e-5, equal_nan=True)
    assert sized.contrast is not None
    low, high = sized.interval
    assert low <= float(sized.contrast.value[0]) <= high
    assert 0.4 < float(sized.contrast.value[0]) < 1
    # A sphere has more contrast than spheres and one of quite another size.
    assert singles.contrast is not None
    assert not float(singles.contrast.value[0]) > float(sized.contrast.value[0])
    settings = FringeSettings(pairs=2), FringeSettings(pairs=2, pairing="previous")
    spacing = expected_spacing(float(np.median(DIAMETERS[:12])), torch.from_numpy(found.q))
    both = [fringe_contrast(torch.from_numpy(sized.psd)[None], each, spacing) for each in settings]
    assert float(sized.contrast.value[0]) == pytest.approx(float(both[0].value[0]), abs=0.01)
    assert sized.other_pairing == pytest.approx(float(both[1].value[0]), abs=0.01)
    assert sized.other_pairing != pytest.approx(float(sized.contrast.value[0]), abs=0.01)
    assert classified.classes == 0
    assert found.classes[0].members.tolist() == sized.kept.tolist()
    assert any("there is no selection 'nobody'" in note for note in found.notes)
    names = {path.stem for path in (tmp_path / "figures").iterdir()}
    assert names == {"psd", "sizes", "overlap", "examples", "classes_singles_size_em"}


def test_the_range_of_em_is_that_of_the_config(run: PreparedRun) -> None:
    q = q_magnitude(GEOMETRY.on_detector(SHAPE)).flatten()
    for low, high in ((0.12, 0.3), (None, 0.2), (0.3, None)):
        em = ExpectationMaximisation(EMSettings(), ChoiceSettings(), (low, high))
        stage = stage_of(run)
        seen = q[em._pixels(stage).index]
        assert float(seen.min()) == pytest.approx(max(low or 0, float(q[run.mask.ravel()].min())), abs=0.005)
        assert float(seen.max()) == pytest.approx(min(high or 9, float(q.max())), abs=0.005)
    for wrong in ((0.3, 0.2), (-1.0, None)):
        with pytest.raises(SpiError, match="q_range"):
            ExpectationMaximisation(EMSettings(), ChoiceSettings(), wrong)
    with pytest.raises(SpiError, match=r"no good pixel has q from 5 to inf nm⁻¹.*go from 0\.1"):
        ExpectationMaximisation(EMSettings(), ChoiceSettings(), (5.0, None))._pixels(stage_of(run))


def test_angles_are_degrees_and_unseen_pixels_nan(tmp_path: Path) -> None:
    """Streaks at known angles, in one class."""
    angles = np.array([0, 20, 40, 60, 80, 100, 120, 140, 160])
    rows, columns = np.indices((64, 64)) - 31.5
    counts = []
    for angle in np.deg2rad(angles):
        across = columns * np.sin(angle) - rows * np.cos(angle)
        counts.append(np.round(200 * np.exp(-((across / 6) ** 2))))
    path = tmp_path / "streaks.cxi"
    geometry = Geometry(photon_energy=1700.0, distance=0.13, pixel_size=150e-6, centre=(31.5, 31.5))
    write_cxi(path, [np.array(counts, np.uint16)], 9, shape=(64, 64), dtype=np.uint16, geometry=geometry)
    run = prepare(open_run(path), PrepareSettings(), Geometry())
    em = EMSettings(classes=1, rotations=18, starts=1, iterations=40, tolerance=0.0)
    stage = stage_of(run, all=[("em", EM())])
    run_stage(stage, [ExpectationMaximisation(em, ChoiceSettings(), (0.05, 0.25))], tmp_path, "cpu")
    found = stage.findings.classes[0]
    turned = (found.angles - np.array([[1], [-1]]) * angles) % 180  # the sense is a convention
    assert min(min(np.ptp(each), np.ptp((each + 90) % 180)) for each in turned) <= 10  # one step
    assert np.isnan(found.images[0, 0, 0])
    middle = found.images.shape[1] // 2
    assert np.isnan(found.images[0, middle, middle])  # below the range of q
    assert np.isfinite(found.images).any()


def test_bars_stand_one_after_the_other(run: PreparedRun, tmp_path: Path) -> None:
    told: list[Standing] = []
    with progress_told_to(told.append):
        run_stage(stage_of(run), all_callbacks(), tmp_path, "cpu")
    order = [standing.description for standing in told]
    assert list(dict.fromkeys(order)) == ["Looking at patterns", "Fitting sizes", "EM"]
    assert order == sorted(order, key=["Looking at patterns", "Fitting sizes", "EM"].index)


def test_names_are_text_and_no_formulas(run: PreparedRun, tmp_path: Path) -> None:
    stage = stage_of(run, **{r"a $\frac$ b": PLANS["singles + size + EM"], "$": PLANS["singles"]})
    run_stage(stage, all_callbacks(), tmp_path, "cpu")
    assert (tmp_path / "figures/overlap.png").exists()


def test_one_em_serves_all_selections_that_bring_it_the_same_patterns(run: PreparedRun, tmp_path: Path) -> None:
    plan = [("size", Size()), ("em", EM())]
    by_hand = [("size", Size()), ("em", EM(classes=(0,)))]
    stage = stage_of(run, first=plan, again=plan, expert=by_hand)
    run_stage(stage, all_callbacks()[:3], tmp_path, "cpu")
    found = stage.findings

    assert [selection.classes for selection in found.selections.values()] == [0, 0, 1]
    assert len(found.classes) == 2
    assert found.classes[1].by_hand
    assert found.classes[1].classes is found.classes[0].classes
    expert = found.selections["expert"].kept
    assert expert.tolist() == found.classes[0].members[found.classes[0].classes == 0].tolist()


def test_figures_are_left_in_the_folder(run: PreparedRun, tmp_path: Path) -> None:
    run_stage(stage_of(run), all_callbacks(), tmp_path, "cpu")
    drawn = {path.stem for path in (tmp_path / "figures").iterdir()}
    assert drawn == {"psd", "sizes", "overlap", "examples", "classes_singles_size_em"}


def test_without_candidates_the_selections_are_still_made(run: PreparedRun, tmp_path: Path) -> None:
    stage = stage_of(run)
    stage.findings.measured = np.empty(0, np.int64)
    stage.plans = {"nothing": [("threshold", Threshold("fixed", 1.0))]}
    run_stage(stage, all_callbacks(), tmp_path, "cpu")

    assert len(stage.findings.selections["nothing"].kept) == 0
    assert "'nothing' is empty" in stage.findings.notes[0]


def test_a_mask_without_a_good_pixel_is_told(tmp_path: Path) -> None:
    path = tmp_path / "dark.cxi"
    counts, mask = np.ones((3, 12, 10), np.uint16), np.zeros((12, 10), np.bool_)
    mask[0, 0] = True
    write_cxi(path, [counts], 3, shape=(12, 10), dtype=np.uint16, geometry=GEOMETRY, mask=mask)
    run = prepare(open_run(path), PrepareSettings(), Geometry(centre=(4.5, 5.5)))
    stage = stage_of(run, all=[("threshold", Threshold("fixed", 0.0))], sized=[("size", Size())], em=[("em", EM())])
    run_stage(stage, all_callbacks(), tmp_path, "cpu")
    found = stage.findings

    assert len(found.selections["all"].kept) == 3
    assert len(found.selections["sized"].kept) == 0
    notes = " ".join(found.notes)
    assert "'all' has no contrast" in notes
    assert "EM is left out" in notes


def test_a_callback_of_this_kind_needs_a_stage() -> None:
    with pytest.raises(TypeError, match="works on a Stage"):
        Examples(1, 0).on_predict_end(Mock(), pl.LightningModule())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
def test_a_gpu_finds_the_same(run: PreparedRun, tmp_path: Path) -> None:
    found = []
    for device in ("cpu", "cuda"):
        stage = stage_of(run)
        run_stage(stage, all_callbacks(), tmp_path, device)
        found.append(stage.findings)
    assert np.allclose(found[0].psd, found[1].psd, rtol=1e-5, equal_nan=True)
    assert found[0].sizes is not None
    assert found[1].sizes is not None
    assert np.allclose(found[0].sizes.diameter, found[1].sizes.diameter, atol=0.05)
    for name in PLANS:
        assert found[0].selections[name].kept.tolist() == found[1].selections[name].kept.tolist()
