"""How far selections of patterns agree: counts in common and intersection over union.

A selection is a row of flags over the same ``n`` patterns. Intersection over union (Jaccard 1912), |A ∩ B|/|A ∪ B|,
is what the paper's Table 5 gives in per cent.
"""

from __future__ import annotations

import torch


def intersections(memberships: torch.Tensor) -> torch.Tensor:
    """Number of patterns that each two selections have in common; the diagonal holds the selections' own numbers.

    Args:
        memberships: ``(s, n)`` bool, True where a pattern is in a selection, on any device.

    Returns:
        ``(s, s)`` int64, on that device.

    Raises:
        ValueError: the flags are not ``(s, n)`` bool.
    """
    _check(memberships, least=0)
    # One row at a time: an integer matrix product has no fast path on a GPU, and one in float is exact only to 2^24.
    rows = [(memberships & row).sum(-1) for row in memberships]
    return torch.stack(rows) if rows else memberships.new_zeros((0, 0), dtype=torch.int64)


def iou(memberships: torch.Tensor) -> torch.Tensor:
    """Intersection over union of each two selections.

    Args:
        memberships: ``(s, n)`` bool.

    Returns:
        ``(s, s)`` float64 in [0, 1]: 1 where they are the same, 0 where they share nothing, NaN where both are empty.

    Raises:
        ValueError: the flags are not ``(s, n)`` bool.
    """
    common = intersections(memberships)
    own = common.diagonal()
    return common.double() / (own[:, None] + own[None, :] - common)


def joint(memberships: torch.Tensor) -> tuple[int, float]:
    """What several selections have in common.

    Args:
        memberships: ``(s, n)`` bool with ``s`` of 2 or more.

    Returns:
        The number of patterns that are in every selection, and its ratio to the number that are in any; NaN where all
        selections are empty.

    Raises:
        ValueError: the flags are not ``(s, n)`` bool, or there are fewer than two selections.
    """
    _check(memberships, least=2)
    common, together = int(memberships.all(0).sum()), int(memberships.any(0).sum())
    return common, common / together if together else float("nan")


def _check(memberships: torch.Tensor, least: int) -> None:
    if memberships.dtype != torch.bool or memberships.ndim != 2 or len(memberships) < least:
        found = f"{tuple(memberships.shape)} {memberships.dtype}"
        raise ValueError(
            f"The memberships are {found}; they must be bool (selections, patterns), {least} or more rows."
        )
