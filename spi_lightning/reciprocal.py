"""From the geometry of an instrument to the momentum transfer of every pixel.

The laboratory frame is that of :mod:`spi_lightning.instrument`. Wavelengths and momentum transfers are in nm and nm⁻¹.
"""

from __future__ import annotations

import math

import torch

from spi_lightning.instrument import Instrument, Polarisation


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


def ring_momentum(instrument: Instrument, rings: int) -> torch.Tensor:
    """|q| of the rings of radius 0, 1, 2 … pixels around the beam, ``(rings,)``, nm⁻¹, float64."""
    radius = torch.arange(rings, dtype=torch.float64) * instrument.pixel_size
    return 4 * math.pi / instrument.wavelength * (torch.atan(radius / instrument.distance) / 2).sin()
