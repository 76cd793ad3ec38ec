"""Each sort of particle has the volume, the electrons and the shape that its settings say."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from spi_lightning.errors import SpiError
from spi_lightning.simulation.particles import DensityMap, IcosahedralVirus, Rod, Spheroid
from spi_lightning.simulation.scenes import Focus, SceneSource, touching_positions
from spi_lightning.simulation.settings import Size

SIZE = Size("normal", 70.0, 8.0, 40.0, 100.0)
VIRUS = IcosahedralVirus(SIZE, 6.0, 430.0, 360.0, 0.0, 0.1, 0.8)
DROPLET = Spheroid(SIZE, (0.5, 2.0), 340.0, 1.0)
ROD = Rod(SIZE, (2.0, 6.0), 400.0, 1.0)
MAP = DensityMap("x.mrc", 66.0, SIZE, 1.5e7, 0.5)

seeds = st.integers(0, 2**32 - 1)


def ball(diameter: float) -> float:
    return math.pi / 6 * diameter**3


@given(seeds)
@hypothesis_settings(deadline=None)
def test_the_volume_is_that_of_a_sphere_of_the_drawn_diameter(seed: int) -> None:
    unit_volumes = {"icosahedron": 4 * math.pi / 3, "sphere": 4 * math.pi / 3, "cylinder": 2 * math.pi}
    for sort in (VIRUS, DROPLET, ROD):
        body = sort.draw(np.random.default_rng(seed))
        assert np.linalg.det(body.stretch) * unit_volumes[body.shape] == pytest.approx(ball(body.diameter))
        assert body.shape == sort.shape
        assert 40 <= body.diameter <= 100


@given(seeds)
@hypothesis_settings(deadline=None)
def test_electrons_are_density_times_volume(seed: int) -> None:
    droplet, rod = (sort.draw(np.random.default_rng(seed)) for sort in (DROPLET, ROD))
    assert droplet.electrons == pytest.approx(340 * ball(droplet.diameter))
    assert rod.electrons == pytest.approx(400 * ball(rod.diameter))
    virus = VIRUS.draw(np.random.default_rng(seed))
    # The capsid's thickness is measured where a face is nearest to the middle.
    inradius = 0.9393 * virus.diameter / 2
    core = ball(virus.diameter) * ((inradius - 6) / inradius) ** 3
    assert virus.electrons == pytest.approx(430 * (ball(virus.diameter) - core) + 360 * core, rel=1e-3)


def test_core_and_capsid_are_both_there() -> None:
    outer, inner = VIRUS.draw(np.random.default_rng(1)).shells
    assert outer[0] == 1.0
    assert 0.7 < inner[0] < 0.95
    assert inner[1] < 0  # the core is less dense than the capsid that fills the outer shell
    solid = dataclasses.replace(VIRUS, capsid_thickness=1000.0).draw(np.random.default_rng(1))
    assert solid.electrons == pytest.approx(430 * ball(solid.diameter))


@given(seeds)
@hypothesis_settings(deadline=None)
def test_aspects_are_length_over_width(seed: int) -> None:
    droplet = np.diag(DROPLET.draw(np.random.default_rng(seed)).stretch)
    assert 0.5 <= droplet[2] / droplet[0] <= 2.0
    assert droplet[0] == droplet[1]
    long = np.diag(dataclasses.replace(DROPLET, aspect=(3.0, 3.0)).draw(np.random.default_rng(seed)).stretch)
    assert long[2] / long[0] == pytest.approx(3.0)
    rod = np.diag(ROD.draw(np.random.default_rng(seed)).stretch)
    assert 2.0 <= rod[2] / rod[0] <= 6.0


def test_a_map_grows_with_its_diameter() -> None:
    body = MAP.draw(np.random.default_rng(3))
    scale = body.diameter / 66.0
    assert np.allclose(body.stretch, scale * np.eye(3))
    assert body.electrons == pytest.approx(1.5e7 * scale**3)


@pytest.mark.parametrize("sort", [VIRUS, DROPLET, ROD, MAP])
def test_bodies_stay_within_the_stretch_that_the_transform_is_made_for(sort) -> None:
    largest = [np.linalg.norm(sort.draw(np.random.default_rng(i)).stretch, 2) for i in range(300)]
    assert np.quantile(largest, 0.98) <= sort.largest_stretch
    assert sort.largest_stretch < 8 * np.median(largest)  # no grid a size too large


@pytest.mark.parametrize(
    ("sort", "change"),
    [
        (VIRUS, {"capsid_thickness": -1.0}),
        (VIRUS, {"deformation": -0.1}),
        (VIRUS, {"core_density": math.inf}),
        (DROPLET, {"roughness": -3.0}),
        (DROPLET, {"aspect": (0.0, 1.0)}),
        (ROD, {"aspect": (3.0, 2.0)}),
        (ROD, {"density": -1.0}),
        (MAP, {"map_diameter": 0.0}),
    ],
)
def test_what_no_particle_can_have_is_refused(sort, change: dict) -> None:
    with pytest.raises(SpiError, match=next(iter(change))):
        dataclasses.replace(sort, **change)


def test_a_map_without_electrons_says_what_to_do() -> None:
    with pytest.raises(SpiError, match="read the map first"):
        dataclasses.replace(MAP, electrons=None).draw(np.random.default_rng(0))


@given(st.lists(st.floats(5, 200), min_size=2, max_size=7), seeds)
@hypothesis_settings(deadline=None)
def test_aggregates_touch_and_do_not_overlap(diameters: list[float], seed: int) -> None:
    places = touching_positions(diameters, np.random.default_rng(seed))
    radii = np.array(diameters) / 2
    for i in range(1, len(radii)):
        gaps = np.linalg.norm(places[:i] - places[i], axis=1) - radii[:i] - radii[i]
        assert gaps.min() > -1e-5 * radii.max()
        assert np.abs(gaps).min() < 1e-5 * radii.max()


@pytest.fixture
def source(settings, particles) -> SceneSource:
    return SceneSource(settings, particles, 1700.0, lambda diameter: 1e-6)


def test_particles_apart_keep_their_distance(source, settings) -> None:
    apart = list(settings.composition).index("coincident")
    scenes = [scene for scene in map(source.draw, range(600)) if scene.ingredient == apart]
    distances = np.concatenate([np.linalg.norm(s.positions[1:] - s.positions[0], axis=1) for s in scenes])
    assert (distances >= 80 - 1e-6).all()
    assert (distances <= 900 + 1e-6).all()
    # Evenly in the logarithm: the middle of the logarithms is the median.
    assert abs(np.median(np.log(distances)) - np.log(80 * 900) / 2) < 0.2


def test_each_further_particle_is_half_as_likely(source, settings) -> None:
    together = list(settings.composition).index("aggregate")
    counts = [len(s.bodies) for s in map(source.draw, range(1600)) if s.ingredient == together]
    shares = np.bincount(counts, minlength=5)[2:] / len(counts)
    assert np.allclose(shares, [4 / 7, 2 / 7, 1 / 7], atol=0.09)


def test_pulses_vary_in_energy_and_fluence_follows_the_place(source, settings) -> None:
    focus = Focus(settings.beam, 1700.0)
    scenes = [scene for scene in map(source.draw, range(600)) if scene.bodies]
    energies = np.array(
        [float(s.fluences[0] / focus.fluence(np.hypot(s.positions[0, 0], s.positions[0, 1]))) for s in scenes]
    )
    assert abs(energies.mean() - 1) < 0.03
    assert abs(energies.std() - 0.1) < 0.02


def test_no_two_patterns_share_their_noise(source) -> None:
    seeds_of_noise = [source.draw(i).noise_seed for i in range(300)]
    assert len(set(seeds_of_noise)) == 300
    assert max(seeds_of_noise) < 2**32
