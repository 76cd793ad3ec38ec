"""Optimizers: settings that make one from a network's parameters."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from spi_lightning.errors import require


@dataclass(frozen=True)
class _Adaptive:
    """What Adam and AdamW have in common.

    Attributes:
        lr: learning rate of the first epoch.
        weight_decay: per step.
        betas: decay of the running means of gradient and squared gradient.
    """

    lr: float
    weight_decay: float
    betas: tuple[float, float] = (0.9, 0.999)

    def __post_init__(self) -> None:
        require(self.lr > 0, "lr", self.lr, "positive")
        require(self.weight_decay >= 0, "weight_decay", self.weight_decay, "0 or more")
        require(all(0 <= beta < 1 for beta in self.betas), "betas", list(self.betas), "from 0 to below 1")


@dataclass(frozen=True)
class Adam(_Adaptive):
    """Adam; weight decay is added to the gradient. The paper's."""

    def __call__(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Make the optimizer of these parameters."""
        return torch.optim.Adam(parameters, self.lr, self.betas, weight_decay=self.weight_decay)


@dataclass(frozen=True)
class AdamW(_Adaptive):
    """Adam whose weight decay shrinks the weights themselves."""

    def __call__(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Make the optimizer of these parameters."""
        return torch.optim.AdamW(parameters, self.lr, self.betas, weight_decay=self.weight_decay)
