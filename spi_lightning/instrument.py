"""Where the detector stands and what light falls on it.

Laboratory frame: z along the beam, x along the detector's columns, y along its rows, origin in the interaction
region. Pixel ``(row, column)`` has integer coordinates at its middle, and ``centre`` is where the beam meets the
detector plane, in the same coordinates, as ``(x, y)`` = (column, row).
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal

from spi_lightning.errors import SpiError, require

Polarisation = Literal["horizontal", "vertical", "none"]

HC_EV_NM = 1239.841984  # Planck's constant times the speed of light, eV nm (CODATA 2018)


@dataclass(frozen=True)
class Geometry:
    """What is known of an instrument; ``None`` where nothing was said.

    Files and configs both speak in this form, so that the one can fill in or contradict the other.

    Attributes:
        photon_energy: eV.
        distance: interaction region to detector plane, m.
        pixel_size: side of a (square) pixel, m.
        centre: where the beam meets the detector, (x, y) in pixels.
        polarisation: direction of the electric field.
    """

    photon_energy: float | None = None
    distance: float | None = None
    pixel_size: float | None = None
    centre: tuple[float, float] | None = None
    polarisation: Polarisation | None = None

    def missing(self) -> list[str]:
        """Names of the values without which no q can be computed."""
        return [name for name in ("photon_energy", "distance", "pixel_size", "centre") if getattr(self, name) is None]

    def filled_from(self, other: Geometry) -> Geometry:
        """Return a copy in which what is unknown here is taken from ``other``."""
        known = {k: v for k, v in dataclasses.asdict(self).items() if v is not None}
        return dataclasses.replace(other, **known)

    def disagreements(self, other: Geometry, tolerance: float = 1e-3, pixels: float = 0.5) -> list[str]:
        """Names of values known on both sides that differ by more than ``tolerance`` (the centre: by ``pixels``)."""
        names = []
        for name in ("photon_energy", "distance", "pixel_size"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine is not None and theirs is not None and not math.isclose(mine, theirs, rel_tol=tolerance):
                names.append(name)
        if self.centre is not None and other.centre is not None and math.dist(self.centre, other.centre) > pixels:
            names.append("centre")
        if None not in (self.polarisation, other.polarisation) and self.polarisation != other.polarisation:
            names.append("polarisation")
        return names

    def on_detector(self, shape: tuple[int, int]) -> Instrument:
        """Return the instrument with a detector of ``shape`` (rows, columns).

        Raises:
            SpiError: a value is missing.
        """
        if missing := self.missing():
            raise SpiError(
                f"The instrument's {', '.join(missing)} is not known: neither a file nor the config says it. "
                f"Choose one with instrument=NAME or set instrument.{missing[0]}=VALUE."
            )
        known = dataclasses.asdict(self) | {"polarisation": self.polarisation or "horizontal"}
        return Instrument(shape=shape, **known)


def check_given(geometry: Geometry) -> None:
    """Refuse what a config cannot mean by ``instrument``: lengths and energies are positive, a centre is a place.

    Raises:
        SpiError: names the key.
    """
    for name in ("photon_energy", "distance", "pixel_size"):
        value = getattr(geometry, name)
        require(value is None or (math.isfinite(value) and value > 0), f"instrument.{name}", value, "positive, or null")
    centre = geometry.centre
    fits = centre is None or all(math.isfinite(value) for value in centre)
    require(fits, "instrument.centre", centre, "two numbers of pixels, [x, y], or null")


@dataclass(frozen=True)
class Instrument:
    """A flat detector at right angles to the beam. Units as in :class:`Geometry`; ``shape`` is (rows, columns)."""

    shape: tuple[int, int]
    photon_energy: float
    distance: float
    pixel_size: float
    centre: tuple[float, float]
    polarisation: Polarisation = "horizontal"

    def __post_init__(self) -> None:
        for name in ("photon_energy", "distance", "pixel_size"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise SpiError(f"The instrument's {name} must be a positive number; it is {value}.")

    @property
    def wavelength(self) -> float:
        """Wavelength, nm."""
        return HC_EV_NM / self.photon_energy

    @property
    def q_per_pixel(self) -> float:
        """Momentum transfer of one pixel next to the beam, nm⁻¹."""
        return 2 * math.pi / self.wavelength * self.pixel_size / self.distance
