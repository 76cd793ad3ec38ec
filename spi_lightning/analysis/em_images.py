"""Class images of the EM classification: what a turned pattern sees of them, and how it adds to them.

A class image is Cartesian, with the beam in its middle, and is read bilinearly. All that is linear in the images is
one sparse matrix, whose transpose spreads patterns over them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from spi_lightning.errors import SpiError


@dataclass(frozen=True, eq=False)
class EMPixels:
    """The pixels by which patterns are sorted.

    Attributes:
        index: ``(P,)`` int64, places in the flattened pattern.
        x, y: ``(P,)`` float64, along columns and rows from the beam, pixels.
    """

    index: torch.Tensor
    x: torch.Tensor
    y: torch.Tensor

    @property
    def radius(self) -> torch.Tensor:
        """Distance from the beam, ``(P,)`` float64, pixels."""
        return torch.hypot(self.x, self.y)

    @property
    def side(self) -> int:
        """Rows and columns of a class image: twice the largest radius, rounded up, and the middle."""
        return 2 * max(1, math.ceil(float(self.radius.max()))) + 1

    def to(self, device: torch.device | str | None) -> EMPixels:
        """The same on another device; None: on the same."""
        return EMPixels(*(values.to(device or self.x.device) for values in (self.index, self.x, self.y)))


def em_pixels(mask: torch.Tensor, centre: tuple[float, float], first: float, last: float) -> EMPixels:
    """Choose the good pixels of a ring-shaped region.

    Args:
        mask: ``(rows, columns)`` bool, True where the pixel is good.
        centre: of the beam, (x, y) in pixels.
        first: smallest distance from the beam, pixels, itself included.
        last: largest distance, likewise.

    Returns:
        Tensors on the mask's device.

    Raises:
        SpiError: there is no such pixel.
    """
    rows = torch.arange(mask.shape[0], dtype=torch.float64, device=mask.device) - centre[1]
    columns = torch.arange(mask.shape[1], dtype=torch.float64, device=mask.device) - centre[0]
    radius = torch.hypot(rows[:, None], columns[None, :])
    chosen = mask & (radius >= first) & (radius <= last)
    if not chosen.any():
        raise SpiError(
            f"No good pixel lies {first:g} to {last:g} pixels from the beam at {centre}; {int(mask.sum())} of "
            f"{mask.numel()} pixels are good, and their distances go from "
            f"{float(radius[mask].min()) if mask.any() else math.nan:.1f} to "
            f"{float(radius[mask].max()) if mask.any() else math.nan:.1f}. Choose another range, or correct the mask."
        )
    row, column = chosen.nonzero(as_tuple=True)
    return EMPixels(chosen.flatten().nonzero().squeeze(1), columns[column], rows[row])


@dataclass(frozen=True, eq=False)
class Turns:
    """How class images and turned patterns hang together.

    Attributes:
        reading: ``(R P, S S)``, sparse: weight of each pixel of an image in each pixel of a turned pattern.
        spreading: its transpose.
        reach: ``(R, S S)`` float64: sum of these weights over the pixels of a pattern.
        rings: ``(S S,)`` int64: rounded distance of an image's pixels from the beam.
        side: ``S``.
        friedel: images are centro-symmetric.
    """

    reading: torch.Tensor
    spreading: torch.Tensor
    reach: torch.Tensor
    rings: torch.Tensor
    side: int
    friedel: bool


def angles(rotations: int, friedel: bool) -> torch.Tensor:
    """The angles of the rotations, ``(R,)`` float64, radians: half a turn with Friedel symmetry, else a whole one."""
    return torch.arange(rotations, dtype=torch.float64) * ((1 if friedel else 2) * math.pi / rotations)


def turns(pixels: EMPixels, rotations: int, friedel: bool, dtype: torch.dtype = torch.float64) -> Turns:
    """Prepare reading and spreading at all rotations; with ``dtype``, in some 100 bytes a pixel and rotation.

    A pixel at (x, y) of a pattern turned by t is at (x cos t − y sin t, x sin t + y cos t) of the image.
    """
    side, device = pixels.side, pixels.x.device
    turned = angles(rotations, friedel).to(device)[:, None]
    middle = side // 2
    columns = (pixels.x * turned.cos() - pixels.y * turned.sin() + middle).flatten()
    rows = (pixels.x * turned.sin() + pixels.y * turned.cos() + middle).flatten()
    left, top = (place.floor().clamp(0, side - 2) for place in (columns, rows))
    right, down = columns - left, rows - top
    corner = (top * side + left).long()
    neighbours = torch.stack([corner, corner + 1, corner + side, corner + side + 1], dim=1)
    weights = torch.stack([(1 - right) * (1 - down), right * (1 - down), (1 - right) * down, right * down], dim=1)

    points = torch.arange(len(corner), device=device).repeat_interleave(4)
    shape = (len(corner), side * side)
    places = torch.stack([points, neighbours.flatten()])
    # In order as it is made, and without a place twice.
    reading = torch.sparse_coo_tensor(
        places, weights.flatten().to(dtype), shape, check_invariants=False, is_coalesced=True
    )
    turn = points // len(pixels.x)
    reach = weights.new_zeros(rotations * side * side)
    reach.index_add_(0, turn * (side * side) + neighbours.flatten(), weights.flatten())
    grid = torch.arange(side, dtype=torch.float64, device=device) - middle
    rings = torch.hypot(grid[:, None], grid[None, :]).round().long().flatten()
    spreading = reading.t().coalesce()
    return Turns(reading, spreading, reach.view(rotations, -1), rings, side, friedel)


def slices(images: torch.Tensor, how: Turns) -> torch.Tensor:
    """What a pattern would see of each image at each rotation.

    Args:
        images: ``(K, S, S)`` float64, photons a pixel.
        how: from :func:`turns`.

    Returns:
        ``(K, R, P)`` of the dtype of ``how``; a view whose memory runs over R, P, K.
    """
    read = torch.sparse.mm(how.reading, images.flatten(1).t().to(how.reading.dtype).contiguous())
    return read.view(len(how.reach), -1, len(images)).permute(2, 0, 1)


def spread(sums: torch.Tensor, weights: torch.Tensor, how: Turns) -> tuple[torch.Tensor, torch.Tensor]:
    """Turn sums of patterns back into images: the M step, sum of photons by sum of exposures in every pixel.

    Args:
        sums: ``(K, R, P)``, photons that patterns at each class and rotation have in each of their pixels.
        weights: ``(K, R)`` float64, the patterns' exposures there: sums of their scales.
        how: from :func:`turns`.

    Returns:
        Images ``(K, S, S)`` float64, 0 where no pattern reached, and coverage ``(K, S, S)`` float64.
    """
    classes = len(sums)
    # By rotation first: (K, R, P) -> (R P, K).
    by_rotation = sums.permute(1, 2, 0).reshape(-1, classes)
    photons = torch.sparse.mm(how.spreading, by_rotation.to(how.spreading.dtype)).double().t()
    coverage = weights @ how.reach
    photons, coverage = (values.reshape(classes, how.side, how.side) for values in (photons, coverage))
    if how.friedel:
        photons, coverage = (values + values.flip(1, 2) for values in (photons, coverage))
    return torch.where(coverage > 0, photons / coverage, 0.0), coverage


def filled(images: torch.Tensor, coverage: torch.Tensor, how: Turns) -> torch.Tensor:
    """Images in which pixels that no pattern ever reached have the mean of their ring.

    Their zero would say that no photon can ever fall there, and so forbid the rotations that bring pixels there.

    Args:
        images: ``(K, S, S)`` float64.
        coverage: ``(K, S, S)`` float64.
        how: from :func:`turns`.
    """
    flat, weight = images.flatten(1), coverage.flatten(1)
    rings = int(how.rings.max()) + 1
    photons, seen = (
        values.new_zeros(len(images), rings).index_add_(1, how.rings, values) for values in (flat * weight, weight)
    )
    means = torch.where(seen > 0, photons / seen, 0.0)
    return torch.where(weight > 0, flat, means[:, how.rings]).view_as(images)
