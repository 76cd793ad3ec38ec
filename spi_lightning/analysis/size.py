"""Particle size: spheres fitted to the PSD of every pattern at once.

The method is that of spi-processing (S. Bobkov, ``spi_processing.particle_size``), with which the paper's authors size
their particles: a PSD is interpolated between rings, divided by its mean, and compared with the form factors of spheres
of many diameters, each divided by its mean too. On the same PSD and momentum transfers, diameters agree to half a step
of the grid and fidelities to rounding. Three things differ on purpose:

- Rings without a good pixel are left out. There they are zeros, which take part in the fit.
- The best diameter is refined between the steps of the grid, by a parabola.
- Momentum transfers are the caller's. There they are those of small angles, 0.2 % more at the paper crop's corner.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Literal, NamedTuple

import torch

from spi_lightning.errors import require
from spi_lightning.simulation.form_factors import sphere

# What a sphere's diameter is multiplied by. An icosahedron is 1.1756 times as wide from corner to corner as the sphere
# that touches its edges.
FACTORS = {"sphere": 1.0, "icosahedron": math.sqrt(10 + 2 * math.sqrt(5)) / (1 + math.sqrt(5))}
FLAGS = ("", "size at the end of the grid", "too few photons", "no signal", "too few rings")
_AT_THE_END, _TOO_FEW_PHOTONS, _NO_SIGNAL, _TOO_FEW_RINGS = range(1, len(FLAGS))

LEFT_OUT = 2  # rings next to the beamstop, which the fit does without unless q_range says otherwise
LEAST_RINGS = 5
NEIGHBOURS = 5  # steps of the grid on either side of a local minimum that are all higher
_AT_ONCE = 2048  # patterns: some 10 MB
_TILE = 16  # points compared at a time: torch.cdist is three times slower on long rows


@dataclass(frozen=True)
class SizeSettings:
    """How sizes are looked for.

    Attributes:
        smallest: diameter that is tried, nm.
        largest: diameter that is tried, nm.
        steps: diameters that are tried, evenly spaced.
        shape: "sphere" gives the diameter of the sphere; "icosahedron" 1.1756 times that, corner to corner of the
            icosahedron whose edges touch the sphere. ``smallest`` and ``largest`` are of the same kind.
        q_range: rings that are compared, from and to a momentum transfer in nm⁻¹. None: from the third ring with good
            pixels on; to the last.
        interpolation: points compared for each ring, lest the fringes of large spheres fall between the rings.
        least_photons: patterns with fewer get no size.
    """

    smallest: float
    largest: float
    steps: int = 300
    shape: Literal["sphere", "icosahedron"] = "sphere"
    q_range: tuple[float | None, float | None] = (None, None)
    interpolation: int = 5
    least_photons: float = 0.0

    def __post_init__(self) -> None:
        sizes = [self.smallest, self.largest]
        require(
            0 < self.smallest < self.largest < math.inf,
            "size: smallest and largest",
            sizes,
            "0 < smallest < largest, nm",
        )
        require(self.steps > 2 * NEIGHBOURS, "size: steps", self.steps, f"{2 * NEIGHBOURS + 1} or more")
        require(self.interpolation >= 1, "size: interpolation", self.interpolation, "1 or more")
        require(0 <= self.least_photons < math.inf, "size: least_photons", self.least_photons, "0 or more")
        low, high = self.q_range
        fits = 0 <= (low or 0.0) < (math.inf if high is None else high)
        require(fits, "size: q_range", [low, high], "[from, to] in nm⁻¹, 0 <= from < to, null where it is open")


@dataclass(frozen=True, eq=False)
class Sizes:
    """What was found, on the device of the PSDs; NaN where there is no size.

    Attributes:
        diameter: ``(n,)`` float64, nm. That of a pattern flagged "size at the end of the grid" is that end, and hardly
            its size.
        misfit: ``(n,)`` float64, mean of |fit − data|, both divided by their means; 0 is perfect.
        fidelity: ``(n,)`` float64, misfit of the second-best local minimum over that of the best, 1 where there is only
            one: the higher, the surer.
        scale: ``(n,)`` float64, intensity of the fitted sphere at q = 0, photons a pixel.
        flag: ``(n,)`` uint8, index into :data:`FLAGS`; 0: nothing to say.
    """

    diameter: torch.Tensor
    misfit: torch.Tensor
    fidelity: torch.Tensor
    scale: torch.Tensor
    flag: torch.Tensor


def form_factor(q: torch.Tensor, diameter: torch.Tensor | float) -> torch.Tensor:
    """Intensity of a uniform sphere over that at q = 0: [3 (sin x − x cos x)/x³]², x = q·diameter/2.

    Args:
        q: momentum transfer, nm⁻¹.
        diameter: nm; the two are broadcast.
    """
    return sphere((q * diameter / 2)[..., None]).square()


def fit_sizes(
    psd: torch.Tensor,
    q: torch.Tensor,
    settings: SizeSettings,
    photons: torch.Tensor | None = None,
    advance: Callable[[int], None] = lambda n: None,
) -> Sizes:
    """Find the sphere that each pattern's PSD resembles most.

    Args:
        psd: ``(n, rings)`` floating point, photons a pixel, NaN in rings without a good pixel, as
            :func:`~spi_lightning.analysis.psd.angular_mean` gives it.
        q: ``(rings,)``, momentum transfer of each ring, nm⁻¹, such as
            :func:`~spi_lightning.reciprocal.ring_momentum`.
        settings: what is tried.
        photons: ``(n,)``, counts of each pattern, for ``settings.least_photons``.
        advance: told the number of patterns that have been fitted.

    Returns:
        A size of each pattern. A pattern with too few photons has none, nor has one whose PSD is zero, or NaN where
        that of others is not.

    Raises:
        ValueError: shapes do not agree.
    """
    n, rings = psd.shape
    if q.shape != (rings,) or (photons is not None and photons.shape != (n,)):
        given = None if photons is None else tuple(photons.shape)
        raise ValueError(f"psd {tuple(psd.shape)} takes q (rings,) and photons (n,); got {tuple(q.shape)} and {given}.")
    q = q.to(psd.device, torch.float64)
    compared = _compared(psd, q, settings)
    if int(compared.sum()) < LEAST_RINGS:
        unknown = psd.new_full((n,), math.nan, dtype=torch.float64)
        advance(n)
        return Sizes(unknown, unknown, unknown, unknown, torch.full_like(unknown, _TOO_FEW_RINGS, dtype=torch.uint8))
    spheres = _spheres(q, compared, settings)
    blocks = []
    for start in range(0, n, _AT_ONCE):
        block = psd[start : start + _AT_ONCE]
        dim = torch.zeros(len(block), dtype=torch.bool, device=psd.device)
        if photons is not None:
            dim = photons[start : start + _AT_ONCE].to(psd.device) < settings.least_photons
        blocks.append(_fit(block, dim, spheres))
        advance(len(block))
    return Sizes(*(torch.cat([getattr(block, field.name) for block in blocks]) for field in fields(Sizes)))


class _Spheres(NamedTuple):
    """The PSDs of spheres.

    Attributes:
        rings: that are compared, ``(used,)`` int64.
        following: the next ring of each, or itself where that takes no part, ``(used,)`` int64.
        parts: of the way to the next ring, ``(interpolation,)`` float64.
        curves: of each diameter at the points between the rings, divided by their means, ``(steps, points)`` float32.
        means: that they were divided by, ``(steps,)`` float64.
        diameters: ``(steps,)`` float64, nm.
    """

    rings: torch.Tensor
    following: torch.Tensor
    parts: torch.Tensor
    curves: torch.Tensor
    means: torch.Tensor
    diameters: torch.Tensor


def _compared(psd: torch.Tensor, q: torch.Tensor, settings: SizeSettings) -> torch.Tensor:
    """The rings that take part, ``(rings,)`` bool."""
    good = ~psd.isnan().all(0)
    low, high = settings.q_range
    order = torch.arange(len(q), device=q.device)
    first = order[good].amin() + LEFT_OUT if low is None and good.any() else 0
    return good & (order >= first) & (q >= (low or 0.0)) & (q <= (math.inf if high is None else high))


def _spheres(q: torch.Tensor, compared: torch.Tensor, settings: SizeSettings) -> _Spheres:
    """Curves of all diameters, each ring standing for the points up to the next one.

    Where the next one takes no part the points are level, as spi-processing has them beyond the last ring.
    """
    rings = compared.nonzero().ravel()
    followed = torch.cat([compared[1:], compared.new_zeros(1)])[rings]
    parts = torch.arange(settings.interpolation, dtype=q.dtype, device=q.device) / settings.interpolation
    next_q = torch.cat([q[1:], 2 * q[-1:] - q[-2:-1]])
    points = torch.lerp(q[rings, None], next_q[rings, None], parts).flatten()
    diameters = torch.linspace(settings.smallest, settings.largest, settings.steps, dtype=q.dtype, device=q.device)
    curves = form_factor(points, diameters[:, None] / FACTORS[settings.shape])
    means = curves.mean(1)
    return _Spheres(rings, rings + followed, parts, (curves / means[:, None]).float(), means, diameters)


def _fit(psd: torch.Tensor, dim: torch.Tensor, spheres: _Spheres) -> Sizes:
    """Sizes of a block of patterns, of which some are too ``dim``, ``(n,)`` bool."""
    here, following = (psd[:, rings].double() for rings in (spheres.rings, spheres.following))
    mean = torch.lerp(here, following, float(spheres.parts.mean())).mean(1)
    here, following = ((values / mean[:, None]).float()[..., None] for values in (here, following))
    points = torch.lerp(here, following, spheres.parts.float()).flatten(1)
    misfits = _distances(points, spheres.curves) / points.shape[1]
    best, second = _two_best(misfits)
    place = best + _vertex(misfits, best)
    lowest = misfits.gather(1, best[:, None])[:, 0].double()

    flag = torch.zeros(len(psd), dtype=torch.uint8, device=psd.device)
    flag[(best == 0) | (best == misfits.shape[1] - 1)] = _AT_THE_END
    flag[~(mean > 0)] = _NO_SIGNAL
    flag[dim] = _TOO_FEW_PHOTONS
    known = flag <= _AT_THE_END

    def where_known(values: torch.Tensor) -> torch.Tensor:
        return torch.where(known, values, math.nan)

    return Sizes(
        diameter=where_known(_at(spheres.diameters, place)),
        misfit=where_known(lowest),
        fidelity=where_known(second / lowest),
        scale=where_known(mean / _at(spheres.means, place)),
        flag=flag,
    )


def _distances(points: torch.Tensor, curves: torch.Tensor) -> torch.Tensor:
    """Sums of absolute differences, ``(n, points)`` and ``(steps, points)`` → ``(n, steps)``."""
    total = points.new_zeros(len(points), len(curves))
    for mine, theirs in zip(points.split(_TILE, 1), curves.split(_TILE, 1), strict=True):
        total += torch.cdist(mine, theirs, p=1.0)
    return total


def _two_best(misfits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Index of the lowest misfit, ``(n,)``, and the misfit of the second-lowest local minimum or, without one, again
    the lowest. The grid is taken to be closed, as ``scipy.signal.argrelmin(order=5, mode="wrap")`` has it.
    """
    steps, order = misfits.shape[1], NEIGHBOURS
    lowest = torch.cat([misfits[:, -order:], misfits, misfits[:, :order]], 1)
    width = 1
    while width < order:  # the lowest of ever more neighbours
        ahead = min(width, order - width)
        lowest = torch.minimum(lowest[:, :-ahead], lowest[:, ahead:])
        width += ahead
    # Of equal neighbours the first is the minimum, where argrelmin sees none.
    minimum = (misfits < lowest[:, :steps]) & (misfits <= lowest[:, order + 1 : order + 1 + steps])
    best = misfits.argmin(1)
    others = torch.where(minimum, misfits, math.inf).scatter_(1, best[:, None], math.inf).amin(1)
    return best, torch.where(others.isinf(), misfits.amin(1), others)


def _vertex(misfits: torch.Tensor, best: torch.Tensor) -> torch.Tensor:
    """Where the parabola through the best step and its neighbours is lowest, steps from the best; 0 at the ends."""
    steps = misfits.shape[1]
    middle = best.clamp(1, steps - 2)
    before, at, after = misfits.gather(1, torch.stack([middle - 1, middle, middle + 1], 1)).double().unbind(1)
    curvature = before - 2 * at + after
    offset = torch.where(curvature > 0, (before - after) / (2 * curvature), 0.0).clamp(-0.5, 0.5)
    return torch.where(best == middle, offset, 0.0)


def _at(values: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    """Values between the steps of the grid, ``(n,)``."""
    step = place.floor().long().clamp(0, len(values) - 2)
    return torch.lerp(values[step], values[step + 1], place - step)
