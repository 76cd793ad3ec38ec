"""Sorting patterns into classes by expectation maximisation.

The model is that of spi-em-class (S. Bobkov), the program of the paper's authors: a pattern shows one of K class
images, turned in the plane and multiplied by a scale, with Poisson noise. Each iteration takes the posterior of all
classes and rotations (E step), and the mean of the patterns under it for new images (M step). Both are matrix products
here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch

from spi_lightning.analysis.em_data import Data, blocks_of, read
from spi_lightning.analysis.em_images import EMPixels, Turns, filled, slices, spread, turns
from spi_lightning.analysis.em_settings import EMSettings
from spi_lightning.errors import require

_SPARSE = 0.04  # share of the posterior that matters, below which products with the rest of it are spared
_VARIATION = 0.01  # of a start's images, and of a revived class


@dataclass(frozen=True, eq=False)
class Classification:
    """What EM found, on the device of the pixels.

    Attributes:
        images: ``(K, S, S)`` float64, photons a pixel (their logarithms where patterns were taken so) of a pattern of
            scale 1, the beam in the middle; 0 where no pattern reached.
        coverage: ``(K, S, S)`` float64, sum of the scales of the patterns that reached a pixel; 0: none did.
        classes: ``(n,)`` int64, class of the best class and rotation.
        rotations: ``(n,)`` int64, its rotation, in steps of half a turn (a whole one without Friedel symmetry) by R.
        scales: ``(n,)`` float64, brightness of the patterns relative to each other; their mean is 1.
        certainty: ``(n,)`` float64, posterior of the class.
        log_likelihood: ``(n,)`` float64, but for terms that depend on the pattern alone; averaged over classes and
            rotations with soft assignment, of the best one with hard assignment.
        history: mean log-likelihood of each iteration.
        converged: the end was reached before the iterations were used up.
    """

    images: torch.Tensor
    coverage: torch.Tensor
    classes: torch.Tensor
    rotations: torch.Tensor
    scales: torch.Tensor
    certainty: torch.Tensor
    log_likelihood: torch.Tensor
    history: list[float]
    converged: bool


class Expected(NamedTuple):
    """What the E step leaves beside the table of log-likelihoods.

    Attributes:
        best: ``(n,)`` float64, log-likelihood of the best class and rotation.
        place: ``(n,)`` int64, class times R plus rotation of it.
        scales: ``(n,)`` float64.
    """

    best: torch.Tensor
    place: torch.Tensor
    scales: torch.Tensor


def classify(
    counts: torch.Tensor,
    pixels: EMPixels,
    settings: EMSettings,
    start: torch.Tensor | None = None,
    seed: int | None = None,
    advance: Callable[[int], None] = lambda iterations: None,
    device: torch.device | str | None = None,
) -> Classification:
    """Sort patterns from one start.

    Computed in float64 if the counts are, else with products in float32. Besides the counts, 4
    bytes a pattern, class and rotation are held.

    Args:
        counts: ``(n, P)`` integer or floating point, not negative: photons in ``pixels``.
        pixels: from :func:`~spi_lightning.analysis.em_images.em_pixels`.
        settings: see there.
        start: ``(K, S, S)``, first images; made centro-symmetric with Friedel symmetry. Drawn at random where None.
        seed: of all that is drawn; None: that of the settings.
        advance: told of each iteration; of those that are spared too, in the end.
        device: to compute on; None: that of ``pixels``, where the result lies in any case.

    Raises:
        SpiError: there are fewer patterns than classes, or no photon; a count is negative or not finite; the start has
            another shape.
    """
    there = pixels.to(device)
    data = read(counts, there, settings)
    how = turns(there, settings.rotations, settings.friedel, data.dtype)
    generator = torch.Generator().manual_seed(settings.seed if seed is None else seed)
    images = _first_images(start, how, settings, generator).to(data.device)
    coverage = torch.ones_like(images)
    table = torch.zeros(len(counts), settings.classes * settings.rotations, dtype=data.dtype, device=data.device)
    table[:, 0] = 1  # the first scales are those of the first class, as spi-em-class has it
    revivals_left = [settings.revivals] * settings.classes
    classes = torch.full((len(counts),), -1, device=data.device)
    history: list[float] = []
    converged = False
    while not converged and len(history) < settings.iterations:
        found = expect(data, slices(filled(images, coverage, how), how), table, settings.beta)
        scales = found.scales / found.scales.mean()
        before, classes = classes, found.place // settings.rotations
        occupied = torch.bincount(classes, minlength=settings.classes) > 0
        log_likelihood, certainty = assign(table, found, occupied, settings)
        images, coverage = maximise(data, table, scales, how)
        history.append(float(log_likelihood.mean()))
        converged = _settled(history, float((classes != before).double().mean()), settings.tolerance)
        if settings.assignment == "soft" and len(history) < settings.iterations:
            for empty in (~occupied).nonzero().flatten().tolist():
                if revivals_left[empty]:
                    revivals_left[empty] -= 1
                    converged = False
                    images, coverage = _revived(images, coverage, empty, classes, how, generator)
        advance(1)
    advance(settings.iterations - len(history))
    rotations = found.place % settings.rotations
    home = pixels.x.device
    return Classification(
        images=images.to(home),
        coverage=coverage.to(home),
        classes=classes.to(home),
        rotations=rotations.to(home),
        scales=scales.to(home),
        certainty=certainty.to(home),
        log_likelihood=log_likelihood.to(home),
        history=history,
        converged=converged,
    )


def expect(
    data: Data, seen: torch.Tensor, table: torch.Tensor, beta: float, scales: torch.Tensor | None = None
) -> Expected:
    """The E step: Poisson log-likelihood of every class and rotation, sum of d log(s w) − s w over the pixels.

    What is common to all classes and rotations of a pixel is left out of the matrix product, lest float32's digits are
    spent on it, and added in the end.

    Args:
        data: the patterns d.
        seen: ``(K, R, P)``, what a pattern of scale 1 sees of the images: w. Overwritten.
        table: ``(n, K R)``. In: the last posterior, of which the scales s are made: a pattern's photons by those that
            it was expected to have. Out: ``beta`` times the log-likelihood, less that of the best.
        beta: exponent of the likelihood.
        scales: ``(n,)`` float64, to be kept rather than estimated.
    """
    photons = seen.sum(2, dtype=torch.float64).flatten()
    mean_photons = photons.mean()
    excess = (photons - mean_photons).to(data.dtype)
    logs = seen.clamp_(min=torch.finfo(seen.dtype).tiny).log_()
    common = logs.mean((0, 1))
    excess_logs = logs.sub_(common).to(data.dtype).flatten(0, 1).contiguous().t()
    best, made = torch.empty_like(data.totals), torch.empty_like(data.totals)
    place = torch.empty(len(best), dtype=torch.int64, device=best.device)
    for rows, values in data.blocks(table.shape[1]):
        totals = data.totals[rows]
        made[rows] = totals / (mean_photons + table[rows] @ excess) if scales is None else scales[rows]
        products = torch.mm(values, excess_logs, out=table[rows])
        products.sub_(made[rows, None].to(data.dtype) * excess)
        highest, place[rows] = products.max(1)
        products.sub_(highest[:, None]).mul_(beta)
        best[rows] = (
            highest + values.double() @ common.double() + torch.xlogy(totals, made[rows]) - made[rows] * mean_photons
        )
    return Expected(best, place, made)


def assign(
    table: torch.Tensor, found: Expected, occupied: torch.Tensor, settings: EMSettings
) -> tuple[torch.Tensor, torch.Tensor]:
    """Make posteriors of log-likelihoods.

    With hard assignment, classes that are no pattern's best get the share of every pattern that soft assignment would
    give them relative to the best: the revival of spi-em-class.

    Args:
        table: ``(n, K R)`` as :func:`expect` leaves it; overwritten with the posterior.
        found: what it returned.
        occupied: ``(K,)`` bool: the class is the best one of some pattern.
        settings: assignment and beta.

    Returns:
        Log-likelihood ``(n,)`` float64 of each pattern under the model, see :class:`Classification`; and the soft
        posterior ``(n,)`` float64 of its best class, whatever the rotation.
    """
    hard = settings.assignment == "hard"
    rotations = table.shape[1] // len(occupied)
    fixed = occupied.repeat_interleave(rotations)
    log_likelihood, certainty = found.best.clone(), torch.empty_like(found.best)
    for rows in blocks_of(*table.shape):
        best = table[rows] == 0 if hard else None
        shares = table[rows].exp_()
        total = shares.sum(1, dtype=torch.float64)
        own = shares.unflatten(1, (-1, rotations)).sum(2, dtype=torch.float64)
        certainty[rows] = own.gather(1, found.place[rows, None] // rotations).squeeze(1) / total
        if best is None:
            log_likelihood[rows] += (total / table.shape[1]).log() / settings.beta
        else:
            shares.copy_(torch.where(fixed, best, shares))
        shares.div_(shares.sum(1, keepdim=True))
    return log_likelihood, certainty


def maximise(data: Data, table: torch.Tensor, scales: torch.Tensor, how: Turns) -> tuple[torch.Tensor, torch.Tensor]:
    """The M step: patterns, weighted by their posterior, by their scales, weighted likewise.

    Args:
        data: the patterns.
        table: ``(n, K R)``, posterior.
        scales: ``(n,)`` float64.
        how: from :func:`~spi_lightning.analysis.em_images.turns`.

    Returns:
        Images and coverage, ``(K, S, S)`` float64.
    """
    sums = torch.zeros(table.shape[1], data.counts.shape[1], dtype=data.dtype, device=data.device)
    weights = torch.zeros(table.shape[1], dtype=torch.float64, device=data.device)
    for rows, values in data.blocks(table.shape[1]):
        posterior = table[rows]
        matters = posterior > torch.finfo(data.dtype).eps
        if int(matters.count_nonzero()) < _SPARSE * matters.numel():
            sums += torch.sparse.mm(torch.where(matters, posterior, 0.0).t().to_sparse(), values)
        else:
            sums.addmm_(posterior.t(), values)
        weights += posterior.t() @ scales[rows].to(data.dtype)
    turns_of = (-1, len(how.reach))
    return spread(sums.unflatten(0, turns_of), weights.unflatten(0, turns_of), how)


def _first_images(
    start: torch.Tensor | None, how: Turns, settings: EMSettings, generator: torch.Generator
) -> torch.Tensor:
    shape = (settings.classes, how.side, how.side)
    if start is None:
        images = 1 - _VARIATION * torch.rand(shape, dtype=torch.float64, generator=generator)
    else:
        require(tuple(start.shape) == shape, "start", tuple(start.shape), f"{shape}: classes, and pixels of an image")
        images = start.double()
    return (images + images.flip(1, 2)) / 2 if how.friedel else images


def _settled(history: list[float], changed: float, tolerance: float) -> bool:
    if len(history) < 3:
        return False
    gained = abs(history[-1] - history[0])
    return changed < tolerance and abs(history[-1] - history[-2]) <= tolerance * gained


def _revived(
    images: torch.Tensor,
    coverage: torch.Tensor,
    empty: int,
    classes: torch.Tensor,
    how: Turns,
    generator: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Images in which an empty class is a varied copy of another one, drawn by the number of its patterns."""
    patterns = torch.bincount(classes.cpu(), minlength=len(images)).double()
    source = int(torch.multinomial(patterns, 1, generator=generator))
    noise = torch.rand(images.shape[1:], dtype=torch.float64, generator=generator).to(images.device) - 0.5
    factor = 1 + _VARIATION * (noise + noise.flip(0, 1) if how.friedel else 2 * noise)
    images[empty], coverage[empty] = images[source] * factor, coverage[source]
    return images, coverage
