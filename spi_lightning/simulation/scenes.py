"""What crosses the beam in each shot: which particles, how large, how turned, where, and how much light there is.

Scene i is drawn from (seed, i) alone, whatever else is drawn before it or beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from spi_lightning.errors import SpiError
from spi_lightning.orientation.rotations import uniform_quaternions
from spi_lightning.simulation.body import Body, Particle
from spi_lightning.simulation.settings import Background, Beam, Ingredient, Simulation

ELECTRON_RADIUS = 2.8179403262e-6  # classical, nm
JOULE_PER_EV = 1.602176634e-19
ATTEMPTS = 200  # draws of a particle that is bright enough for the hit finder


@dataclass(frozen=True)
class Scene:
    """One shot.

    Attributes:
        ingredient: index into the composition.
        bodies: the ``n`` particles.
        quaternions: ``(n, 4)``, scalar first.
        positions: ``(n, 3)``, nm, from the middle of the focus; z along the beam.
        fluences: ``(n,)``, photons per nm² at each particle.
        centre_offset: ``(2,)``, where the beam meets the detector relative to its mean, (x, y) in pixels.
        background: factor of this shot's background.
        streak: level and direction (radians) of the streak; a level of 0 for none.
        expert: uniform number in (0, 1) that the expert's verdict hangs on.
        noise_seed: seed of the photon noise.
    """

    ingredient: int
    bodies: tuple[Body, ...]
    quaternions: np.ndarray
    positions: np.ndarray
    fluences: np.ndarray
    centre_offset: np.ndarray
    background: float
    streak: tuple[float, float]
    expert: float
    noise_seed: int


class Focus:
    """Fluence across the focus: a Gaussian core and a wider Gaussian halo."""

    def __init__(self, beam: Beam, photon_energy: float):
        photons = beam.pulse_energy * beam.transmission / (photon_energy * JOULE_PER_EV)
        factor = 4 * math.log(2)
        self._inverse = np.array([factor / beam.focus**2, factor / beam.halo_focus**2])
        shares = np.array([1 - beam.halo_share, beam.halo_share])
        self._peaks = photons * shares * self._inverse / math.pi
        # Falling fluence over growing distance, to be read backwards; beyond 2.5 widths hardly a photon is left.
        self._distance = np.linspace(0, 2.5 * max(beam.focus, beam.halo_focus), 4096)
        self._table = self.fluence(self._distance)

    def fluence(self, distance: np.ndarray | float) -> np.ndarray:
        """Photons per nm² at a distance from the beam's axis in nm, for a pulse of mean energy."""
        square = np.square(distance)
        return sum(peak * np.exp(-inverse * square) for peak, inverse in zip(self._peaks, self._inverse, strict=True))

    def distance_of(self, fluence: float) -> float:
        """Distance in nm within which there are at least ``fluence`` photons per nm²; 0 where there nowhere are."""
        return float(np.interp(-fluence, -self._table, self._distance)) if fluence < self._table[0] else 0.0


class SceneSource:
    """Draws the scenes of one simulated run."""

    def __init__(
        self,
        settings: Simulation,
        particles: Mapping[str, Particle],
        photon_energy: float,
        visible: Callable[[float], float],
    ):
        """Prepare to draw.

        Args:
            settings: the run.
            particles: the sorts of particles that the composition names.
            photon_energy: eV.
            visible: diameter in nm → what the detector sees of a sphere of that size, ∫ P |T|² dΩ, sr. With it the
                hit finder's verdict is known before a single pixel is computed.
        """
        self._settings = settings
        self._particles = particles
        self._focus = Focus(settings.beam, photon_energy)
        self._visible = visible
        self._names = list(settings.composition)
        shares = np.array([settings.composition[name].share for name in self._names])
        self._cumulative = np.cumsum(shares / shares.sum())
        # torch's generator looks at 32 bits of a seed: counting up from somewhere, no two patterns share one.
        self._first_noise_seed = int(np.random.SeedSequence(settings.seed).generate_state(1)[0])

    def draw(self, index: int) -> Scene:
        """Draw scene ``index``."""
        settings = self._settings
        rng = np.random.default_rng([settings.seed, index])
        which = min(int(np.searchsorted(self._cumulative, rng.random(), side="right")), len(self._names) - 1)
        energy = max(0.1, 1 + settings.beam.pulse_energy_spread * rng.standard_normal())
        bodies, positions, fluences = self._particles_in_beam(self._names[which], energy, rng)
        quaternions = uniform_quaternions(torch.from_numpy(rng.random((len(bodies), 3)))).numpy()
        return Scene(
            ingredient=which,
            bodies=bodies,
            quaternions=quaternions,
            positions=positions,
            fluences=fluences,
            centre_offset=settings.beam.centre_jitter * rng.standard_normal(2),
            background=energy * math.exp(settings.background.spread * rng.standard_normal()),
            streak=_streak(settings.background, rng),
            expert=float(rng.uniform(1e-12, 1 - 1e-12)),
            noise_seed=(self._first_noise_seed + index) % 2**32,
        )

    def _particles_in_beam(
        self, name: str, energy: float, rng: np.random.Generator
    ) -> tuple[tuple[Body, ...], np.ndarray, np.ndarray]:
        ingredient = self._settings.composition[name]
        if not ingredient.particles:
            return (), np.zeros((0, 3)), np.zeros(0)
        for _ in range(ATTEMPTS):
            bodies = self._bodies(ingredient, rng)
            photons = ELECTRON_RADIUS**2 * sum(body.electrons**2 * self._visible(body.diameter) for body in bodies)
            reach = self._focus.distance_of(self._settings.least_photons / (photons * energy)) if photons > 0 else 0.0
            if reach > 0:
                break
        else:
            raise SpiError(
                f"simulate.composition.{name}: in {ATTEMPTS} draws no particle scattered the "
                f"{self._settings.least_photons:g} photons that the hit finder asks for, not even in the middle of the "
                "focus. Lower simulate.least_photons, or raise simulate.beam.pulse_energy, its transmission, or the "
                "particle's size."
            )
        distance, angle = reach * math.sqrt(rng.random()), 2 * math.pi * rng.random()
        place = np.array([distance * math.cos(angle), distance * math.sin(angle), 0.0])
        if ingredient.separation is None:
            positions = place + touching_positions([body.diameter for body in bodies], rng)
        else:
            positions = place + _scattered_positions(len(bodies), ingredient.separation, rng)
        fluences = energy * self._focus.fluence(np.hypot(positions[:, 0], positions[:, 1]))
        return bodies, positions, fluences

    def _bodies(self, ingredient: Ingredient, rng: np.random.Generator) -> tuple[Body, ...]:
        low, high = ingredient.count
        weights = 0.5 ** np.arange(high - low + 1)
        count = low + int(rng.choice(high - low + 1, p=weights / weights.sum()))
        names = rng.choice(list(ingredient.particles), size=count)
        return tuple(self._particles[str(name)].draw(rng) for name in names)


def touching_positions(diameters: list[float], rng: np.random.Generator) -> np.ndarray:
    """Grow an aggregate: each sphere touches a random earlier one and overlaps none.

    Args:
        diameters: of the ``n`` spheres, nm.
        rng: source of chance.

    Returns:
        ``(n, 3)``, nm; the first at the origin.
    """
    radii = np.asarray(diameters) / 2
    positions = np.zeros((len(radii), 3))
    for i in range(1, len(radii)):
        for _ in range(100):
            partner = rng.integers(i)
            direction = rng.standard_normal(3)
            touch = positions[partner] + direction / np.linalg.norm(direction) * (radii[partner] + radii[i])
            gaps = np.linalg.norm(positions[:i] - touch, axis=1) - radii[:i] - radii[i]
            if gaps.min() > -1e-6 * radii[i]:
                break
        positions[i] = touch
    return positions


def _scattered_positions(n: int, separation: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """Particles around the first, at distances drawn evenly in their logarithm, ``(n, 3)``, nm."""
    low, high = separation
    directions = rng.standard_normal((n, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    distances = low * (high / low) ** rng.random(n)
    distances[:1] = 0
    return directions * distances[:, None]


def _streak(background: Background, rng: np.random.Generator) -> tuple[float, float]:
    present = rng.random() < background.streak_share
    angle = background.streak_angle + background.streak_angle_spread * rng.standard_normal()
    level = background.streak_level * rng.exponential()
    return (level if present else 0.0, math.radians(angle))
