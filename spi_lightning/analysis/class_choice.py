"""Which classes of the EM classification are single hits: four measures of a class, and a score of them.

In the paper an expert looks at the class averages. What such an eye goes by is measured here: deep fringes (contrast),
as those of one body (misfit of a sphere), all around the beam (symmetry), and members that are alike (spread). The
authors' program spi-em-class judges by symmetry too, from the autocorrelation of a class image along rings. Photon
noise has an autocorrelation of its own there, which grows as classes get smaller. Here, all is computed from the
photons of the class's members, and the noise is taken off such that no measure depends on their number.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import NamedTuple

import torch

from spi_lightning.analysis.contrast import FringeSettings, expected_spacing, fringe_contrast
from spi_lightning.analysis.em import Classification
from spi_lightning.analysis.em_images import EMPixels, angles
from spi_lightning.analysis.em_settings import EMSettings
from spi_lightning.analysis.size import FACTORS, SizeSettings, fit_sizes
from spi_lightning.errors import require

MEASURES = ("contrast", "misfit", "symmetry", "spread")

# Where a measure stops to speak against a single hit at all, after where it rules one out. Contrast: the selections of
# the paper's Table 4 have 0.59 to 0.71. Misfit: at 0.35 a third of the intensity is not a sphere's. Symmetry: facets
# of an icosahedron leave 0.7, a rod nothing. Spread: members that differ by a fifth come from one particle seen from
# many sides, by half where the class holds aggregates or whatever fitted nowhere else.
RAMPS = {"contrast": (0.1, 0.6), "misfit": (0.35, 0.15), "symmetry": (0.2, 0.7), "spread": (0.5, 0.2)}

_MEMBERS_AT_ONCE = 2048  # of a class, compared with the others
_CELL = 3.0  # pixels along and across the rings: an aggregate's speckles are larger


@dataclass(frozen=True)
class ChoiceSettings:
    """How classes are judged.

    Attributes:
        contrast: weight of the contrast in the score.
        misfit: weight of the misfit of a sphere.
        symmetry: weight of the rotational symmetry.
        spread: weight of the spread of a class's members.
        cut: classes with this score or a higher one are single hits.
        pairs: fringes that a class's contrast is the mean of. EM's range of q holds fewer than a whole PSD.
    """

    contrast: float = 0.35
    misfit: float = 0.2
    symmetry: float = 0.1
    spread: float = 0.35
    cut: float = 0.9
    pairs: int = 1

    def __post_init__(self) -> None:
        for name in MEASURES:
            weight = getattr(self, name)
            require(0 <= weight < math.inf, f"choice.{name}", weight, "0 or a positive number")
        total = sum(getattr(self, name) for name in MEASURES)
        require(total > 0, "choice: the sum of the weights", total, "above 0")
        require(0 <= self.cut <= 1, "choice.cut", self.cut, "from 0 to 1")
        require(self.pairs >= 1, "choice.pairs", self.pairs, "1 or more")


@dataclass(frozen=True, eq=False)
class ClassMeasures:
    """What was measured of each class, ``(K,)`` float64 each, on the device of the pixels.

    NaN where a class is empty. Contrast is NaN too where there are no fringes, the diameter where nothing was fitted,
    symmetry and spread where there is no second pattern to compare with.

    Attributes:
        patterns: their number; 0 for an empty class.
        contrast: of the fringes of the members' mean PSD, [0, 1].
        diameter: of the sphere that fits that PSD best, nm.
        misfit: of that sphere (:class:`~spi_lightning.analysis.size.Sizes`), 0 is perfect; infinite where the size is
            at the end of the grid: no sphere in question fits.
        symmetry: 1 less the modulation of the class average along rings (its standard deviation over its mean) beyond
            photon noise, at least 0; 1 is isotropic.
        spread: how far members differ from the class average at their rotation and brightness beyond photon noise,
            relative to the intensity: root of the median of their mean square difference; 0 is homogeneous.
        score: weighted mean of the four, each mapped onto [0, 1] by :data:`RAMPS`; [0, 1].
    """

    patterns: torch.Tensor
    contrast: torch.Tensor
    diameter: torch.Tensor
    misfit: torch.Tensor
    symmetry: torch.Tensor
    spread: torch.Tensor
    score: torch.Tensor


class _Cells(NamedTuple):
    """Small areas of the class images, rings cut into arcs.

    Attributes:
        place: ``(R, P)`` int64, cell of each pixel of a pattern at each rotation.
        pixels: ``(R, C)`` float64, number of a pattern's pixels in each cell.
        ring: ``(C,)`` int64, ring of each cell.
    """

    place: torch.Tensor
    pixels: torch.Tensor
    ring: torch.Tensor


def measure_classes(
    classification: Classification,
    counts: torch.Tensor,
    pixels: EMPixels,
    q_per_pixel: float,
    em: EMSettings,
    settings: ChoiceSettings,
    fringe: FringeSettings,
    size: SizeSettings,
) -> ClassMeasures:
    """Measure and score every class.

    Some 10 kB a pattern of the largest class are held besides the counts.

    Args:
        classification: its classes and rotations are used; its images may be of logarithms.
        counts: ``(n, P)``, photons of each pattern in ``pixels``, on any device.
        pixels: from :func:`~spi_lightning.analysis.em_images.em_pixels`.
        q_per_pixel: momentum transfer of one pixel, nm⁻¹.
        em: the settings that ``classification`` was made with.
        settings: weights of the score.
        fringe: how fringes are found; ``settings.pairs`` goes before its number of pairs, and a fringe may be as near
            to the ends as one ring: they are few, and a class's PSD is smooth.
        size: which spheres are tried.

    Raises:
        ValueError: shapes do not agree.
    """
    if counts.shape != (len(classification.classes), len(pixels.x)):
        expected = (len(classification.classes), len(pixels.x))
        raise ValueError(f"The counts are {tuple(counts.shape)}; classification and pixels say {expected}.")
    device = pixels.x.device
    classes, rotations = classification.classes.to(device), classification.rotations.to(device)
    number = len(classification.images)
    patterns = torch.bincount(classes, minlength=number).double()

    cells = _cells(pixels, em)
    profiles, sums = _summed(counts, rotations, pixels, cells)
    psd = profiles.new_zeros(number, profiles.shape[1]).index_add_(0, classes, profiles) / patterns[:, None]
    contrast, diameter, misfit = _fringes(psd, q_per_pixel, settings, fringe, size)
    symmetry, spread = (torch.full_like(patterns, math.nan) for _ in range(2))
    for label in patterns.nonzero().flatten().tolist():
        members = (classes == label).nonzero().flatten()
        photons, exposure = sums[members].double(), cells.pixels[rotations[members]]
        brightness = photons.sum(1) / photons.sum(1).mean().clamp(min=torch.finfo(torch.float64).tiny)
        exposure = exposure * brightness[:, None]
        symmetry[label] = 1 - _modulation(photons, exposure, cells.ring)
        spread[label] = _spread(photons, exposure)
    measured = ClassMeasures(patterns, contrast, diameter, misfit, symmetry, spread, torch.zeros_like(patterns))
    return dataclasses.replace(measured, score=_score(measured, settings))


def choose_classes(measures: ClassMeasures, settings: ChoiceSettings) -> torch.Tensor:
    """Tell which classes are single hits, ``(K,)`` bool: those that score ``settings.cut`` or more."""
    return measures.score >= settings.cut


def _score(measures: ClassMeasures, settings: ChoiceSettings) -> torch.Tensor:
    """Weighted mean of the measures on their ramps; what could not be measured counts as 0. NaN for empty classes."""
    total, score = 0.0, torch.zeros_like(measures.patterns)
    for name in MEASURES:
        worst, best = RAMPS[name]
        weight = getattr(settings, name)
        share = ((getattr(measures, name) - worst) / (best - worst)).nan_to_num(0.0).clamp(0, 1)
        score, total = score + weight * share, total + weight
    return torch.where(measures.patterns > 0, score / total, torch.nan)


def _cells(pixels: EMPixels, em: EMSettings) -> _Cells:
    """Cut the rings into arcs; with Friedel symmetry, opposite arcs are one."""
    device = pixels.x.device
    turn = math.pi if em.friedel else 2 * math.pi
    ring = (pixels.radius / _CELL).long()
    middles = (torch.arange(int(ring.max()) + 1, dtype=torch.float64, device=device) + 0.5) * _CELL
    arcs = (turn * middles / _CELL).round().long()  # 1 or more
    first = arcs.cumsum(0) - arcs
    turned = angles(em.rotations, em.friedel).to(device)[:, None] + torch.atan2(pixels.y, pixels.x)
    share = (turned / turn).remainder(1)
    arc = (share * arcs[ring]).long().minimum(arcs[ring] - 1)
    place = first[ring] + arc
    in_cells = torch.zeros(em.rotations, int(arcs.sum()), dtype=torch.float64, device=device)
    in_cells.scatter_add_(1, place, torch.ones_like(turned))
    return _Cells(place, in_cells, torch.repeat_interleave(torch.arange(len(arcs), device=device), arcs))


def _summed(
    counts: torch.Tensor, rotations: torch.Tensor, pixels: EMPixels, cells: _Cells
) -> tuple[torch.Tensor, torch.Tensor]:
    """PSDs ``(n, rings)`` float64, NaN where a ring has no pixel, and photons in cells ``(n, C)`` float32."""
    device = pixels.x.device
    bins = pixels.radius.round().long()
    profiles = torch.zeros(len(counts), int(bins.max()) + 1, dtype=torch.float64, device=device)
    sums = torch.zeros(len(counts), len(cells.ring), dtype=torch.float32, device=device)
    for rotation, place in enumerate(cells.place):
        rows = (rotations == rotation).nonzero().flatten()
        photons = counts[rows.to(counts.device)].to(device, torch.float32)
        sums[rows] = sums.new_zeros(len(rows), sums.shape[1]).index_add_(1, place, photons)
        profiles[rows] = profiles.new_zeros(len(rows), profiles.shape[1]).index_add_(1, bins, photons.double())
    return profiles / torch.bincount(bins), sums


def _fringes(
    psd: torch.Tensor, q_per_pixel: float, settings: ChoiceSettings, fringe: FringeSettings, size: SizeSettings
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Contrast, diameter and misfit of each class's PSD ``(K, rings)``, ``(K,)`` each; NaN for empty classes."""
    occupied = psd.isfinite().any(1)
    q = torch.arange(psd.shape[1], dtype=torch.float64, device=psd.device) * q_per_pixel
    contrast, diameter, misfit = (psd.new_full((len(psd),), math.nan) for _ in range(3))
    # Classes have their own rings, those of EM.
    sizes = fit_sizes(psd[occupied], q, dataclasses.replace(size, q_range=(None, None)))
    at_the_end = sizes.flag != 0
    diameter[occupied] = sizes.diameter
    misfit[occupied] = torch.where(at_the_end & sizes.misfit.isfinite(), math.inf, sizes.misfit)
    spacing = torch.where(at_the_end, torch.nan, expected_spacing(sizes.diameter / FACTORS[size.shape], q))
    fringe = dataclasses.replace(fringe, pairs=settings.pairs, edge=1, from_beam=False)
    contrast[occupied] = fringe_contrast(psd[occupied], fringe, spacing).value
    return contrast, diameter, misfit


def _modulation(photons: torch.Tensor, exposure: torch.Tensor, ring: torch.Tensor) -> torch.Tensor:
    """Standard deviation of a class average along rings, over its mean, beyond photon noise.

    It is the root of the covariance of two averages, each of half the members: their noise is independent. Rings count
    by their photons.

    Args:
        photons: ``(m, C)`` of the members in each cell.
        exposure: ``(m, C)``, pixels times brightness that they were seen with.
        ring: ``(C,)``, of each cell.

    Returns:
        ``()``, from 0 to 1; NaN where no cell was seen by both halves.
    """
    halves = [(photons[start::2].sum(0), exposure[start::2].sum(0)) for start in range(2)]
    seen = (halves[0][1] > 0) & (halves[1][1] > 0)
    if not seen.any():
        return photons.new_tensor(math.nan)
    rings = int(ring.max()) + 1

    def by_ring(values: torch.Tensor) -> torch.Tensor:
        return values.new_zeros(rings).index_add_(0, ring[seen], values[seen])

    bright = by_ring(photons.sum(0))
    mean = bright / by_ring(exposure.sum(0))
    first, second = (light / weight - mean[ring] for light, weight in halves)
    weight = (halves[0][1] * halves[1][1]).sqrt()
    relative = by_ring(first * second * weight) / (by_ring(weight) * mean.square())
    lit = bright > 0
    if not lit.any():
        return photons.new_tensor(math.nan)
    return ((relative * bright)[lit].sum() / bright[lit].sum()).clamp(0, 1).sqrt()


def _spread(photons: torch.Tensor, exposure: torch.Tensor) -> torch.Tensor:
    """Relative difference of the members from the average of the others, beyond photon noise.

    For a member with counts k and an expectation μ from T photons of the others, the mean of (k − μ)² − k − μ²/T is the
    square of their true difference. It is summed over cells and divided by the sum of μ².

    Args:
        photons: ``(m, C)`` of the members in each cell.
        exposure: ``(m, C)``, pixels times brightness that they were seen with.

    Returns:
        ``()``, root of the median over the members, 0 or more; NaN where there are no others to compare with.
    """
    total, seen = photons.sum(0), exposure.sum(0)
    parts = zip(photons.split(_MEMBERS_AT_ONCE), exposure.split(_MEMBERS_AT_ONCE), strict=True)
    excess = torch.cat([_excess(own, where, total - own, seen - where) for own, where in parts])
    return excess.nanmedian().clamp(min=0).sqrt()


def _excess(photons: torch.Tensor, exposure: torch.Tensor, others: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Square of the relative difference of members from what the others say, ``(m,)``; all arguments ``(m, C)``."""
    usable = (exposure > 0) & (weight > 1e-9 * exposure)
    expected = torch.where(usable, others * exposure / weight, 0.0)
    found = torch.where(usable, photons, 0.0)
    expected = expected * (found.sum(1) / expected.sum(1))[:, None]
    noise = found + torch.where(others > 0, expected.square() / others, 0.0)
    return ((found - expected).square() - noise).sum(1) / expected.square().sum(1)
