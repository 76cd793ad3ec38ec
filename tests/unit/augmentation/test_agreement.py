"""The batched pipeline against batchgenerators, transform by transform, in distribution."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from spi_lightning.augmentation.batched import BatchedPipeline
from spi_lightning.augmentation.with_batchgenerators import BatchgeneratorsPipeline
from tests.unit.augmentation.alone import only

SHAPE, N = (56, 40), 400
ROWS, COLUMNS = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)


def blob(row: float, column: float, high: float, wide: float) -> np.ndarray:
    return np.exp(-0.5 * (((ROWS - row) / high) ** 2 + ((COLUMNS - column) / wide) ** 2))


def both(
    pattern: np.ndarray, zero: float = 0.0, n: int = N, **transforms: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """``(n, rows, columns)`` variants of a pattern by each of the pipelines."""
    batch = torch.from_numpy(pattern.astype(np.float32)).expand(n, 1, *SHAPE)
    mask, settings = torch.ones(SHAPE, dtype=torch.bool), only(**transforms)
    ours = BatchedPipeline(settings)(batch, mask, zero, 21)
    theirs = BatchgeneratorsPipeline(settings)(batch, mask, zero, 22)
    return ours[:, 0].double().numpy(), theirs[:, 0].double().numpy()


def centroids(images: np.ndarray) -> np.ndarray:
    """``(n, 2)``, row and column."""
    totals = images.sum((1, 2))
    return np.stack([(images * ROWS).sum((1, 2)) / totals, (images * COLUMNS).sum((1, 2)) / totals], 1)


def assert_alike(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Two samples of one distribution, by Kolmogorov and Smirnov; neither is a constant."""
    assert min(np.ptp(ours), np.ptp(theirs)) > 0
    assert stats.ks_2samp(ours, theirs).pvalue > 0.001


def test_rotation() -> None:
    """About the image's middle, counter-clockwise for one who sees row 0 at the top, by angles evenly spread."""
    degrees = (-20.0, 100.0)
    results = both(blob(27.5, 31.5, 2.0, 2.0), rotation={"degrees": degrees})
    angles = []
    for images in results:
        off = centroids(images) - [27.5, 19.5]
        np.testing.assert_allclose(np.hypot(*off.T), 12.0, atol=0.1)
        angles.append(np.degrees(np.arctan2(-off[:, 0], off[:, 1])))
        assert angles[-1].min() == pytest.approx(degrees[0], abs=2)
        assert angles[-1].max() == pytest.approx(degrees[1], abs=2)
    assert_alike(*angles)


def test_scaling() -> None:
    """About the image's middle; a factor above 1 shrinks; half of the factors are above 1."""
    results = both(blob(35.5, 19.5, 2.0, 4.0), scaling={"factor": (0.7, 1.4)})
    factors = []
    for images in results:
        distance = centroids(images)[:, 0] - 27.5
        widths = np.sqrt((images * (COLUMNS - 19.5) ** 2).sum((1, 2)) / images.sum((1, 2)))
        np.testing.assert_allclose(widths / 4.0, distance / 8.0, atol=0.03)
        factors.append(8.0 / distance)
        assert factors[-1].min() == pytest.approx(0.7, abs=0.02)
        assert factors[-1].max() == pytest.approx(1.4, abs=0.02)
        assert (factors[-1] > 1).mean() == pytest.approx(0.5, abs=0.1)
    assert_alike(*factors)


@pytest.mark.parametrize("ramp", [ROWS, COLUMNS])
def test_elastic_deformation(ramp: np.ndarray) -> None:
    """A ramp shows the displacement along it: spread and correlation length along both axes agree."""
    results = both(ramp, n=2000, elastic={"alpha": (10.0, 60.0), "sigma": (4.0, 6.0)})
    inner = [(images - ramp)[:, 10:-10, 10:-10] for images in results]
    assert_alike(*(fields[:, 18, 10] for fields in inner))
    assert_alike(*(np.sqrt((fields**2).mean((1, 2))) for fields in inner))
    sigma = np.linspace(4.0, 6.0, 50)
    for lag in (4, 6):
        expected = np.average(np.exp(-(lag**2) / (4 * sigma**2)), weights=sigma**-2.0)
        down = [(fields[:, lag:] * fields[:, :-lag]).mean() / (fields**2).mean() for fields in inner]
        across = [(fields[:, :, lag:] * fields[:, :, :-lag]).mean() / (fields**2).mean() for fields in inner]
        np.testing.assert_allclose([*down, *across], expected, atol=0.02)


@pytest.mark.parametrize("inverted", [False, True])
def test_gamma(inverted: bool) -> None:
    """Mean and standard deviation are restored; low, middle and high values go the same ways."""
    pattern = blob(30, 15, 10.0, 5.0) * 3 - 0.1
    chances = {"probability": 1.0 - inverted, "inverted_probability": float(inverted)}
    results = both(pattern, gamma=chances)
    for images in results:
        np.testing.assert_allclose(images.mean((1, 2)), pattern.mean(), atol=1e-5)
        np.testing.assert_allclose(images.std((1, 2)), pattern.std(), rtol=1e-4)
    for share in (5, 50, 95):
        assert_alike(*(np.percentile(images, share, axis=(1, 2)) for images in results))


def test_noise() -> None:
    """Its range is one of standard deviations, not of variances, in batchgenerators as well."""
    results = both(np.ones(SHAPE), noise={"sd": (0.02, 0.3)})
    spreads = [images.std((1, 2)) for images in results]
    assert_alike(*spreads)
    for images, spread in zip(results, spreads, strict=True):
        assert spread.max() == pytest.approx(0.3, rel=0.05)
        assert stats.kstest(((images[0] - 1) / spread[0]).ravel(), "norm").pvalue > 0.01


def test_blur() -> None:
    """Widths agree, and nothing is lost."""
    point = np.zeros(SHAPE)
    point[20, 20] = 1.0
    results = both(point, blur={"sigma": (0.5, 1.5)})
    for images in results:
        np.testing.assert_allclose(images.sum((1, 2)), 1.0, atol=1e-5)
        np.testing.assert_allclose(images[:, 20, 21], images[:, 21, 20], atol=1e-7)
    assert_alike(*(images[:, 20, 20] for images in results))


def test_mirroring() -> None:
    """Four states, all alike likely, and nothing in between."""
    pattern = np.random.default_rng(0).random(SHAPE).astype(np.float32)
    states = [pattern, pattern[::-1], pattern[:, ::-1], pattern[::-1, ::-1]]
    for images in both(pattern, mirroring={}):
        counts = [int((images == state).all((1, 2)).sum()) for state in states]
        assert sum(counts) == N
        assert stats.chisquare(counts).pvalue > 0.01


def test_shift() -> None:
    """Whole pixels, of a rounded normal distribution along each axis on its own."""
    point = np.zeros(SHAPE)
    point[28, 20] = 1.0
    results = both(point, shift={"sd": 3.0})
    by = [np.stack(np.nonzero(images)[1:], 1) - [28, 20] for images in results]
    for shifts in by:
        assert shifts.shape == (N, 2)
        assert shifts.std(0) == pytest.approx([3.0, 3.0], rel=0.12)
        assert abs(shifts.mean(0)).max() < 0.5
        assert abs(np.corrcoef(shifts.T)[0, 1]) < 0.15
    for axis in (0, 1):
        assert_alike(by[0][:, axis], by[1][:, axis])


def test_one_cutout() -> None:
    """Sides from a tenth to a third, anywhere; batchgenerators' own never begin at the very first line."""
    results = both(np.ones(SHAPE), zero=-1.0, cutout={"rectangles": (1, 1), "side": (0.1, 0.333)})
    edges = []
    for images in results:
        blank = images == -1.0
        assert ((images == 1.0) | blank).all()
        rows, columns = blank.any(2), blank.any(1)
        assert (blank.sum((1, 2)) == rows.sum(1) * columns.sum(1)).all()  # one full rectangle
        assert (rows.sum(1).min(), rows.sum(1).max()) == (6, 19)
        assert (columns.sum(1).min(), columns.sum(1).max()) == (4, 13)
        edges.append((rows.sum(1), columns.sum(1), rows.argmax(1) + rows.sum(1) / 2, columns.argmax(1)))
    for ours, theirs in zip(*edges, strict=True):
        assert_alike(ours, theirs)
    assert edges[0][3].min() == 0


def test_several_cutouts() -> None:
    """How many there are shows in the share of blank pixels."""
    results = both(np.ones(SHAPE), zero=-1.0, cutout={"rectangles": (1, 5)})
    assert_alike(*((images == -1.0).mean((1, 2)) for images in results))


def test_all_at_once() -> None:
    """The paper's chances: how patterns differ from what they were, and from their mean."""
    pattern = blob(27.5, 10, 9.0, 5.0) * 4
    defaults: dict[str, dict[str, Any]] = {
        "rotation": {"probability": 0.2},
        "scaling": {"probability": 0.2},
        "elastic": {"probability": 0.2},
        "gamma": {"probability": 0.3, "inverted_probability": 0.1},
        "noise": {"probability": 0.1},
        "blur": {"probability": 0.2},
        "mirroring": {},
        "shift": {"probability": 0.5},
        "cutout": {"probability": 0.4},
    }
    results = both(pattern, zero=-0.1, **defaults)
    assert_alike(*(np.abs(images - pattern).mean((1, 2)) for images in results))
    assert_alike(*(images.std((1, 2)) for images in results))
    assert_alike(*((images == np.float32(-0.1)).mean((1, 2)) for images in results))
