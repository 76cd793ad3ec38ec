"""The forward model against closed forms: what a sphere, two spheres and a turned particle must scatter."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from spi_lightning.analysis.psd import angular_mean, radial_bins
from spi_lightning.instrument import Instrument
from spi_lightning.reciprocal import momentum_transfer, pixel_positions, q_magnitude
from spi_lightning.simulation.body import Body
from spi_lightning.simulation.experiment import Experiment
from spi_lightning.simulation.particles import DensityMap
from spi_lightning.simulation.scattering import collate, scattered_strength
from spi_lightning.simulation.scenes import Scene
from spi_lightning.simulation.settings import Size
from tests.unit.simulation.conftest import ball

RADIUS_OF_ELECTRON = 2.8179403e-15  # m


def image(experiment: Experiment, scene) -> np.ndarray:
    signal, _ = experiment.expected_photons([scene])
    frame = np.zeros(experiment.instrument.shape)
    frame[experiment.recording] = signal[0].numpy()
    return frame


@pytest.fixture
def experiment(plain, particles, instrument) -> Experiment:
    return Experiment(plain, particles, instrument)


def test_a_sphere_scatters_its_closed_form_in_absolute_photons(experiment, instrument, scene_of) -> None:
    """Everything written out anew in SI units and float64."""
    radius, electrons, fluence = 33.0, 6.5e7, 2.5
    frame = image(experiment, scene_of([ball(radius, electrons)], fluence=fluence))
    y, x = np.indices(instrument.shape)
    place = np.stack([(x - 31.5) * 75e-6, (y - 31.5) * 75e-6, np.full(x.shape, 0.130)], -1)
    length = np.linalg.norm(place, axis=-1)
    half_angle = np.arccos(place[..., 2] / length) / 2
    s = 4 * math.pi * np.sin(half_angle) / (1239.841984 / 1700.0) * radius
    form = 3 * (np.sin(s) - s * np.cos(s)) / s**3
    polarisation = 1 - (place[..., 0] / length) ** 2
    solid = (75e-6) ** 2 * 0.130 / length**3
    photons = fluence * 1e18 * RADIUS_OF_ELECTRON**2 * polarisation * solid * (electrons * form) ** 2
    # Peak envelope: what the maxima of the fringes reach, (3/s²)² far out and 1 at the centre.
    envelope = fluence * 1e18 * RADIUS_OF_ELECTRON**2 * solid * (electrons * np.minimum(1, 3 / s**2)) ** 2
    assert (np.abs(frame - photons) / envelope).max() < 1e-3


@pytest.mark.parametrize(
    ("diameter", "minima", "maxima"),
    [
        (55, (32.9, 56.5, 79.7), (42.1, 66.5, 90.1)),
        (70, (25.8, 44.4, 62.7), (33.1, 52.3, 70.8)),
        (84, (21.5, 37.0, 52.2), (27.6, 43.5, 59.0)),
    ],
)
def test_fringes_of_a_sphere_lie_where_the_literature_puts_them(plain, scene_of, diameter, minima, maxima) -> None:
    detector = Instrument((210, 210), 1700.0, 0.130, 75e-6, (104.5, 104.5))
    wide = dataclasses.replace(plain, detector=dataclasses.replace(plain.detector, shape=(210, 210)))
    frame = image(Experiment(wide, {}, detector), scene_of([ball(diameter / 2)]))
    psd = angular_mean(
        torch.from_numpy(frame), radial_bins(detector.shape, detector.centre), torch.ones(210, 210, dtype=torch.bool)
    ).numpy()
    for place in minima:
        around = slice(round(place) - 4, round(place) + 5)
        assert abs(around.start + np.argmin(psd[around]) - place) <= 1.0
    for place in maxima:
        around = slice(round(place) - 4, round(place) + 5)
        # The q⁻⁴ fall pulls a maximum inwards; the literature's are those of the angular mean itself.
        assert abs(around.start + np.argmax(psd[around]) - place) <= 1.5


def test_two_spheres_make_fringes_of_period_two_pi_over_their_distance(experiment, instrument, scene_of) -> None:
    distance = 300.0
    alone = image(experiment, scene_of([ball(20.0)]))
    both = image(experiment, scene_of([ball(20.0), ball(20.0)], positions=[[0, 0, 0], [distance, 0, 0]]))
    q_x = momentum_transfer(pixel_positions(instrument), instrument.wavelength)[..., 0].numpy()
    pixel = np.sinc(distance * instrument.q_per_pixel / (2 * math.pi))  # a pixel averages over its width
    assert np.allclose(both, alone * (2 + 2 * pixel * np.cos(distance * q_x)), rtol=2e-3, atol=1e-4 * alone.max())


def test_fringes_finer_than_a_pixel_vanish_instead_of_aliasing(experiment, instrument, scene_of) -> None:
    alone = image(experiment, scene_of([ball(20.0)]))
    distance = 2 * math.pi / instrument.q_per_pixel  # one fringe a pixel: an aliased sum would be four times as bright
    both = image(experiment, scene_of([ball(20.0), ball(20.0)], positions=[[0, 0, 0], [0, distance, 0]]))
    assert np.allclose(both, 2 * alone, rtol=5e-3, atol=1e-5 * alone.max())


@pytest.mark.parametrize("apart", [(420.0, 260.0, 0.0), (300.0, 0.0, 900.0), (0.0, 0.0, 2500.0)])
@pytest.mark.parametrize("centre", [(7.5, 7.5), (-70.0, 7.5)])
def test_a_pixel_averages_fringes_as_many_small_pixels_do(plain, scene_of, apart, centre) -> None:
    """The sincs against a detector of pixels eleven times as fine, summed; also far out, also along the beam."""
    scene = scene_of([ball(6.0), ball(6.0)], positions=[[0, 0, 0], apart])

    def frame(cells: int) -> np.ndarray:
        n = 16 * cells
        middle = tuple(c * cells + (cells - 1) / 2 for c in centre)
        detector = Instrument((n, n), 1700.0, 0.130, 75e-6 / cells, middle)
        shaped = dataclasses.replace(plain, detector=dataclasses.replace(plain.detector, shape=(n, n)))
        return image(Experiment(shaped, {}, detector), scene)

    summed = frame(11).reshape(16, 11, 16, 11).sum((1, 3))
    assert np.abs(frame(1) - summed).max() < 0.015 * summed.max()


def test_lopsided_particles_interfere_as_a_direct_sum_over_their_points(plain, instrument, scene_of) -> None:
    """Two density maps without symmetry, turned and apart: every sign of every phase matters."""
    rng = np.random.default_rng(4)
    density = np.zeros((8, 8, 8), np.float32)
    density[1:7, 2:7, 1:6] = rng.random((6, 5, 5)) ** 4
    experiment = Experiment(
        plain,
        {"lump": DensityMap("lump.mrc", 30.0, Size("uniform", 0.0, 0.0, 29.0, 31.0), 1e7, 0.0)},
        instrument,
        {"lump.mrc": (density, 5.0)},
    )
    body = Body("map:lump.mrc", np.eye(3), ((1.0, 1e7),), 0.0, 30.0)
    quaternions = rng.normal(size=(2, 4))
    quaternions /= np.linalg.norm(quaternions, axis=1, keepdims=True)
    positions = np.array([[0.0, 0, 0], [35.0, -20.0, 10.0]])
    frame = image(experiment, scene_of([body, body], positions=positions, quaternions=quaternions))

    filled = np.argwhere(density > 0)
    weights = density[tuple(filled.T)].astype(np.float64)
    points = (filled - (filled * weights[:, None]).sum(0) / weights.sum())[:, ::-1] * 5.0
    q = momentum_transfer(pixel_positions(instrument), instrument.wavelength).reshape(-1, 3).numpy()
    wave = np.zeros(len(q), complex)
    for place, quaternion in zip(positions, quaternions, strict=True):
        turn = Rotation.from_quat(quaternion[[1, 2, 3, 0]]).as_matrix()
        cell = np.sinc((q @ turn) * 5.0 / (2 * np.pi)).prod(1)
        wave += np.exp(1j * q @ (points @ turn.T + place).T) @ weights / weights.sum() * cell
    expected = np.abs(wave.reshape(instrument.shape)) ** 2
    relative = frame / frame.sum() - expected / expected.sum()
    assert np.abs(relative).max() < 0.02 * (expected / expected.sum()).max()


def test_turning_the_particle_about_the_beam_turns_the_pattern(experiment, scene_of) -> None:
    body = Body("cylinder", np.diag([12.0, 12.0, 50.0]), ((1.0, 1e7),), 0.0, 40.0)
    tilt = np.array([math.cos(0.5), math.sin(0.5), 0.0, 0.0])
    quarter = math.sqrt(0.5)
    turned = np.array(
        [quarter * tilt[0], quarter * tilt[1], quarter * tilt[1], quarter * tilt[0]]
    )  # 90° about z, after
    first = image(experiment, scene_of([body], quaternions=[tilt]))
    second = image(experiment, scene_of([body], quaternions=[turned]))
    # x → y, y → −x takes column c, row r to row c, column −r; the polarisation does not turn along.
    place = pixel_positions(experiment.instrument)
    direction = (place / place.norm(dim=-1, keepdim=True)).numpy()
    first, second = first / (1 - direction[..., 0] ** 2), second / (1 - direction[..., 0] ** 2)
    assert np.allclose(second, np.rot90(first, k=-1), rtol=1e-3, atol=1e-5 * first.max())
    assert not np.allclose(second, first, rtol=0.1, atol=1e-3 * first.max())


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_friedel_opposite_momentum_transfers_see_the_same(seed: int) -> None:
    rng = np.random.default_rng(seed)
    body = Body("sphere", rng.normal(size=(3, 3)) * 20, ((1.0, 1e6),), 0.5, 40.0)
    q = torch.from_numpy(rng.normal(size=(1, 3, 64)) * 0.2).float()
    scene = Scene(
        0,
        (body, body),
        rng.normal(size=(2, 4)),
        rng.normal(size=(2, 3)) * 50,
        np.ones(2),
        np.zeros(2),
        1,
        (0, 0),
        0.5,
        1,
    )
    particles = collate([scene], torch.device("cpu"))
    forward, backward = (scattered_strength(particles, sign * q, {}, torch.full((2, 3, 64), 0.003)) for sign in (1, -1))
    assert torch.allclose(forward, backward, rtol=1e-4, atol=1e-4 * float(forward.max()))


def test_photons_grow_with_fluence_and_with_the_square_of_the_electrons(experiment, scene_of) -> None:
    once = image(experiment, scene_of([ball(30.0, 1e7)], fluence=1.0))
    assert np.allclose(image(experiment, scene_of([ball(30.0, 1e7)], fluence=3.0)), 3 * once, rtol=1e-5)
    assert np.allclose(image(experiment, scene_of([ball(30.0, 2e7)])), 4 * once, rtol=1e-5)


def test_all_scattered_photons_of_a_large_sphere_are_its_cross_section_times_the_fluence(plain, scene_of) -> None:
    """∫|T|² dΩ of a sphere much larger than the wavelength is (9/4)·2π/(kR)², and hardly any leaves the detector."""
    radius, electrons = 80.0, 1e8
    detector = Instrument((200, 200), 1700.0, 0.130, 75e-6, (99.5, 99.5), "none")
    shaped = dataclasses.replace(plain, detector=dataclasses.replace(plain.detector, shape=(200, 200)))
    frame = image(Experiment(shaped, {}, detector), scene_of([ball(radius, electrons)]))
    k = 2 * math.pi / detector.wavelength
    # ∫|T|² 2π x dx from 0 to ∞ with x = qR is 2π · 9/4; dΩ = d²q/k².
    total = 1e18 * RADIUS_OF_ELECTRON**2 * electrons**2 * 2 * math.pi * 9 / 4 / (k * radius) ** 2
    assert frame.sum() == pytest.approx(total, rel=0.02)


def test_roughness_damps_high_momentum_transfers_only(experiment, instrument, scene_of) -> None:
    smooth = image(experiment, scene_of([ball(30.0)]))
    rough = image(experiment, scene_of([dataclasses.replace(ball(30.0), roughness=3.0)]))
    q = q_magnitude(instrument).numpy()
    assert np.allclose(rough, smooth * np.exp(-((3.0 * q) ** 2)), rtol=1e-3, atol=1e-6 * smooth.max())


def test_a_hollow_shell_is_the_difference_of_two_spheres(experiment, scene_of) -> None:
    hollow = Body("sphere", 30.0 * np.eye(3), ((1.0, 2.7e7), (2 / 3, -0.8e7)), 0.0, 60.0)
    frame = image(experiment, scene_of([hollow]))
    both = scene_of([ball(30.0, 2.7e7), ball(20.0, -0.8e7)])  # at the same place, coherently
    assert np.allclose(frame, image(experiment, both), rtol=1e-3, atol=1e-5 * frame.max())
