"""Losses of logits against labels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from spi_lightning.errors import require

SMALLEST = 1e-12  # 1 - p of a pattern that is told with certainty; a root of 0 has no finite slope


class CrossEntropy(nn.Module):
    """Cross-entropy, with a weight for each class where they are given."""

    weights: torch.Tensor | None

    def __init__(self, weights: tuple[float, float] | None = None):
        """Set it up.

        Args:
            weights: of others and of single hits. The paper's moreSH: 0.1 and 0.9. As in torch, the mean is over the
                weights that were met in the batch.
        """
        super().__init__()
        self.register_buffer("weights", _weights(weights), persistent=False)

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Logits ``(n, 2)`` and int64 labels ``(n,)`` → scalar."""
        return functional.cross_entropy(logits, labels, self.weights)


class Focal(nn.Module):
    """Cross-entropy of which easy patterns make up less.

    T.-Y. Lin et al., "Focal loss for dense object detection", ICCV (2017), eq. 5; gamma = 0 gives the cross-entropy.
    """

    weights: torch.Tensor | None

    def __init__(self, gamma: float = 2.0, weights: tuple[float, float] | None = None):
        """Set it up.

        Args:
            gamma: a pattern's loss is multiplied by (1 - p)^gamma, where p is the probability of its own class.
            weights: of others and of single hits.
        """
        super().__init__()
        require(gamma >= 0, "gamma", gamma, "0 or more")
        self.gamma = gamma
        self.register_buffer("weights", _weights(weights), persistent=False)

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Logits ``(n, 2)`` and int64 labels ``(n,)`` → scalar."""
        log_own = functional.log_softmax(logits, 1).gather(1, labels[:, None])[:, 0]
        # expm1 keeps 1 - p, and its gradient, exact where p is close to 1.
        losses = (-torch.expm1(log_own)).clamp(min=SMALLEST).pow(self.gamma) * -log_own
        if self.weights is None:
            return losses.mean()
        weights = self.weights[labels]
        return (weights * losses).sum() / weights.sum()


def _weights(weights: Sequence[float] | None) -> torch.Tensor | None:
    if weights is None:
        return None
    require(min(weights) > 0, "weights", list(weights), "two positive numbers")
    return torch.tensor(weights, dtype=torch.float32)
