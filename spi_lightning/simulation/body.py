"""One particle, as scattering sees it.

Every particle is an affine image of a body with a known transform: a body of unit size, stretched, with one or more
nested shells. "Diameter" always is that of the sphere of equal volume.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from spi_lightning.simulation.settings import Size


@dataclass(frozen=True)
class Body:
    """One particle in its own frame.

    Attributes:
        shape: name of the transform: ``sphere``, ``cylinder``, ``icosahedron``, or ``map:PATH``.
        stretch: ``(3, 3)``, nm; takes the unit body (a map: the map in nm, then without unit) to this one.
        shells: nested copies, each as (relative size, electrons); hollows count negative.
        roughness: standard deviation of the surface, nm.
        diameter: of the sphere of equal volume, nm.
    """

    shape: str
    stretch: np.ndarray
    shells: tuple[tuple[float, float], ...]
    roughness: float
    diameter: float

    @property
    def electrons(self) -> float:
        """Number of electrons."""
        return sum(electrons for _, electrons in self.shells)


class Particle(Protocol):
    """A sort of particles."""

    @property
    def diameter(self) -> Size:
        """Of the sphere of equal volume."""
        ...

    @property
    def shape(self) -> str:
        """Name of the transform of all bodies of this sort."""
        ...

    @property
    def largest_stretch(self) -> float:
        """No body of this sort stretches the unit body (or its map) further, but for rare extremes."""
        ...

    def draw(self, rng: np.random.Generator) -> Body:
        """Draw one."""
        ...
