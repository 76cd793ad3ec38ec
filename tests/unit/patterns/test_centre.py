from __future__ import annotations

import math
from pathlib import Path

import h5py
import numpy as np
import pytest

from spi_lightning.errors import SpiError
from spi_lightning.patterns.centre import find_centre


def sphere(
    shape: tuple[int, int], centre: tuple[float, float], ring: float, photons: float, mask: np.ndarray, seed: int
) -> np.ndarray:
    """Photons of a sphere's pattern, rings ``ring`` pixels apart, on the good pixels."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    s = np.pi * np.hypot(x - centre[0], y - centre[1]) / ring + 1e-9
    intensity = np.where(mask, (3 * (np.sin(s) - s * np.cos(s)) / s**3) ** 2, 0)
    return np.random.default_rng(seed).poisson(intensity * photons / intensity.sum()).astype(float)


def with_faults(shape: tuple[int, int], centre: tuple[float, float], seed: int) -> np.ndarray:
    """Mask of a detector with a beam stop that is not quite centred, a gap between panels, a border, and bad pixels."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    mask = np.hypot(x - centre[0] + 2, y - centre[1] - 1) > 5
    mask &= rng.random(shape) > 0.01
    gap = int(centre[1]) + int(rng.integers(-8, 8))
    mask[gap : gap + 3] = False
    mask[:, : rng.integers(1, 10)] = False
    return mask


def error_of(found: object, centre: tuple[float, float]) -> float:
    return math.dist((found.x, found.y), centre)  # type: ignore[attr-defined]


@pytest.mark.parametrize("method", ["auto", "friedel", "rings"])
@pytest.mark.parametrize("seed", range(6))
def test_full_planes_with_gaps_and_masks(method: str, seed: int):
    rng = np.random.default_rng(100 + seed)
    shape = ((100, 140), (128, 96))[seed % 2]
    centre = (rng.uniform(0.35, 0.65) * shape[1], rng.uniform(0.35, 0.65) * shape[0])
    mask = with_faults(shape, centre, seed)
    found = find_centre(sphere(shape, centre, rng.uniform(8, 25), 50_000, mask, seed), mask, method)
    assert error_of(found, centre) < 0.3
    assert found.score > 0.5
    assert found.uncertainty < 0.3


@pytest.mark.parametrize("edge", ["left", "right", "top", "bottom"])
@pytest.mark.parametrize("seed", range(3))
def test_half_planes_with_the_beam_on_any_edge_or_beyond(edge: str, seed: int):
    rng = np.random.default_rng(200 + seed)
    across, along = rng.uniform(-3, 2), rng.uniform(50, 80)
    centre = {
        "left": (across, along), "right": (63 - across, along), "top": (along, across), "bottom": (along, 63 - across)
    }[edge]  # fmt: skip
    shape = (128, 64) if edge in ("left", "right") else (64, 128)
    y, x = np.mgrid[: shape[0], : shape[1]]
    mask = (np.hypot(x - centre[0], y - centre[1]) > 5) & (rng.random(shape) > 0.01)
    found = find_centre(sphere(shape, centre, rng.uniform(8, 20), 50_000, mask, seed), mask)
    assert found.method == "rings"
    assert error_of(found, centre) < 0.7


@pytest.mark.parametrize("seed", range(4))
def test_a_half_plane_has_no_friedel_mates(seed: int):
    centre, mask = (-1.0 + seed, 66.3), np.ones((128, 64), bool)
    mean = sphere((128, 64), centre, 8 + 3 * seed, 50_000, mask, seed)
    with pytest.raises(SpiError, match=r"centre.method=rings \(for a half plane\)"):
        find_centre(mean, mask, "friedel")


def test_friedel_symmetry_without_circular_symmetry():
    rng = np.random.default_rng(3)
    shape, centre = (120, 110), (57.3, 64.8)
    y, x = np.mgrid[: shape[0], : shape[1]]
    mask = with_faults(shape, centre, 3)
    pair = 1 + 0.9 * np.cos(0.35 * (x - centre[0]) + 0.2 * (y - centre[1]))  # two particles
    mean = rng.poisson(sphere(shape, centre, 14, 1e7, mask, 3) / 50 * pair).astype(float)
    found = find_centre(mean, mask)
    assert found.method == "friedel"
    assert error_of(found, centre) < 0.3


def test_turning_and_mirroring_move_the_centre_along():
    shape, centre = (90, 121), (50.4, 47.7)
    mask = with_faults(shape, centre, 5)
    mean = sphere(shape, centre, 11, 50_000, mask, 5)
    for method in ("friedel", "rings"):
        one = find_centre(mean, mask, method)
        flipped = find_centre(mean[::-1, ::-1], mask[::-1, ::-1], method)
        assert (flipped.x, flipped.y) == pytest.approx((120 - one.x, 89 - one.y), abs=0.02)
        across = find_centre(mean.T, mask.T, method)
        assert (across.x, across.y) == pytest.approx((one.y, one.x), abs=0.02)


def test_values_under_the_mask_do_not_matter():
    shape, centre = (80, 80), (38.2, 41.1)
    mask = with_faults(shape, centre, 6)
    mean = sphere(shape, centre, 9, 30_000, mask, 6)
    dirty = np.where(mask, mean, 1e6)
    dirty[~mask & (np.arange(80) % 2 == 0)] = np.nan
    assert find_centre(dirty, mask) == find_centre(mean, mask)


@pytest.mark.parametrize("mean_photons", [0.0, 0.01, 1.0, 50.0])
@pytest.mark.parametrize("seed", range(3))
def test_noise_has_no_centre(mean_photons: float, seed: int):
    noise = np.random.default_rng(seed).poisson(mean_photons, (96, 80)).astype(float)
    with pytest.raises(SpiError, match=r"No beam centre.*instrument.centre=\[x,y\]"):
        find_centre(noise, np.ones((96, 80), bool))


def test_a_detector_without_good_pixels():
    with pytest.raises(SpiError, match="0 good pixels"):
        find_centre(np.ones((50, 50)), np.zeros((50, 50), bool))


def test_the_real_mean_pattern(shared_data: Path):
    with h5py.File(shared_data / "pr772_amo86615_20_labelled.cxi") as file:
        mean, mask = file["entry_1/image_1/data"][:].mean(axis=0), file["entry_1/image_1/mask"][:] == 0
    by_friedel, by_rings = find_centre(mean, mask, "friedel"), find_centre(mean, mask, "rings")
    print(f"the file says (63.5, 63.5); {by_friedel}; {by_rings}")
    assert error_of(by_friedel, (by_rings.x, by_rings.y)) < 0.05  # two symmetries, one centre
    assert error_of(by_friedel, (63.5, 63.5)) < 0.5
    for half in (np.s_[:62], np.s_[66:], np.s_[:, :62], np.s_[:, 66:]):
        part = np.zeros_like(mask)
        part[half] = mask[half]
        found = find_centre(mean, part)
        assert found.method == "rings"
        assert error_of(found, (by_friedel.x, by_friedel.y)) < 0.7
