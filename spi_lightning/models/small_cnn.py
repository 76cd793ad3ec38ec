"""A small fast network: a few strided convolutions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from spi_lightning.errors import require


class SmallCNN(nn.Module):
    """Strided 3×3 convolutions, each with batch norm and ReLU; the mean over the map; a linear layer.

    For first tries, and where prediction has to keep up with a slow machine.
    """

    def __init__(self, filters: Sequence[int] = (16, 32, 64, 128)):
        """Build the network.

        Args:
            filters: of each convolution; each halves the map.

        Raises:
            SpiError: there is no convolution, or a number is not positive.
        """
        super().__init__()
        require(len(filters) > 0 and min(filters) >= 1, "model.filters", list(filters), "positive numbers")
        layers: list[nn.Module] = []
        for before, after in zip([1, *filters[:-1]], filters, strict=True):
            layers += [nn.Conv2d(before, after, 3, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(filters[-1], 2)

    def forward(self, patterns: torch.Tensor) -> torch.Tensor:
        """Normalised patterns ``(n, 1, rows, columns)`` → logits ``(n, 2)``."""
        return self.head(self.layers(patterns).mean((2, 3)))
