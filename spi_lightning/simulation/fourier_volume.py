"""A particle's transform on a grid of reciprocal space, read off anywhere between the nodes.

Bodies without a closed form that is cheap enough for every pixel of every pattern (icosahedra, density maps) are
transformed once. A pattern is then a curved slice through the grid, eight nodes to a pixel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn import functional

from spi_lightning.errors import SpiError
from spi_lightning.simulation.form_factors import icosahedron

LARGEST_GRID = 512  # nodes along an axis: 512³ float32 are 0.5 GB
NODES_AT_ONCE = 2**18


@dataclass(frozen=True)
class FourierVolume:
    """Transform of a body, normalised to 1 at the origin.

    Attributes:
        nodes: ``(channels, depth, height, width)`` float32 over z, y, x; one channel where the transform is real,
            real and imaginary part where it is not.
        reach: value of x, y and z at the last node.
        octant: the nodes start at 0 and the transform has the planes x = 0, y = 0, z = 0 as mirrors; otherwise they
            start at −reach.
    """

    nodes: torch.Tensor
    reach: float
    octant: bool

    def to(self, device: torch.device) -> FourierVolume:
        """The same volume on ``device``."""
        return FourierVolume(self.nodes.to(device), self.reach, self.octant)

    def __call__(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Interpolate trilinearly; zero beyond ``reach``.

        Args:
            x: ``(particles, pixels, 3)``, in the units of ``reach``.

        Returns:
            Real and imaginary part (None where it is zero throughout), each ``(particles, pixels)``.
        """
        grid = x.abs() * (2 / self.reach) - 1 if self.octant else x / self.reach
        flat = grid.reshape(1, 1, 1, -1, 3)
        values = functional.grid_sample(self.nodes[None], flat, mode="bilinear", align_corners=True)
        values = values.reshape(self.nodes.shape[0], *x.shape[:-1])
        return values[0], (values[1] if self.nodes.shape[0] == 2 else None)


def icosahedron_volume(reach: float, step: float = 0.2) -> FourierVolume:
    """Sample the icosahedron's exact transform.

    Args:
        reach: largest momentum transfer times radius that will be asked for.
        step: distance of the nodes. At 0.2 a read differs from the exact transform by 0.1 % of the envelope (rms).

    Returns:
        The octant of positive x, y and z. The other seven are its mirror images.

    Raises:
        SpiError: the grid would be larger than :data:`LARGEST_GRID`.
    """
    size = math.ceil(reach / step) + 2
    _refuse_large(size, "the icosahedral particle")
    axis = torch.arange(size, dtype=torch.float64) * step
    index = torch.arange(size)
    nodes = torch.zeros(size, size, size)
    limit = (reach + 2 * step) ** 2
    for k in range(size):
        # The body has a three-fold axis along (1, 1, 1): the nodes whose last coordinate is the largest give the rest.
        j, i = torch.meshgrid(index[: k + 1], index[: k + 1], indexing="ij")
        inside = axis[i].square() + axis[j].square() + axis[k].square() <= limit
        i, j = i[inside], j[inside]
        for some_i, some_j in zip(i.split(NODES_AT_ONCE), j.split(NODES_AT_ONCE), strict=True):
            points = torch.stack([axis[some_i], axis[some_j], axis[k].expand(len(some_i))], dim=-1)
            values = icosahedron(points).float()
            nodes[k, some_j, some_i] = values
            nodes[some_i, k, some_j] = values
            nodes[some_j, some_i, k] = values
    return FourierVolume(_sharpen(nodes)[None], float(axis[-1]), octant=True)


def _sharpen(nodes: torch.Tensor) -> torch.Tensor:
    """Take away what trilinear reading adds on average, f″ step²/12 along each axis, from the nodes of an octant."""
    curvature = torch.zeros_like(nodes)
    for axis in range(3):
        mirrored = torch.cat([nodes.narrow(axis, 1, 1), nodes], dim=axis)
        curvature.narrow(axis, 0, nodes.shape[axis] - 1).add_(mirrored.diff(n=2, dim=axis))
    return nodes - curvature / 12


def density_volume(density: torch.Tensor, voxel: float, reach: float, oversampling: float = 10.0) -> FourierVolume:
    """Transform a density map at the nodes that a detector can see.

    The map is a sum of uniform cubes, one a voxel. Three matrix products, one an axis, give its transform at just
    the nodes wanted, with no need of a grid fine enough for all of reciprocal space. Trilinear reading between the
    nodes weights the density by sinc² towards its rim; the map is divided by that weight first.

    Args:
        density: ``(z, y, x)``, any unit; empty margins are cut off.
        voxel: side of a voxel, nm.
        reach: largest momentum transfer that will be asked for, nm⁻¹.
        oversampling: period of the grid in units of the map's largest side; 10 leaves an error of
            about 0.5 % of the envelope (rms).

    Returns:
        Real and imaginary part, for momentum transfers in nm⁻¹. The origin is the map's centre of mass.

    Raises:
        SpiError: the map is empty or has no finite positive sum, or the grid would be too large.
    """
    density = density.to(torch.float64)
    if not torch.isfinite(density).all() or density.sum() <= 0:
        raise SpiError("The density map must be finite and have a positive sum: it holds no particle.")
    filled = density.nonzero()
    low, high = filled.amin(0), filled.amax(0) + 1
    density = density[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
    mass = density.sum()
    positions = []
    for axis in range(3):
        r = torch.arange(density.shape[axis], dtype=torch.float64)
        others = tuple(a for a in range(3) if a != axis)
        positions.append((r - (density.sum(others) * r).sum() / mass) * voxel)
    period = oversampling * max(density.shape) * voxel
    step = 2 * math.pi / period
    half = math.ceil(reach / step) + 1
    _refuse_large(2 * half + 1, "the density map")
    q = torch.arange(-half, half + 1, dtype=torch.float64) * step
    transform = density.to(torch.complex128)
    for axis, r in enumerate(positions):
        kernel = torch.exp(1j * q[:, None] * r[None, :]) * torch.sinc(q * voxel / (2 * math.pi))[:, None]
        weight = torch.sinc(r / period) ** 2
        transform = torch.movedim(torch.tensordot(kernel / weight, transform, dims=([1], [axis])), 0, axis)
    transform = transform / transform[half, half, half].real
    return FourierVolume(torch.stack([transform.real, transform.imag]).float(), float(q[-1]), octant=False)


def _refuse_large(size: int, what: str) -> None:
    if size > LARGEST_GRID:
        raise SpiError(
            f"The transform of {what} would need {size}³ nodes; at most {LARGEST_GRID}³ are kept. The detector reaches "
            "too far in q for the largest particle: make simulate.detector.shape smaller, or lower the upper limit of "
            "its size (diameter.high)."
        )
