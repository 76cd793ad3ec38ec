from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from spi_lightning.analysis.class_choice import (
    MEASURES,
    RAMPS,
    ChoiceSettings,
    ClassMeasures,
    choose_classes,
    measure_classes,
)
from spi_lightning.analysis.contrast import FringeSettings
from spi_lightning.analysis.em import Classification
from spi_lightning.analysis.em_images import EMPixels, em_pixels
from spi_lightning.analysis.em_settings import EMSettings
from spi_lightning.analysis.size import SizeSettings, form_factor
from spi_lightning.errors import SpiError

Q = 0.005  # nm⁻¹ a pixel
EM = EMSettings(classes=3, rotations=24)
PIXELS = em_pixels(torch.ones(111, 56, dtype=torch.bool), (-0.5, 55.0), 12, 54)  # half a plane


def sphere(diameter: float, photons: float) -> torch.Tensor:
    """Expected photons in the pixels, with a little background that keeps minima from being empty."""
    intensity = form_factor(PIXELS.radius * Q, diameter) + 2e-4
    return intensity * photons / intensity.sum()


def modulated(rotations: torch.Tensor, depth: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
    """Patterns ``(n, P)`` of a class image with two lobes, (1 + depth cos 2φ), each turned by its rotation."""
    turned = torch.atan2(PIXELS.y, PIXELS.x) + rotations[:, None] * math.pi / EM.rotations
    return (1 + depth[:, None] * (2 * turned).cos()) * expected


def classified(classes: torch.Tensor, rotations: torch.Tensor, number: int = 3) -> Classification:
    side, n = PIXELS.side, len(classes)
    images, ones = torch.zeros(number, side, side, dtype=torch.float64), torch.ones(n, dtype=torch.float64)
    return Classification(images, images, classes, rotations, ones, ones, -ones, [0.0], True)


def measured(
    counts: torch.Tensor,
    classes: torch.Tensor,
    rotations: torch.Tensor,
    settings: ChoiceSettings | None = None,
    number: int = 3,
    pixels: EMPixels = PIXELS,
) -> ClassMeasures:
    found = classified(classes, rotations, number)
    size = SizeSettings(30.0, 130.0)
    return measure_classes(found, counts, pixels, Q, EM, settings or ChoiceSettings(), FringeSettings(), size)


def poisson(expected: torch.Tensor, seed: int = 0) -> torch.Tensor:
    return torch.poisson(expected, generator=torch.Generator().manual_seed(seed))


def turned_at_random(n: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(EM.rotations, (n,), generator=torch.Generator().manual_seed(seed))


def test_spheres_are_isotropic_alike_and_of_their_size() -> None:
    n = 60
    counts = poisson(sphere(70.0, 4000.0).expand(n, -1) * torch.linspace(0.5, 2, n)[:, None])
    result = measured(counts, torch.ones(n, dtype=torch.int64), turned_at_random(n))
    assert result.patterns.tolist() == [0, n, 0]
    assert float(result.diameter[1]) == pytest.approx(70.0, abs=1.0)
    assert float(result.misfit[1]) < 0.15
    assert float(result.contrast[1]) > 0.6
    assert float(result.symmetry[1]) > 0.97
    assert float(result.spread[1]) < 0.05  # brightness is no difference
    assert float(result.score[1]) > 0.95


def test_empty_classes_have_no_measures_and_are_not_chosen() -> None:
    counts = poisson(sphere(70.0, 4000.0).expand(8, -1))
    result = measured(counts, torch.ones(8, dtype=torch.int64), turned_at_random(8))
    for name in (*MEASURES, "diameter", "score"):
        assert getattr(result, name)[[0, 2]].isnan().all(), name
    assert choose_classes(result, ChoiceSettings(cut=0.0)).tolist() == [False, True, False]


@pytest.mark.parametrize("depth", [0.2, 0.6])
@pytest.mark.parametrize("n", [6, 200])
def test_symmetry_lacks_the_modulation_of_the_image_however_many_patterns(depth: float, n: int) -> None:
    rotations = turned_at_random(n)
    counts = poisson(modulated(rotations, torch.full((n,), depth), sphere(70.0, 6000.0)))
    result = measured(counts, torch.zeros(n, dtype=torch.int64), rotations)
    assert float(result.symmetry[0]) == pytest.approx(1 - depth / math.sqrt(2), abs=0.025)
    assert float(result.spread[0]) < 0.06


@pytest.mark.parametrize("n", [20, 400])
@pytest.mark.parametrize("photons", [1500.0, 20000.0])
def test_spread_is_how_far_members_differ_however_many_and_bright(n: int, photons: float) -> None:
    # Half have lobes where the other half has none: their average is round, and each differs from it by 0.5 cos 2φ.
    depth = torch.where(torch.arange(n) % 4 < 2, 0.5, -0.5)
    rotations = turned_at_random(n // 4).repeat_interleave(4)  # the same turns in both halves
    counts = poisson(modulated(rotations, depth, sphere(70.0, photons)))
    result = measured(counts, torch.zeros(n, dtype=torch.int64), rotations)
    # The others of a class of n show 1/(n - 1) of the opposite lobes.
    expected = 0.5 / math.sqrt(2) * n / (n - 1)
    assert float(result.spread[0]) == pytest.approx(expected, abs=0.04)
    assert float(result.symmetry[0]) > 0.9


def test_pairs_of_particles_score_below_single_ones() -> None:
    n = 50
    rotations = turned_at_random(2 * n)
    turn = rotations[:, None] * math.pi / EM.rotations
    along = PIXELS.x * turn.cos() - PIXELS.y * turn.sin()
    apart = torch.linspace(70, 160, 2 * n)[:, None]  # nm: fringes of many periods, as aggregates have
    fringes = torch.where(torch.arange(2 * n)[:, None] < n, 1.0, 1 + (along * Q * apart).cos())
    result = measured(poisson(sphere(70.0, 4000.0) * fringes), torch.arange(2 * n) // n, rotations)
    for name, better in (("symmetry", 1), ("spread", -1), ("score", 1)):
        single, pair = (better * float(value) for value in getattr(result, name)[:2])
        assert single > pair, name


def test_streaks_and_mixtures_are_not_chosen_and_single_particles_are() -> None:
    n = 40
    rotations, kind = turned_at_random(3 * n), torch.arange(3 * n) // n
    single = modulated(rotations[:n], torch.full((n,), 0.3), sphere(70.0, 4000.0))  # facets
    fall = torch.exp(-PIXELS.radius / 12)
    streak = modulated(rotations[n : 2 * n], torch.full((n,), 0.95), fall * 4000 / fall.sum())
    sizes = torch.linspace(40, 120, n).tolist()
    mixture = torch.stack([sphere(size, 4000.0) for size in sizes])
    result = measured(poisson(torch.cat([single, streak, mixture])), kind, rotations)
    assert choose_classes(result, ChoiceSettings()).tolist() == [True, False, False]
    assert float(result.symmetry[1]) < 0.4
    assert float(result.contrast[2].nan_to_num(0.0)) < 0.3


def test_a_size_outside_the_grid_is_no_sphere_in_question() -> None:
    counts = poisson(sphere(20.0, 4000.0).expand(10, -1))
    result = measured(counts, torch.zeros(10, dtype=torch.int64), turned_at_random(10))
    assert result.misfit[0] == math.inf
    assert math.isfinite(result.score[0])


def test_one_pattern_and_no_photon_are_no_class_to_choose() -> None:
    counts = torch.cat([poisson(sphere(70.0, 9000.0))[None], torch.zeros(4, len(PIXELS.x), dtype=torch.float64)])
    result = measured(counts, torch.tensor([0, 1, 1, 1, 1]), torch.zeros(5, dtype=torch.int64))
    assert result.symmetry[:2].isnan().all()
    assert result.spread[:2].isnan().all()
    assert result.score[1] == 0
    assert not choose_classes(result, ChoiceSettings()).any()


def test_the_score_is_the_weighted_mean_of_the_ramps() -> None:
    n = 40
    rotations = turned_at_random(n)
    counts = poisson(modulated(rotations, torch.full((n,), 0.7), sphere(66.0, 3000.0)))
    settings = ChoiceSettings(contrast=1.0, misfit=2.0, symmetry=3.0, spread=4.0)
    result = measured(counts, torch.zeros(n, dtype=torch.int64), rotations, settings)
    values = [float(getattr(result, name)[0]) for name in MEASURES]
    shares = [np.interp(value, *ramp(name)) for name, value in zip(MEASURES, values, strict=True)]
    assert float(result.score[0]) == pytest.approx(np.average(shares, weights=[1, 2, 3, 4]))
    assert 0 < shares[2] < 1  # the symmetry is on the ramp
    alone = dataclasses.replace(settings, contrast=0.0, misfit=0.0, spread=0.0)
    again = measured(counts, torch.zeros(n, dtype=torch.int64), rotations, alone)
    assert float(again.score[0]) == pytest.approx(shares[2])
    for cut, chosen in ((float(result.score[0]), True), (float(result.score[0]) + 1e-9, False)):
        assert bool(choose_classes(result, dataclasses.replace(settings, cut=cut))[0]) is chosen


def ramp(name: str) -> tuple[list[float], list[float]]:
    worst, best = RAMPS[name]
    return ([worst, best], [0.0, 1.0]) if worst < best else ([best, worst], [1.0, 0.0])


def test_without_friedel_symmetry_opposite_sides_are_told_apart() -> None:
    whole = em_pixels(torch.ones(81, 81, dtype=torch.bool), (40.0, 40.0), 10, 40)
    n, em = 30, EMSettings(classes=1, rotations=24, friedel=False)
    rotations = turned_at_random(n)
    turned = torch.atan2(whole.y, whole.x) + rotations[:, None] * 2 * math.pi / em.rotations
    counts = poisson((1 + 0.5 * turned.cos()) * 3.0)  # one-sided: no Friedel pair agrees
    classes = torch.zeros(n, dtype=torch.int64)
    found = dataclasses.replace(classified(classes, rotations, 1), images=torch.zeros(1, whole.side, whole.side))
    arguments = (ChoiceSettings(), FringeSettings(), SizeSettings(30.0, 130.0))
    result = measure_classes(found, counts, whole, Q, em, *arguments)
    assert float(result.symmetry[0]) == pytest.approx(1 - 0.5 / math.sqrt(2), abs=0.02)


def test_photons_of_any_type_say_the_same() -> None:
    counts = poisson(sphere(70.0, 3000.0).expand(12, -1))
    classes, rotations = torch.arange(12) % 2, turned_at_random(12)
    expected = measured(counts, classes, rotations)
    for dtype in (torch.uint8, torch.uint16, torch.int32, torch.float32):
        result = measured(counts.to(dtype), classes, rotations)
        for field in dataclasses.fields(ClassMeasures):
            assert torch.equal(getattr(result, field.name).nan_to_num(-1), getattr(expected, field.name).nan_to_num(-1))


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(SpiError, match="cut"):
        ChoiceSettings(cut=1.5)
    with pytest.raises(SpiError, match="sum of the weights"):
        ChoiceSettings(contrast=0, misfit=0, symmetry=0, spread=0)
    with pytest.raises(SpiError, match="spread"):
        ChoiceSettings(spread=-1.0)
    with pytest.raises(SpiError, match="pairs"):
        ChoiceSettings(pairs=0)


def test_counts_of_other_patterns_are_refused() -> None:
    with pytest.raises(ValueError, match="The counts are"):
        measured(torch.ones(3, 7), torch.zeros(3, dtype=torch.int64), torch.zeros(3, dtype=torch.int64))
