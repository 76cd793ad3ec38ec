"""The sorts of particles, and how one of each is drawn.

A config names these classes (``_target_``); each one's fields are its settings. A new sort of particle is a new class
here, or in a package of your own (:mod:`spi_lightning.config.targets`), or just a density map.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from spi_lightning.errors import SpiError, require
from spi_lightning.simulation.body import Body
from spi_lightning.simulation.settings import Size, not_negative, positive

ICOSAHEDRON_INRADIUS = 0.9393  # of the icosahedron with the unit sphere's volume


@dataclass(frozen=True)
class IcosahedralVirus:
    """A virus: an icosahedral capsid around a core of another density.

    Attributes:
        diameter: of the whole particle; hits have this distribution, whatever their size does to their brightness.
        capsid_thickness: nm.
        capsid_density: electrons per nm³ (protein: about 430).
        core_density: electrons per nm³ (packed genome: about 400; empty: 0; water: 334).
        core_spread: relative standard deviation of the core's density from particle to particle.
        deformation: standard deviation of the stretch along three random axes; the volume stays.
        roughness: standard deviation of the surface, nm.
    """

    diameter: Size
    capsid_thickness: float
    capsid_density: float
    core_density: float
    core_spread: float
    deformation: float
    roughness: float
    shape: ClassVar[str] = "icosahedron"

    def __post_init__(self) -> None:
        for name in ("capsid_thickness", "capsid_density", "core_density", "core_spread", "deformation", "roughness"):
            not_negative(name, getattr(self, name))

    @property
    def largest_stretch(self) -> float:
        """Radius of the largest, stretched by three standard deviations, nm."""
        return self.diameter.high / 2 * math.exp(3 * self.deformation)

    def draw(self, rng: np.random.Generator) -> Body:
        """Draw one."""
        radius = draw_size(self.diameter, rng) / 2
        core = max(0.0, 1 - self.capsid_thickness / (ICOSAHEDRON_INRADIUS * radius))
        density = self.core_density * max(0.0, 1 + self.core_spread * rng.standard_normal())
        stretch = radius * _deformation(self.deformation, rng)
        volume = _ball(radius)
        shells = ((1.0, self.capsid_density * volume), (core, (density - self.capsid_density) * volume * core**3))
        return Body(self.shape, stretch, shells, self.roughness, 2 * radius)


@dataclass(frozen=True)
class _Elongated:
    """What spheroids and rods share: one axis is longer or shorter than the two others."""

    diameter: Size
    aspect: tuple[float, float]
    density: float
    roughness: float

    def __post_init__(self) -> None:
        low, high = self.aspect
        require(0 < low <= high, "aspect", [low, high], "smallest and largest, above 0")
        for name in ("density", "roughness"):
            not_negative(name, getattr(self, name))

    @property
    def largest_stretch(self) -> float:
        """Half the length of the largest, nm."""
        return self.diameter.high / 2 * max(self.aspect[1], 1 / self.aspect[0])

    def _draw_radius_and_aspect(self, rng: np.random.Generator) -> tuple[float, float]:
        low, high = self.aspect
        return draw_size(self.diameter, rng) / 2, low * (high / low) ** rng.random()


@dataclass(frozen=True)
class Spheroid(_Elongated):
    """A droplet, a salt grain, a lump: an ellipsoid of revolution, or a sphere where ``aspect`` is [1, 1].

    Attributes:
        diameter: of the whole particle.
        aspect: length along the axis over width, smallest and largest; drawn evenly in its logarithm.
        density: electrons per nm³ (water: 334).
        roughness: standard deviation of the surface, nm.
    """

    shape: ClassVar[str] = "sphere"

    def draw(self, rng: np.random.Generator) -> Body:
        """Draw one."""
        radius, aspect = self._draw_radius_and_aspect(rng)
        across = aspect ** (-1 / 3)
        stretch = radius * np.diag([across, across, across**-2])
        return Body(self.shape, stretch, ((1.0, self.density * _ball(radius)),), self.roughness, 2 * radius)


@dataclass(frozen=True)
class Rod(_Elongated):
    """A rod-shaped virus or a fibre: a cylinder.

    Attributes:
        diameter: of the sphere with the rod's volume.
        aspect: length over width, smallest and largest; drawn evenly in its logarithm.
        density: electrons per nm³.
        roughness: standard deviation of the surface, nm.
    """

    shape: ClassVar[str] = "cylinder"

    def draw(self, rng: np.random.Generator) -> Body:
        """Draw one."""
        radius, aspect = self._draw_radius_and_aspect(rng)
        across = radius * (2 / (3 * aspect)) ** (1 / 3)  # 2π across² · (aspect · across) = 4π/3 · radius³
        stretch = np.diag([across, across, across * aspect])
        return Body(self.shape, stretch, ((1.0, self.density * _ball(radius)),), self.roughness, 2 * radius)


@dataclass(frozen=True)
class DensityMap:
    """Any particle of which there is an electron density map.

    Attributes:
        path: MRC file, .gz too.
        map_diameter: diameter of the particle in the map, nm; drawn diameters scale the map.
        diameter: of the particles.
        electrons: electrons in the map; null: the map's values are electrons per nm³.
        roughness: standard deviation of the surface, nm.
    """

    path: str
    map_diameter: float
    diameter: Size
    electrons: float | None
    roughness: float

    def __post_init__(self) -> None:
        positive("map_diameter", self.map_diameter)
        not_negative("roughness", self.roughness)

    @property
    def shape(self) -> str:
        """Name of the map's transform."""
        return f"map:{self.path}"

    @property
    def largest_stretch(self) -> float:
        """Scale of the largest."""
        return self.diameter.high / self.map_diameter

    def draw(self, rng: np.random.Generator) -> Body:
        """Draw one."""
        if self.electrons is None:
            raise SpiError(f"The number of electrons in {self.path} is not known: read the map first.")
        diameter = draw_size(self.diameter, rng)
        scale = diameter / self.map_diameter
        shells = ((1.0, self.electrons * scale**3),)
        return Body(self.shape, scale * np.eye(3), shells, self.roughness, diameter)


def draw_size(size: Size, rng: np.random.Generator) -> float:
    """Draw one size in nm, between ``size.low`` and ``size.high``."""
    spread = size.broad_spread if rng.random() < size.broad_share else size.spread
    for _ in range(1000):
        if size.distribution == "uniform":
            return float(rng.uniform(size.low, size.high))
        normal = rng.standard_normal()
        if size.distribution == "lognormal":
            value = size.centre * math.exp(spread * normal)
        else:
            value = size.centre + spread * normal
        if size.low <= value <= size.high:
            return float(value)
    raise SpiError(
        f"No size between {size.low} and {size.high} nm was found in 1000 draws from the {size.distribution} "
        f"distribution around {size.centre}: set low and high such that they hold a fair share of it."
    )


def _deformation(spread: float, rng: np.random.Generator) -> np.ndarray:
    """A stretch along three random axes that keeps the volume, ``(3, 3)``."""
    stretch = np.exp(spread * rng.standard_normal(3))
    axes, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    return axes @ np.diag(stretch / np.prod(stretch) ** (1 / 3)) @ axes.T


def _ball(radius: float) -> float:
    return 4 * math.pi / 3 * radius**3
