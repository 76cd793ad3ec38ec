"""What every augmentation pipeline has in common."""

from __future__ import annotations

from typing import Protocol

import torch


class Pipeline(Protocol):
    """Draws a random variant of every pattern of a batch.

    Attributes:
        in_workers: run in the data loader's worker processes, on the CPU; else on the model's device.
    """

    in_workers: bool

    def __call__(self, patterns: torch.Tensor, mask: torch.Tensor, zero: float, seed: int) -> torch.Tensor:
        """Augment a batch.

        Args:
            patterns: ``(n, 1, rows, columns)`` float32, normalised; not changed.
            mask: ``(rows, columns)`` bool, True = good, on the same device.
            zero: normalised value of a pixel without photons.
            seed: what is drawn depends on it, and on nothing else.

        Returns:
            ``(n, 1, rows, columns)`` float32 on the same device.
        """


class NoAugmentation:
    """Patterns as they are."""

    in_workers = False

    def __call__(self, patterns: torch.Tensor, mask: torch.Tensor, zero: float, seed: int) -> torch.Tensor:
        """See :class:`Pipeline`."""
        return patterns
