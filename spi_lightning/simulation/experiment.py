"""A whole simulated experiment: any range of its patterns, with the truth about each."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from spi_lightning.errors import SpiError
from spi_lightning.instrument import Instrument
from spi_lightning.reciprocal import momentum_transfer, pixel_positions, polarisation_factor, solid_angle
from spi_lightning.simulation.background import gas, streak
from spi_lightning.simulation.body import Particle
from spi_lightning.simulation.detector import DEAD, HOT, MISSING, detector_flags, record
from spi_lightning.simulation.expert import expert_scores
from spi_lightning.simulation.form_factors import sphere
from spi_lightning.simulation.fourier_volume import FourierVolume, density_volume, icosahedron_volume
from spi_lightning.simulation.scattering import collate, scattered_strength
from spi_lightning.simulation.scenes import ELECTRON_RADIUS, Scene, SceneSource
from spi_lightning.simulation.settings import Simulation

LANES = 64  # pixel lists are padded to a multiple: vector and scalar code round differently on a CPU


@dataclass(frozen=True)
class Patterns:
    """Consecutive patterns of a simulated run.

    Attributes:
        frames: ``(n, rows, columns)``, int32 photons or float32 detector units; 0 where nothing is recorded.
        truth: arrays of length ``n``; :meth:`Experiment.simulate` lists them.
        scores: ``(n,)``, what the expert makes of each (:func:`~spi_lightning.simulation.expert.expert_scores`).
    """

    frames: np.ndarray
    truth: dict[str, np.ndarray]
    scores: np.ndarray


class Experiment:
    """The beam, the detector and the particles of a simulated run, ready to fire."""

    def __init__(
        self,
        settings: Simulation,
        particles: Mapping[str, Particle],
        instrument: Instrument,
        maps: Mapping[str, tuple[np.ndarray, float]] | None = None,
        device: torch.device | str = "cpu",
    ):
        """Compute all that the patterns have in common.

        Args:
            settings: the run.
            particles: the sorts of particles that the composition names.
            instrument: geometry of the detector that records.
            maps: density ``(z, y, x)`` and voxel in nm of each map that a particle names.
            device: where patterns are computed.

        Raises:
            SpiError: no pixel records, or a particle is too large for the detector's reach.
        """
        self.settings, self.instrument, self.device = settings, instrument, torch.device(device)
        self.flags, state = detector_flags(settings.detector, instrument.centre, settings.seed)
        self._pixels = torch.from_numpy(self.recording).flatten().nonzero()[:, 0]
        if len(self._pixels) == 0:
            raise SpiError(
                "No pixel of the detector records: simulate.detector.shadows and beamstop_radius cover all of it."
            )
        # A first vector call in a fresh process may come back wrong in some threads (pytorch #188792).
        torch.linspace(0, 1, 4096).sqrt_()

        padded = torch.cat([self._pixels, self._pixels[-1:].expand(-len(self._pixels) % LANES)])
        positions = pixel_positions(instrument).reshape(-1, 3)[padded]
        q = momentum_transfer(positions, instrument.wavelength)
        weight = solid_angle(positions, instrument.pixel_size) * polarisation_factor(positions, instrument.polarisation)
        # How q changes when the beam moves by a pixel along x or y, to first order.
        step = instrument.pixel_size * torch.eye(3, dtype=torch.float64)[:2]
        moved = [(momentum_transfer(positions - s, instrument.wavelength) - q).T for s in step]
        offset = positions[:, :2] / instrument.pixel_size
        self._q = self._place(q.T)
        self._q_moved = self._place(torch.stack(moved))
        self._weight = self._place(ELECTRON_RADIUS**2 * weight)
        self._gas = self._place(gas(q.norm(dim=-1), settings.background))
        self._offset = self._place(offset.T)
        kept = torch.from_numpy(state).flatten()[padded].to(torch.int32)
        self._dead = ((kept & DEAD) > 0).to(self.device)
        self._hot = ((kept & HOT) > 0).to(self.device)

        reach = float(q.norm(dim=-1).max()) * 1.01
        self._volumes = {
            name: volume.to(self.device) for name, volume in _volumes(particles, reach, maps or {}).items()
        }
        n_pixels = len(self._pixels)  # without those that pad the list
        largest = max((particle.diameter.high for particle in particles.values()), default=1.0)
        visible = _visibility(q[:n_pixels].norm(dim=-1), weight[:n_pixels], largest)
        self.source = SceneSource(settings, particles, instrument.photon_energy, visible)
        self._ingredients = list(settings.composition.values())

    def simulate(self, indices: Sequence[int]) -> Patterns:
        """Compute patterns.

        Each depends on the seed and its own index alone: not on the batch, the order or the process.

        Args:
            indices: of the patterns.

        Returns:
            The patterns; their truth has, per pattern: ``ingredient`` (index into the composition), ``single`` (it is
            what the experiment is after), ``n_particles``, ``diameter`` (nm, K a pattern, NaN beyond the last),
            ``quaternion`` (K × 4, scalar first, r_lab = R r_particle), ``position`` (K × 3, nm from the focus, z
            along the beam), ``fluence`` (K, photons per nm²), ``centre`` (x, y in pixels), ``signal`` and
            ``background`` (expected photons on the recording pixels).
        """
        scenes = [self.source.draw(int(index)) for index in indices]
        signal, background = self.expected_photons(scenes)
        n = signal.shape[1]
        photons = record(
            signal + background,
            [scene.noise_seed for scene in scenes],
            self.settings.detector,
            self._dead[:n],
            self._hot[:n],
        ).cpu()
        frames = torch.zeros(len(scenes), math.prod(self.instrument.shape), dtype=photons.dtype)
        frames[:, self._pixels] = photons
        truth = self._truth(scenes)
        truth["signal"] = signal.sum(1, dtype=torch.float64).float().cpu().numpy()
        truth["background"] = background.sum(1, dtype=torch.float64).float().cpu().numpy()
        return Patterns(frames.view(-1, *self.instrument.shape).numpy(), truth, self._scores(scenes, truth["signal"]))

    @property
    def recording(self) -> np.ndarray:
        """Pixels that are neither shadowed nor behind the beamstop, ``(rows, columns)`` bool."""
        return (self.flags & MISSING) == 0

    def expected_photons(self, scenes: Sequence[Scene]) -> tuple[torch.Tensor, torch.Tensor]:
        """Photons that the recording pixels can expect.

        Args:
            scenes: ``B`` shots.

        Returns:
            From particles and from the background, each ``(B, pixels)`` float32, pixels as in ``frames[:, recording]``.
        """
        offsets = self._place(torch.from_numpy(np.stack([scene.centre_offset for scene in scenes])))
        q = self._q + offsets[:, 0, None, None] * self._q_moved[0] + offsets[:, 1, None, None] * self._q_moved[1]
        strength = scattered_strength(collate(scenes, self.device), q, self._volumes, self._q_moved)
        # Cancelling fringes may leave a rounding error below zero.
        signal = strength.clamp_(min=0) * self._weight
        levels = self._place(torch.tensor([scene.background for scene in scenes], dtype=torch.float64))
        background = levels[:, None] * self._gas
        for row, scene in enumerate(scenes):
            level, angle = scene.streak
            if level > 0:
                x, y = self._offset - offsets[row, :, None]
                background[row] += streak(x, y, level, angle, self.settings.background)
        n = len(self._pixels)
        return signal[:, :n], background[:, :n]

    def _truth(self, scenes: Sequence[Scene]) -> dict[str, np.ndarray]:
        most = max(ingredient.count[1] for ingredient in self._ingredients)

        def padded(rows: list[np.ndarray], *shape: int) -> np.ndarray:
            table = np.full((len(rows), most, *shape), np.nan, dtype=np.float32)
            for line, row in zip(table, rows, strict=True):
                line[: len(row)] = row
            return table

        centre = np.array(self.instrument.centre)
        return {
            "ingredient": np.array([scene.ingredient for scene in scenes], dtype=np.uint8),
            "single": np.array([self._ingredients[scene.ingredient].single for scene in scenes], dtype=np.uint8),
            "n_particles": np.array([len(scene.bodies) for scene in scenes], dtype=np.uint8),
            "diameter": padded([np.array([body.diameter for body in scene.bodies]) for scene in scenes]),
            "quaternion": padded([scene.quaternions for scene in scenes], 4),
            "position": padded([scene.positions for scene in scenes], 3),
            "fluence": padded([scene.fluences for scene in scenes]),
            "centre": np.array([centre + scene.centre_offset for scene in scenes], dtype=np.float32),
        }

    def _scores(self, scenes: Sequence[Scene], signal: np.ndarray) -> np.ndarray:
        chosen = [self._ingredients[scene.ingredient] for scene in scenes]
        return expert_scores(
            rate=np.array([ingredient.expert_rate for ingredient in chosen]),
            half=np.array([ingredient.expert_photons for ingredient in chosen]),
            width=self.settings.expert.width,
            photons=signal.astype(np.float64),
            uniform=np.array([scene.expert for scene in scenes]),
        )

    def _place(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(self.device, torch.float32).contiguous()


def _volumes(
    particles: Mapping[str, Particle], reach: float, maps: Mapping[str, tuple[np.ndarray, float]]
) -> dict[str, FourierVolume]:
    """Transforms on a grid, of those shapes that the particles need, out to what the largest of each scatters."""
    stretches: dict[str, float] = {}
    for particle in particles.values():
        stretches[particle.shape] = max(particle.largest_stretch, stretches.get(particle.shape, 0.0))
    volumes: dict[str, FourierVolume] = {}
    for shape, stretch in stretches.items():
        if shape == "icosahedron":
            volumes[shape] = icosahedron_volume(reach * stretch)
        elif shape.startswith("map:"):
            density, voxel = maps[shape.removeprefix("map:")]
            volumes[shape] = density_volume(torch.from_numpy(density), voxel, reach * stretch)
    return volumes


def _visibility(q: torch.Tensor, weight: torch.Tensor, largest: float) -> Callable[[float], float]:
    """Diameter in nm → ∫ P |T|² dΩ of a sphere over the recording pixels, sr, from a table."""
    diameters = np.geomspace(2.0, max(largest, 4.0) * 1.01, 200)
    zeros = torch.zeros_like(q)
    arguments = (torch.stack([q * diameter / 2, zeros, zeros], dim=-1) for diameter in diameters)
    seen = np.array([float((weight * sphere(x).square()).sum()) for x in arguments])
    return lambda diameter: float(np.interp(diameter, diameters, seen))
