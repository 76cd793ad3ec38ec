"""The paper's network: a pre-activation residual network for diffraction patterns.

K. He, X. Zhang, S. Ren & J. Sun, "Identity mappings in deep residual networks", ECCV (2016), 630-645; its size as in
Assalauova et al., J. Appl. Cryst. 55 (2022), 444-454, section 3.2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import nn

from spi_lightning.errors import require

__all__ = ["PreActResNet"]

Activation = Literal["leaky_relu", "relu", "silu"]
Norm = Literal["batch", "instance", "group"]
Stride = tuple[int, int]

SLOPE = 0.01  # of the leaky ReLU, and of the initialisation that fits it
GROUPS = 8  # of a group norm

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "leaky_relu": lambda: nn.LeakyReLU(SLOPE, inplace=True),
    "relu": lambda: nn.ReLU(inplace=True),
    "silu": lambda: nn.SiLU(inplace=True),
}
NORMS: dict[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm2d,
    "instance": lambda channels: nn.InstanceNorm2d(channels, affine=True),
    "group": lambda channels: nn.GroupNorm(GROUPS, channels),
}


class PreActResNet(nn.Module):
    """Stem, stages of residual blocks, a last norm and activation, the mean over the map, and a linear layer.

    The mean makes it work for patterns of any shape; the strides make 192 × 96 pixels a map of 6 × 6.
    """

    def __init__(
        self,
        filters: Sequence[int] = (16, 32, 64, 128, 256, 256),
        blocks: Sequence[int] = (1, 1, 1, 1, 2, 2),
        strides: Sequence[Stride] = ((1, 1), (2, 2), (2, 2), (2, 2), (2, 2), (2, 1)),
        activation: Activation = "leaky_relu",
        norm: Norm = "batch",
    ):
        """Build the network and draw its weights (Kaiming normal, with the activation's slope).

        Args:
            filters: of each stage. The paper: 16, doubled with each downsampling up to 256.
            blocks: of each stage; their sum is 8 in the paper, how they are spread is not said.
            strides: along rows and columns, of the first block of each stage.
            activation: after every norm.
            norm: before every activation.

        Raises:
            SpiError: the stages do not agree in number, or a number is not positive.
        """
        super().__init__()
        stages = len(filters)
        require(len(blocks) == stages, "model.blocks", list(blocks), f"one number for each of {stages} stages")
        require(len(strides) == stages, "model.strides", list(strides), f"one pair for each of {stages} stages")
        numbers = [*filters, *blocks, *(step for stride in strides for step in stride)]
        require(min(numbers) >= 1, "model: the smallest number", min(numbers), "1 or more")
        if norm == "group":
            require(all(n % GROUPS == 0 for n in filters), "model.filters", list(filters), f"multiples of {GROUPS}")
        self.stem = nn.Conv2d(1, filters[0], 3, padding=1, bias=False)
        layers, channels = [], filters[0]
        for wide, deep, stride in zip(filters, blocks, strides, strict=True):
            for number in range(deep):
                step = (stride[0], stride[1]) if number == 0 else (1, 1)
                layers.append(Block(channels, wide, step, activation, norm))
                channels = wide
        self.blocks = nn.Sequential(*layers)
        self.norm = NORMS[norm](channels)
        self.activation = ACTIVATIONS[activation]()
        self.head = nn.Linear(channels, 2)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=SLOPE if activation == "leaky_relu" else 0.0)

    def features(self, patterns: torch.Tensor) -> torch.Tensor:
        """Normalised patterns ``(n, 1, rows, columns)`` → map ``(n, filters[-1], rows / 32, columns / 16)``."""
        return self.activation(self.norm(self.blocks(self.stem(patterns))))

    def forward(self, patterns: torch.Tensor) -> torch.Tensor:
        """Normalised patterns ``(n, 1, rows, columns)`` → logits ``(n, 2)``."""
        return self.head(self.features(patterns).mean((2, 3)))


class Block(nn.Module):
    """Norm, activation and convolution, twice, with a shortcut around them."""

    def __init__(self, channels: int, filters: int, stride: Stride, activation: Activation, norm: Norm):
        super().__init__()
        self.first = nn.Sequential(NORMS[norm](channels), ACTIVATIONS[activation]())
        self.first_conv = nn.Conv2d(channels, filters, 3, stride, padding=1, bias=False)
        self.second = nn.Sequential(NORMS[norm](filters), ACTIVATIONS[activation]())
        self.second_conv = nn.Conv2d(filters, filters, 3, padding=1, bias=False)
        same = channels == filters and stride == (1, 1)
        self.shortcut = None if same else Shortcut(channels, filters, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(n, channels, rows, columns)`` → ``(n, filters, rows / stride[0], columns / stride[1])``."""
        active = self.first(x)
        skip = x if self.shortcut is None else self.shortcut(active)
        return self.second_conv(self.second(self.first_conv(active))).add_(skip)  # in place, to spare memory


class Shortcut(nn.Module):
    """A strided 1×1 convolution, written as slicing and then convolving.

    The sums are the same. The weight gradient of oneDNN's strided one can crash the process in channels-last layout
    with fewer than 16 channels.
    """

    def __init__(self, channels: int, filters: int, stride: Stride):
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv2d(channels, filters, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(n, channels, rows, columns)`` → ``(n, filters, rows / stride[0], columns / stride[1])``."""
        return self.conv(x[:, :, :: self.stride[0], :: self.stride[1]])
