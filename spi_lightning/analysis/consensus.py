"""Several independent EM classifications merged into one, and how well they agree."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment

from spi_lightning.analysis.em import Classification, classify, expect, maximise
from spi_lightning.analysis.em_data import blocks_of, read
from spi_lightning.analysis.em_images import EMPixels, filled, slices, turns
from spi_lightning.analysis.em_settings import EMSettings


@dataclass(frozen=True, eq=False)
class Consensus:
    """What several starts agree on.

    Attributes:
        classification: by the majority of the starts that vote. Classes are numbered as in the start with the highest
            likelihood, whose scales, history and convergence it has; images, rotations and certainty are those of its
            model, given the class that was voted for.
        agreement: ``(n,)`` float64, share of all starts that put a pattern into the class that was voted for.
        similarity: mean adjusted Rand index of pairs of starts; NaN for a single one.
        starts: each by itself, with its own numbers of classes.
    """

    classification: Classification
    agreement: torch.Tensor
    similarity: float
    starts: tuple[Classification, ...]


def classify_by_consensus(
    counts: torch.Tensor,
    pixels: EMPixels,
    settings: EMSettings,
    advance: Callable[[int], None] = lambda iterations: None,
    device: torch.device | str | None = None,
) -> Consensus:
    """Sort patterns from several starts, and let the majority of the best of them decide.

    The classes of each start are matched to those of the start with the highest likelihood such that as many patterns
    as possible are in matching classes; then each pattern goes where most starts put it, in a tie where the best start
    does. (S. Dudoit and J. Fridlyand, "Bagging to improve the accuracy of a clustering procedure", Bioinformatics 19
    (2003), 1090-1099; the first of their procedures, with starts for resampled data.) Those vote that gained about as
    much likelihood as the best one (``settings.margin``).

    Args:
        counts: ``(n, P)``, photons in ``pixels``.
        pixels: from :func:`~spi_lightning.analysis.em_images.em_pixels`.
        settings: see there.
        advance: told of each iteration; ``settings.starts * settings.iterations`` in all.
        device: to compute on; None: that of ``pixels``, where the result lies in any case.

    Raises:
        SpiError: as in :func:`~spi_lightning.analysis.em.classify`.
    """
    seeds = range(settings.seed, settings.seed + settings.starts)
    starts = tuple(classify(counts, pixels, settings, seed=seed, advance=advance, device=device) for seed in seeds)
    reference = max(starts, key=lambda start: start.history[-1])
    gained = [start.history[-1] - reference.history[0] for start in starts]
    voting = [gain >= (1 - settings.margin) * max(gained) for gain in gained]
    classes, agreement = vote([start.classes for start in starts], reference.classes, settings.classes, voting)
    if len(starts) == 1:
        return Consensus(reference, agreement, math.nan, starts)
    pairs = itertools.combinations(starts, 2)
    indices = [adjusted_rand_index(first.classes, second.classes) for first, second in pairs]
    merged = with_classes(reference, classes, counts, pixels, settings, device)
    return Consensus(merged, agreement, sum(indices) / len(indices), starts)


def vote(
    labels: Sequence[torch.Tensor], reference: torch.Tensor, classes: int, voting: Sequence[bool]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Match the classes of several classifications to a reference's, and count votes.

    Args:
        labels: ``(n,)`` int64 each, with classes numbered in any order.
        reference: ``(n,)`` int64; it decides the numbers, and ties.
        classes: K.
        voting: which of the classifications have a vote; at least one.

    Returns:
        Class ``(n,)`` int64 with most votes, and the share ``(n,)`` float64 of all classifications that agree.
    """
    named = []  # (m, n), by the numbers of the reference
    for own in labels:
        table = contingency(own, reference, classes)
        _, matched = linear_sum_assignment(table.cpu().numpy(), maximize=True)
        named.append(torch.from_numpy(matched).to(own)[own])
    votes = torch.zeros(len(reference), classes, dtype=torch.float64, device=reference.device)
    votes.scatter_(1, reference[:, None], 0.5)  # decides ties
    for own, counts in zip(named, voting, strict=True):
        votes.scatter_add_(1, own[:, None], torch.full_like(votes[:, :1], float(counts)))
    decided = votes.argmax(1)
    return decided, (torch.stack(named) == decided).double().mean(0)


def contingency(first: torch.Tensor, second: torch.Tensor, classes: int) -> torch.Tensor:
    """Numbers of patterns ``(K, K)`` int64 by their class in two classifications ``(n,)`` int64."""
    return torch.bincount(first * classes + second, minlength=classes * classes).view(classes, classes)


def adjusted_rand_index(first: torch.Tensor, second: torch.Tensor) -> float:
    """Agreement of two classifications, whatever their classes are called: 1 if they are the same, 0 as by chance.

    L. Hubert and P. Arabie, "Comparing partitions", J. Classification 2 (1985), 193-218, eq. 5.

    Args:
        first: ``(n,)`` int64, not negative.
        second: likewise.
    """
    table = contingency(first, second, int(torch.maximum(first, second).max()) + 1).double()

    def pairs(numbers: torch.Tensor) -> float:
        return float((numbers * (numbers - 1) / 2).sum())

    together, of_first, of_second = pairs(table), pairs(table.sum(1)), pairs(table.sum(0))
    by_chance = of_first * of_second / max(1.0, pairs(table.sum()))
    highest = (of_first + of_second) / 2
    return 1.0 if highest == by_chance else (together - by_chance) / (highest - by_chance)


def with_classes(
    model: Classification,
    classes: torch.Tensor,
    counts: torch.Tensor,
    pixels: EMPixels,
    settings: EMSettings,
    device: torch.device | str | None = None,
) -> Classification:
    """Put patterns into given classes of a model: one more iteration in which each has its class alone.

    Args:
        model: whose images and scales are used, and whose history is kept.
        classes: ``(n,)`` int64.
        counts: ``(n, P)``, the patterns.
        pixels: as for the model.
        settings: as for the model.
        device: as in :func:`classify_by_consensus`.

    Returns:
        New images, coverage and rotations; certainty is the model's posterior of the given class, which may be small.
    """
    there = pixels.to(device)
    data = read(counts, there, settings)
    how = turns(there, settings.rotations, settings.friedel, data.dtype)
    old_images, old_coverage, scales, given = (
        values.to(data.device) for values in (model.images, model.coverage, model.scales, classes)
    )
    table = torch.zeros(len(counts), settings.classes * settings.rotations, dtype=data.dtype, device=data.device)
    expect(data, slices(filled(old_images, old_coverage, how), how), table, settings.beta, scales)
    rotations, certainty = torch.empty_like(given), torch.empty_like(scales)
    for rows in blocks_of(*table.shape):
        by_class = table[rows].unflatten(1, (settings.classes, -1))
        chosen = given[rows, None, None].expand(-1, 1, settings.rotations)
        own = by_class.gather(1, chosen)
        certainty[rows] = (own.double().logsumexp((1, 2)) - by_class.double().logsumexp((1, 2))).exp()
        rotations[rows] = own.argmax(2).squeeze(1)
        if settings.assignment == "soft":
            shares = own.softmax(2)
        else:
            shares = torch.zeros_like(own).scatter_(2, rotations[rows, None, None], 1)
        by_class.zero_().scatter_(1, chosen, shares)
    images, coverage = maximise(data, table, scales, how)
    images, coverage, rotations, certainty = (
        values.to(pixels.x.device) for values in (images, coverage, rotations, certainty)
    )
    return dataclasses.replace(
        model, images=images, coverage=coverage, classes=classes, rotations=rotations, certainty=certainty
    )
