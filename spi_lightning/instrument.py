"""From wavelength, distance, pixel size and centre to the momentum transfer of every pixel.

Laboratory frame: z along the beam, x along the detector's columns, y along its rows, origin in the interaction
region. Pixel ``(row, column)`` has integer coordinates at its middle, and ``centre`` is where the beam meets the
detector plane, in the same coordinates, as ``(x, y)`` = (column, row).
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal

import torch

from spi_lightning.errors import SpiError

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
        """Names of the values known on both sides that differ by more than ``tolerance`` (the centre: by ``pixels``)."""
        names = []
        for name in ("photon_energy", "distance", "pixel_size"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine is not None and theirs is not None and not math.isclose(mine, theirs, rel_tol=tolerance):
                names.append(name)
        if self.centre is not None and other.centre is not None and math.dist(self.centre, other.centre) > pixels:
            names.append("centre")
        return names

    def on_detector(self, shape: tuple[int, int]) -> Instrument:
        """Return the instrument with a detector of ``shape`` (rows, columns).

        Raises:
            SpiError: a value is missing.
        """
        if missing := self.missing():
            raise SpiError(
                f"The instrument's {', '.join(missing)} is not known: the file does not say, and neither does the "
                f"config. Choose one with instrument=NAME or set instrument.{missing[0]}=VALUE."
            )
        assert self.photon_energy and self.distance and self.pixel_size and self.centre  # for the type checker
        return Instrument(
            shape=shape,
            photon_energy=self.photon_energy,
            distance=self.distance,
            pixel_size=self.pixel_size,
            centre=self.centre,
            polarisation=self.polarisation or "horizontal",
        )


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

    def cropped(self, rows: slice, columns: slice) -> Instrument:
        """The same instrument, of whose detector only ``[rows, columns]`` (with explicit starts) is kept."""
        size = (len(range(self.shape[0])[rows]), len(range(self.shape[1])[columns]))
        x, y = self.centre
        return dataclasses.replace(self, shape=size, centre=(x - (columns.start or 0), y - (rows.start or 0)))


def pixel_positions(instrument: Instrument, centre: torch.Tensor | None = None) -> torch.Tensor:
    """Where each pixel's middle lies, seen from the interaction region.

    Args:
        instrument: geometry.
        centre: beam position of each of ``B`` patterns, ``(B, 2)`` as (x, y) in pixels; the instrument's where None.

    Returns:
        ``(rows, columns, 3)``, or ``(B, rows, columns, 3)`` where ``centre`` is given: metres, in the dtype and on
        the device of ``centre`` (float64 on the CPU where None).
    """
    own = torch.tensor(instrument.centre, dtype=torch.float64) if centre is None else centre
    rows, columns = instrument.shape
    x = torch.arange(columns, dtype=own.dtype, device=own.device) - own[..., 0, None]
    y = torch.arange(rows, dtype=own.dtype, device=own.device) - own[..., 1, None]
    grid = torch.broadcast_tensors(
        x[..., None, :] * instrument.pixel_size,
        y[..., :, None] * instrument.pixel_size,
        torch.full((), instrument.distance, dtype=own.dtype, device=own.device),
    )
    return torch.stack(grid, dim=-1)


def momentum_transfer(positions: torch.Tensor, wavelength: float) -> torch.Tensor:
    """q = (2π/λ)(ŝ − ẑ): the point of the Ewald sphere that each pixel sees; |q| = 4π sin θ/λ.

    Args:
        positions: ``(..., 3)``, as :func:`pixel_positions` gives them.
        wavelength: nm.

    Returns:
        ``(..., 3)``, nm⁻¹.
    """
    length = positions.norm(dim=-1, keepdim=True)
    direction = positions / length
    # 1 − cos 2θ = ρ²/(L(L + z)): no difference of nearly equal numbers next to the beam.
    transverse, z = positions[..., :2], positions[..., 2:]
    along = -(transverse.square().sum(-1, keepdim=True)) / (length * (length + z))
    return torch.cat([direction[..., :2], along], dim=-1) * (2 * math.pi / wavelength)


def solid_angle(positions: torch.Tensor, pixel_size: float) -> torch.Tensor:
    """Solid angle of each pixel of a flat detector at right angles to the beam: a² z/L³, ``(...)``, sr."""
    return pixel_size**2 * positions[..., 2] / positions.norm(dim=-1) ** 3


def polarisation_factor(positions: torch.Tensor, polarisation: Polarisation) -> torch.Tensor:
    """Share of the scattered intensity that polarisation leaves: 1 − (ŝ·ê)², ``(...)``; 1 + cos² over 2 for none."""
    direction = positions / positions.norm(dim=-1, keepdim=True)
    if polarisation == "none":
        return (1 + direction[..., 2] ** 2) / 2
    return 1 - direction[..., 0 if polarisation == "horizontal" else 1] ** 2


def q_magnitude(instrument: Instrument) -> torch.Tensor:
    """|q| of every pixel, ``(rows, columns)``, nm⁻¹, float64."""
    return momentum_transfer(pixel_positions(instrument), instrument.wavelength).norm(dim=-1)
