"""A handful of simple features of diffraction patterns: what a network has to beat.

They are what a beamline scientist would look at: how bright, how large, how round, how clear the fringes. They work for
any pattern shape, full plane or half plane, wherever the beam is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from spi_lightning.analysis.psd import angular_mean, radial_bins
from spi_lightning.errors import SpiError
from spi_lightning.instrument import Instrument
from spi_lightning.patterns.frames import Frames
from spi_lightning.reciprocal import q_magnitude, ring_momentum
from spi_lightning.simulation.form_factors import sphere

FEATURES = (
    "log photons",
    "size",
    "log misfit",
    "fidelity",
    "fringe contrast",
    "log asymmetry",
    "log ring variance, low q",
    "log ring variance, middle q",
    "log ring variance, high q",
)
SIZES = 300  # diameters that are tried, as in spi-processing
LEFT_OUT = 2  # rings next to the central gap
FULLNESS = 0.5  # rings with less than this share of their circle on good pixels, beside the usual ring, are left out
SHORTEST_FRINGE = 6.0  # rings a fringe, for the largest sphere that is tried
# 2 q R = q d at the extrema of [3 (sin x − x cos x)/x³]², x = q R: tan x = x, and tan x = 3x/(3 − x²).
MINIMA = (8.9868, 15.4505, 21.8082)
MAXIMA = (11.5269, 18.1900, 24.6459)
BLOCK = 256  # patterns that are worked on at once


@dataclass(frozen=True)
class Plan:
    """What is laid out once for all patterns of an instrument and a mask.

    Attributes:
        mask: ``(rows, columns)`` bool, True = good.
        bins: ring of each pixel, ``(rows, columns)`` int64.
        used: the rings that are compared with spheres, ascending, ``(used,)`` int64.
        momentum: |q| of all rings, nm⁻¹, ``(rings,)`` float64.
        weights: good pixels of each ring, ``(rings,)`` float64.
        sizes: diameters that are tried, nm, ``(SIZES,)`` float64.
        curves: form factors of spheres of these sizes in the used rings, each divided by its mean, ``(SIZES, used)``.
        pairs: flat indices of good pixels and of their mirror images, each pair once, ``(2, pairs)`` int64.
    """

    mask: torch.Tensor
    bins: torch.Tensor
    used: torch.Tensor
    momentum: torch.Tensor
    weights: torch.Tensor
    sizes: torch.Tensor
    curves: torch.Tensor
    pairs: torch.Tensor


def features_of(run: Frames, indices: np.ndarray, advance: Callable[[int], None] = lambda n: None) -> np.ndarray:
    """Features of some patterns of a run, read in blocks.

    Args:
        run: photon counts, with a complete geometry.
        indices: of the patterns, ``(n,)``.
        advance: told the number of patterns that have been read.

    Returns:
        ``(n, FEATURES)`` float64; NaN where a feature is not defined for a pattern.
    """
    laid_out = plan(run.geometry.on_detector(run.shape), torch.from_numpy(run.mask))
    blocks = []
    for start in range(0, len(indices), BLOCK):
        counts = torch.from_numpy(run.read(indices[start : start + BLOCK]).astype(np.float32))
        blocks.append(features(counts, laid_out).numpy())
        advance(len(counts))
    return np.concatenate(blocks) if blocks else np.zeros((0, len(FEATURES)))


def plan(instrument: Instrument, mask: torch.Tensor) -> Plan:
    """Lay out rings, spheres and mirror pairs.

    Args:
        instrument: geometry of the patterns; the beam may lie outside of them.
        mask: ``(rows, columns)`` bool, True = good.

    Raises:
        SpiError: too few rings have good pixels.
    """
    bins = radial_bins(instrument.shape, instrument.centre)
    weights = torch.bincount(bins[mask], minlength=int(bins.max()) + 1).double()
    fullness = weights / torch.arange(len(weights)).clamp_min(1)
    full = (fullness >= FULLNESS * fullness[fullness > 0].median()).nonzero().ravel()
    used = full[LEFT_OUT:]
    if len(used) / 2 <= SHORTEST_FRINGE:
        raise SpiError(
            f"Only {len(used)} rings around the beam at {instrument.centre} have enough good pixels; "
            f"{2 * SHORTEST_FRINGE + 1:.0f} are needed to tell a particle's size. Choose a larger crop or less binning."
        )
    momentum = ring_momentum(instrument, len(weights))
    step = instrument.q_per_pixel
    # A fringe of the smallest sphere fills half of the rings: two are seen at least.
    smallest, largest = (2 * math.pi / (rings * step) for rings in (len(used) / 2, SHORTEST_FRINGE))
    sizes = torch.linspace(smallest, largest, SIZES, dtype=torch.float64)
    # As the detector sees them: averaged over the same pixels, so that sharp minima fill up alike.
    q = q_magnitude(instrument)
    spheres = (sphere(q[..., None] * size / 2).square() for size in sizes)
    curves = torch.stack([angular_mean(pattern, bins, mask)[used] for pattern in spheres])
    return Plan(
        mask=mask,
        bins=bins,
        used=used,
        momentum=momentum,
        weights=weights,
        sizes=sizes,
        curves=curves / curves.mean(1, keepdim=True),
        pairs=mirror_pairs(instrument.centre, mask),
    )


def features(counts: torch.Tensor, laid_out: Plan) -> torch.Tensor:
    """Compute the features of some patterns.

    Args:
        counts: photons, ``(n, rows, columns)`` float32.
        laid_out: for their instrument and mask.

    Returns:
        ``(n, FEATURES)`` float64, in the order of :data:`FEATURES`; NaN where a feature is not defined.
    """
    profile = angular_mean(counts, laid_out.bins, laid_out.mask)
    squares = angular_mean(counts.square(), laid_out.bins, laid_out.mask)
    size, misfit, fidelity = sphere_fit(profile, laid_out)
    columns = [
        counts[:, laid_out.mask].sum(1, dtype=torch.float64).clamp_min(1).log(),
        size,
        misfit.log(),
        fidelity,
        fringe_contrast(profile, size, laid_out),
        asymmetry(counts, laid_out.pairs).log(),
        *ring_variances(profile, squares, laid_out).log().unbind(1),
    ]
    table = torch.stack([column.double() for column in columns], dim=1)
    return torch.where(table.isfinite(), table, torch.nan)


def sphere_fit(profile: torch.Tensor, laid_out: Plan) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The sphere whose form factor is nearest to the angular mean, as spi-processing 0.1.3 finds it.

    Data and form factors are divided by their means; the misfit is the mean absolute difference.

    Args:
        profile: angular mean, ``(n, rings)`` float64.
        laid_out: for these patterns.

    Returns:
        Diameter (nm), misfit, and fidelity: the misfit at the second best local minimum over that at the best one,
        1 where there is one only. Each ``(n,)`` float64; NaN for patterns without a photon in these rings.
    """
    data = profile[:, laid_out.used]
    data = data / data.mean(1, keepdim=True)
    misfits = torch.cdist(data, laid_out.curves, p=1) / data.shape[1]
    best, place = misfits.min(1)
    padded = torch.nn.functional.pad(misfits, (1, 1), value=math.inf)
    valley = (misfits < padded[:, :-2]) & (misfits <= padded[:, 2:])
    second = torch.where(valley, misfits, math.inf).scatter(1, place[:, None], math.inf).amin(1)
    fidelity = torch.where(second.isfinite(), second / best, 1.0)
    lit = data.isfinite().all(1)
    size, misfit, fidelity = (torch.where(lit, found, torch.nan) for found in (laid_out.sizes[place], best, fidelity))
    return size, misfit, fidelity


def fringe_contrast(profile: torch.Tensor, size: torch.Tensor, laid_out: Plan) -> torch.Tensor:
    """Mean (maximum − minimum)/(maximum + minimum) over the first three fringes: the paper's γ (eq. 5) of one pattern.

    One pattern is too noisy to search for extrema, so the fitted sphere says where they are; the angular mean there is
    that of three rings.

    Args:
        profile: angular mean, ``(n, rings)`` float64.
        size: diameter of the fitted sphere, ``(n,)``, nm.
        laid_out: for these patterns.

    Returns:
        ``(n,)`` float64; NaN where not a single fringe lies in the used rings.
    """
    weights = laid_out.weights
    sums = torch.nan_to_num(profile) * weights
    smooth = (sums[:, :-2] + sums[:, 1:-1] + sums[:, 2:]) / (weights[:-2] + weights[1:-1] + weights[2:])
    extrema = torch.tensor([MINIMA, MAXIMA], dtype=torch.float64) / size[:, None, None]  # nm⁻¹
    rings = torch.searchsorted((laid_out.momentum[1:] + laid_out.momentum[:-1]) / 2, extrema)
    inside = torch.isin(rings, laid_out.used[1:-1]).all(1)
    values = smooth.gather(1, rings.flatten(1).sub(1).clamp(0, smooth.shape[1] - 1)).unflatten(1, (2, 3))
    low, high = values.unbind(1)
    return torch.where(inside, (high - low) / (high + low), torch.nan).nanmean(1)


def asymmetry(counts: torch.Tensor, pairs: torch.Tensor) -> torch.Tensor:
    """Σ (a − b)²/Σ (a + b) over mirror pairs: 1 is expected where the two differ by photon noise only.

    Args:
        counts: photons, ``(n, rows, columns)``.
        pairs: of pixels, as :func:`mirror_pairs` gives them.

    Returns:
        ``(n,)``; NaN without a photon in a pair.
    """
    one, other = (counts.flatten(1)[:, half] for half in pairs)
    return (one - other).square().sum(1) / (one + other).sum(1)


def mirror_pairs(centre: tuple[float, float], mask: torch.Tensor) -> torch.Tensor:
    """Pixels that a centrosymmetric object lights alike (Friedel), or nearly so.

    Where a quarter of the good pixels or more have a partner on the other side of the beam, these are the pairs. A half
    plane has none; there its two halves are compared, mirrored about the line through the beam that cuts it, which a
    particle as round as an icosahedron nearly obeys.

    Args:
        centre: of the beam, (x, y) in pixels.
        mask: ``(rows, columns)`` bool, True = good.

    Returns:
        Flat indices, ``(2, pairs)`` int64.
    """
    rows, columns = mask.shape
    row, column = mask.nonzero().unbind(1)
    turned_row = torch.round(2 * centre[1] - row).long()
    turned_column = torch.round(2 * centre[0] - column).long()

    def pairs(to_row: torch.Tensor, to_column: torch.Tensor) -> torch.Tensor:
        inside = (to_row >= 0) & (to_row < rows) & (to_column >= 0) & (to_column < columns)
        start = (row * columns + column)[inside]
        end = (to_row * columns + to_column)[inside]
        once = mask.flatten()[end] & (start < end)
        return torch.stack([start[once], end[once]])

    friedel = pairs(turned_row, turned_column)
    if 2 * friedel.shape[1] >= len(row) / 4:
        return friedel
    return max(pairs(turned_row, column), pairs(row, turned_column), key=lambda found: found.shape[1])


def ring_variances(profile: torch.Tensor, squares: torch.Tensor, laid_out: Plan) -> torch.Tensor:
    """Variance around the rings over their mean, in the inner, middle and outer third of the used rings.

    1 is expected of a round pattern with photon noise only.

    Args:
        profile: angular mean, ``(n, rings)`` float64.
        squares: angular mean of the squared counts, ``(n, rings)`` float64.
        laid_out: for these patterns.

    Returns:
        ``(n, 3)`` float64; NaN without a photon in a third.
    """
    weights = laid_out.weights[laid_out.used]
    means = profile[:, laid_out.used]
    variance = (squares[:, laid_out.used] - means.square()) * weights
    thirds = zip(variance.tensor_split(3, 1), (means * weights).tensor_split(3, 1), strict=True)
    return torch.stack([spread.sum(1) / photons.sum(1) for spread, photons in thirds], dim=1)
