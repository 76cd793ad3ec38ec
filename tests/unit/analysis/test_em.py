from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates
from sklearn.metrics import adjusted_rand_score

from spi_lightning.analysis.em import assign, classify, expect, maximise
from spi_lightning.analysis.em_data import read
from spi_lightning.analysis.em_images import EMPixels, angles, em_pixels, filled, slices, spread, turns
from spi_lightning.analysis.em_settings import EMSettings
from spi_lightning.errors import SpiError

CENTRE = (-0.5, 20.5)
SHAPE = (42, 21)


class Pairs(NamedTuple):
    """Patterns of pairs of spheres, each class at its own distance."""

    counts: torch.Tensor
    pixels: EMPixels
    classes: np.ndarray
    turned: np.ndarray  # radians


def pairs(n: int, photons: float, seed: int = 0, distances: tuple[float, ...] = (0.0, 0.3, 0.5, 0.8)) -> Pairs:
    random = np.random.default_rng(seed)
    mask = torch.ones(SHAPE, dtype=torch.bool)
    mask[18:23] = False  # the gap of the detector
    pixels = em_pixels(mask, CENTRE, 3, 20)
    classes = random.integers(len(distances), size=n)
    turned = random.uniform(0, math.pi, n)
    along = np.cos(turned)[:, None] * pixels.x.numpy() + np.sin(turned)[:, None] * pixels.y.numpy()
    rates = np.exp(-pixels.radius.numpy() / 8) * (1.1 + np.cos(np.array(distances)[classes, None] * along))
    brightness = photons * random.uniform(0.5, 1.5, (n, 1)) / rates.sum(1, keepdims=True)
    return Pairs(torch.from_numpy(random.poisson(rates * brightness)), pixels, classes, turned)


@pytest.fixture
def authors_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Makes the Classifier of spi-em-class, ready to iterate from a given start."""
    spi_em_class = pytest.importorskip("spi_em_class")
    compute = spi_em_class.em_compute
    for name, function in list(vars(compute).items()):
        if hasattr(function, "py_func"):  # compiling takes longer than running a few small patterns in Python
            monkeypatch.setattr(compute, name, function.py_func)

    def made(frames: np.ndarray, mask: np.ndarray, ring: tuple[int, int], start: np.ndarray, given: EMSettings) -> Any:
        with h5py.File(tmp_path / "patterns.cxi", "w") as file:
            file["entry_1/image_1/data"] = frames
            file["entry_1/image_1/mask"] = (~mask).astype(np.uint8)
            file["entry_1/image_1/image_center"] = np.array([*CENTRE, 0.0])
        recipe = {
            "best_proba": given.assignment == "hard",
            "binning": 1,
            "cxi_file": str(tmp_path / "patterns.cxi"),
            "friedel": given.friedel,
            "logscale": given.logarithm,
            "num_class": given.classes,
            "num_rot": given.rotations,
            "q_min": ring[0],
            "q_max": ring[1],
        }
        spi_em_class.config.save_config(str(tmp_path / "em.h5"), recipe)
        classifier = spi_em_class.Classifier(str(tmp_path / "em.h5"))
        classifier.model[:] = start
        return classifier

    return made


@pytest.mark.parametrize("friedel", [True, False])
@pytest.mark.parametrize(("assignment", "logarithm"), [("soft", False), ("soft", True), ("hard", False)])
@pytest.mark.filterwarnings("ignore:Creating a dataset without")  # theirs
def test_it_does_what_the_authors_program_does(
    authors_program: Callable[..., Any], friedel: bool, assignment: Any, logarithm: bool
) -> None:
    random = np.random.default_rng(0)
    mask = random.random(SHAPE) > 0.1
    pixels = em_pixels(torch.from_numpy(mask), CENTRE, 2, 9)
    y, x = np.indices(SHAPE)
    away = np.hypot(x - CENTRE[0], y - CENTRE[1])
    rate = 6 * np.exp(-away / 4) * (1 + np.cos(0.9 * (x - CENTRE[0])))
    frames = random.poisson(rate * random.uniform(0.5, 1.5, (30, 1, 1))).astype(np.float64)
    power = 2.0 if friedel else 1.0  # every photon counts twice in their likelihood
    given = EMSettings(3, 8, friedel, logarithm, assignment, beta=power, iterations=1, revivals=0)
    start = random.uniform(0.5, 1.5, (3, pixels.side, pixels.side))
    start = (start + start[:, ::-1, ::-1]) / 2 if friedel else start
    counts = torch.from_numpy(frames).flatten(1)[:, pixels.index]
    theirs = authors_program(frames, mask, (2, 9), start, given)

    data = read(counts, pixels, given)
    table = torch.zeros(30, 24, dtype=torch.float64)
    table[:, 0] = 1
    seen = slices(torch.from_numpy(start), turns(pixels, 8, friedel))
    found = expect(data, seen, table, power)
    places = 1e-6 if logarithm else 1e-11  # they keep logarithms in single precision
    done = 0
    for iterations in (1, 3):
        ours = classify(counts, pixels, dataclasses.replace(given, iterations=iterations), torch.from_numpy(start))
        for _ in range(iterations - done):
            theirs.run_iteration()
        done = iterations
        if iterations == 1:
            likelihoods = (table + power * found.best[:, None]).T.reshape(3, 8, 30)
            assert np.allclose(likelihoods, theirs.loglh, rtol=10 * places)
        assert np.allclose(ours.images, theirs.model, rtol=places, atol=places)
        assert np.allclose(ours.scales, theirs.data_scale, rtol=places)
        assert np.array_equal(ours.classes, theirs.prob_vals.max(1).argmax(0))
        assert np.array_equal(ours.rotations, theirs.prob_vals.max(0).argmax(0))
        if assignment == "soft":
            of_class = theirs.prob_vals.sum(1)[ours.classes, np.arange(30)]
            assert np.allclose(ours.certainty, of_class, rtol=10 * places)


def test_known_classes_and_rotations_come_back() -> None:
    made = pairs(160, 1e4)
    given = EMSettings(classes=4, rotations=24, iterations=30)
    starts = [classify(made.counts, made.pixels, given, seed=seed) for seed in range(3)]
    found = max(starts, key=lambda start: start.history[-1])
    assert adjusted_rand_score(made.classes, found.classes.numpy()) >= 0.95
    turned = angles(24, friedel=True)[found.rotations].numpy()
    for number in range(1, 4):  # the single sphere is round
        # An image may stand at any angle, and has the symmetry of half a turn.
        offset = np.exp(2j * (made.turned + turned)[made.classes == number])
        assert abs(offset.mean()) > 0.99
    assert found.converged
    assert abs(float(found.scales.mean()) - 1) < 1e-12
    brightness = made.counts.log1p().sum(1)
    assert np.corrcoef(found.scales, brightness)[0, 1] > 0.98


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans(), st.sampled_from([0.5, 1.0, 2.0]))
def test_the_likelihood_never_falls(seed: int, friedel: bool, beta: float) -> None:
    """EM's own theorem, with fixed scales, and where all turned pixels lie on pixels of the image."""
    random = np.random.default_rng(seed)
    mask = torch.from_numpy(random.random((9, 9)) > 0.2)
    pixels = em_pixels(mask, (4.0, 4.0), 1, 4)
    given = EMSettings(2, 2 if friedel else 4, friedel, logarithm=False, beta=beta)
    counts = torch.from_numpy(random.poisson(random.uniform(0.1, 3, (6, len(pixels.index)))).astype(np.float64))
    counts[:, 0] += 1
    data, how = read(counts, pixels, given), turns(pixels, given.rotations, friedel)
    scales = torch.from_numpy(random.uniform(0.5, 2, 6))
    images = torch.from_numpy(random.uniform(0.5, 1.5, (2, pixels.side, pixels.side)))
    images = (images + images.flip(1, 2)) / 2 if friedel else images
    table = torch.zeros(6, 2 * given.rotations, dtype=torch.float64)
    history = []
    for _ in range(8):
        found = expect(data, slices(images, how), table, beta, scales)
        history.append(float(assign(table, found, torch.ones(2, dtype=torch.bool), given)[0].sum()))
        images, _ = maximise(data, table, scales, how)
    assert (np.diff(history) >= -1e-9 * np.abs(history[1:])).all()


def test_neither_order_nor_type_of_the_counts_matters() -> None:
    made = pairs(60, 300)
    given = EMSettings(classes=3, rotations=10, iterations=6)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(1))
    plain, mixed, small, exact = (
        classify(counts, made.pixels, given)
        for counts in (made.counts.float(), made.counts[order], made.counts.to(torch.uint8), made.counts.double())
    )
    assert torch.equal(plain.images, small.images)
    for other, places in ((mixed, order), (exact, torch.arange(60))):
        assert torch.equal(plain.classes[places], other.classes)
        assert torch.equal(plain.rotations[places], other.rotations)
        assert torch.allclose(plain.images, other.images, rtol=1e-3, atol=1e-5)
        assert torch.allclose(plain.log_likelihood[places], other.log_likelihood, rtol=1e-5)


def test_blocks_of_patterns_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    made = pairs(60, 300)
    given = EMSettings(classes=3, rotations=10, iterations=4)
    whole = classify(made.counts.double(), made.pixels, given)
    monkeypatch.setattr("spi_lightning.analysis.em_data._CELLS_AT_ONCE", 7 * made.counts.shape[1])
    parts = classify(made.counts.double(), made.pixels, given)
    assert torch.allclose(whole.images, parts.images)
    assert torch.equal(whole.classes, parts.classes)


@pytest.mark.parametrize("assignment", ["soft", "hard"])
def test_products_without_the_negligible_are_the_same(monkeypatch: pytest.MonkeyPatch, assignment: Any) -> None:
    made = pairs(60, 1000)
    given = EMSettings(classes=3, rotations=10, iterations=4, assignment=assignment)
    found = []
    for share in (0.0, 1.0):
        monkeypatch.setattr("spi_lightning.analysis.em._SPARSE", share)
        found.append(classify(made.counts.double(), made.pixels, given).images)
    assert torch.allclose(*found)


@pytest.mark.parametrize("friedel", [True, False])
def test_images_are_read_bilinearly_and_spread_by_the_transpose(friedel: bool) -> None:
    random = np.random.default_rng(0)
    pixels = em_pixels(torch.ones(SHAPE, dtype=torch.bool), CENTRE, 0, 12)
    how = turns(pixels, 5, friedel)
    images = torch.from_numpy(random.random((2, pixels.side, pixels.side)))
    seen = slices(images, how)
    turned = angles(5, friedel).numpy()[:, None]
    x, y = pixels.x.numpy(), pixels.y.numpy()
    places = [x * np.sin(turned) + y * np.cos(turned), x * np.cos(turned) - y * np.sin(turned)]
    for image, read_off in zip(images, seen, strict=True):
        expected = map_coordinates(image.numpy(), np.array(places) + pixels.side // 2, order=1)
        assert np.allclose(read_off, expected)
    sums, weights = torch.from_numpy(random.random(tuple(seen.shape))), torch.from_numpy(random.random((2, 5)))
    means, coverage = spread(sums, weights, how)
    if not friedel:
        assert torch.isclose((seen * sums).sum(), (images * means * coverage).sum())
        assert torch.isclose((seen * weights[:, :, None]).sum(), (images * coverage).sum())
    else:
        assert torch.equal(means, means.flip(1, 2))


def test_pixels_that_no_pattern_reached_have_the_mean_of_their_ring() -> None:
    pixels = em_pixels(torch.ones(21, 21, dtype=torch.bool), (10.0, 10.0), 0, 10)
    how = turns(pixels, 4, friedel=True)
    images = how.rings.view(1, 21, 21).double() + 1
    coverage = torch.ones_like(images)
    coverage[:, :8], coverage[:, -8:] = 0, 0
    images = images * (coverage > 0)
    rings = how.rings.view(21, 21)
    reached = rings <= 10
    assert torch.allclose(filled(images, coverage, how)[0][reached], rings[reached].double() + 1)


def test_a_hole_in_a_class_image_does_not_decide() -> None:
    """Patterns of round particles fit at every rotation; their image has a gap where it was seen at one angle only."""
    made = pairs(100, 3000, distances=(0.0,))
    how = turns(made.pixels, 20, friedel=True)
    along = torch.arange(made.pixels.side, dtype=torch.float64) - made.pixels.side // 2
    coverage = how.reach[:1].view(1, len(along), -1)
    coverage = coverage + coverage.flip(1, 2)
    holes = torch.where(coverage > 0, torch.exp(-torch.hypot(along[:, None], along) / 8), 0.0)
    given = EMSettings(classes=1, rotations=20, logarithm=False, iterations=1)
    forbidden, free = (
        classify(made.counts, made.pixels, given, start).rotations == 0
        for start in (holes, filled(holes, coverage, how))
    )
    assert forbidden.all()
    assert free.double().mean() < 0.3


@pytest.mark.parametrize("revivals", [0, 2])
def test_a_class_without_a_pattern_is_restarted(revivals: int) -> None:
    made = pairs(100, 3000, distances=(0.0, 0.8))
    given = EMSettings(classes=3, rotations=20, iterations=20, revivals=revivals)
    random = torch.Generator().manual_seed(0)
    start = 1 - 0.01 * torch.rand(3, made.pixels.side, made.pixels.side, generator=random)
    start[2, :, : made.pixels.side // 2] = 100.0  # like no pattern at all
    start[2, :, made.pixels.side // 2 + 1 :] = 1e-9
    start[2] = torch.tril(start[2])
    found = classify(made.counts, made.pixels, given, start)
    assert (2 in found.classes.tolist()) == (revivals > 0)


def test_a_single_pattern_is_its_own_class_image() -> None:
    made = pairs(1, 1e4, distances=(0.5,))
    given = EMSettings(classes=1, rotations=1, friedel=False, logarithm=False)
    found = classify(made.counts, made.pixels, given)
    assert found.classes.tolist() == [0]
    assert found.certainty.tolist() == pytest.approx([1])
    assert found.converged
    covered = found.images[0][found.coverage[0] > 0]
    assert float((found.images * found.coverage).sum()) == pytest.approx(float(made.counts.sum()))
    assert (covered > 0).any()


def test_a_dark_pattern_among_others_harms_none() -> None:
    made = pairs(40, 1000)
    counts = torch.cat([made.counts, torch.zeros(1, made.counts.shape[1], dtype=made.counts.dtype)])
    found = classify(counts, made.pixels, EMSettings(classes=3, rotations=10, iterations=5))
    assert float(found.scales[-1]) == 0
    assert found.images.isfinite().all()
    assert math.isfinite(found.history[-1])
    assert float(found.certainty[-1]) == pytest.approx(1 / 3)


def test_the_seed_decides_and_progress_is_told() -> None:
    made = pairs(40, 300)
    given = EMSettings(classes=3, rotations=10, iterations=30, seed=5)
    told: list[int] = []
    first = classify(made.counts, made.pixels, given, advance=told.append)
    assert sum(told) == 30
    assert len(first.history) == len(told) - 1
    assert torch.equal(first.images, classify(made.counts, made.pixels, given, seed=5).images)
    assert not torch.equal(first.images, classify(made.counts, made.pixels, given, seed=6).images)


def test_what_cannot_be_used_is_refused() -> None:
    made = pairs(10, 300)
    given = EMSettings(classes=2, rotations=4)
    with pytest.raises(SpiError, match="1 patterns for 2 classes"):
        classify(made.counts[:1], made.pixels, given)
    with pytest.raises(SpiError, match="None of 10 patterns has a photon"):
        classify(torch.zeros_like(made.counts), made.pixels, given)
    for wrong in (-1.0, math.nan, math.inf):
        counts = made.counts.double()
        counts[3, 5] = wrong
        with pytest.raises(SpiError, match="negative or not finite"):
            classify(counts, made.pixels, given)
    with pytest.raises(SpiError, match="start"):
        classify(made.counts, made.pixels, given, torch.ones(2, 3, 3))
    with pytest.raises(ValueError, match="one column a pixel"):
        classify(made.counts[:, 1:], made.pixels, given)
    mask = torch.zeros(SHAPE, dtype=torch.bool)
    with pytest.raises(SpiError, match="0 of 882 pixels are good"):
        em_pixels(mask, CENTRE, 3, 20)
    with pytest.raises(SpiError, match="No good pixel lies 300 to 400"):
        em_pixels(~mask, CENTRE, 300, 400)


@pytest.mark.parametrize(("name", "value"), [("classes", 0), ("beta", 0.0), ("tolerance", 1.0), ("assignment", "no")])
def test_settings_are_checked(name: str, value: object) -> None:
    with pytest.raises(SpiError, match=f"em.{name} is {value!r}"):
        dataclasses.replace(EMSettings(), **{name: value})


def test_pixels_are_those_of_the_ring() -> None:
    mask = torch.ones(SHAPE, dtype=torch.bool)
    mask[20, 7] = False
    pixels = em_pixels(mask, CENTRE, 3, 9)
    y, x = np.indices(SHAPE)
    away = np.hypot(x - CENTRE[0], y - CENTRE[1])
    assert np.array_equal(pixels.index, np.flatnonzero((away >= 3) & (away <= 9) & mask.numpy()))
    assert np.allclose(pixels.radius, away.flatten()[pixels.index])
    assert pixels.side == 19


@pytest.mark.gpu
def test_a_gpu_finds_the_same() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    made = pairs(60, 1000)
    given = EMSettings(classes=3, rotations=10, iterations=5)
    here, there = (classify(made.counts.double(), made.pixels, given, device=d) for d in ("cpu", "cuda"))
    assert there.images.device.type == "cpu"
    assert torch.allclose(here.images, there.images)
    assert torch.equal(here.classes, there.classes)
