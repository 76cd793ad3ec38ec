"""Networks made faster for prediction: batch norms folded into the convolutions before them.

In evaluation mode a batch norm is y = a x + b in every channel. Where x is what a convolution makes, a goes into its
weights and b into its bias, and one pass over the memory is saved. Of a pre-activation block, the second norm always
follows a convolution. The first one sees the sum of the last block's two branches: where both end in a convolution and
nobody else uses the sum, it goes into both. Of the paper's network that is 11 of 17 norms.
"""

from __future__ import annotations

import copy
from collections import Counter
from itertools import pairwise
from typing import TypeGuard

import torch
from torch import nn

from spi_lightning.inference.ensemble import ready
from spi_lightning.models.preact_resnet import Block, PreActResNet


def folded(network: nn.Module) -> nn.Module:
    """A copy that predicts the same, to rounding, faster: norms folded where that is known to be right.

    They are in :class:`PreActResNet`, and in any network where a convolution is followed by a batch norm within an
    :class:`~torch.nn.Sequential` and neither is used elsewhere. What is not known stays as it is.

    Args:
        network: in any mode; it is not changed.

    Returns:
        On the same device, in evaluation mode, its weights without gradient and channels last.
    """
    device = next(network.parameters()).device
    result = ready(copy.deepcopy(network), device)
    for module in list(result.modules()):
        if isinstance(module, PreActResNet):
            _fold_residual(module)
        elif isinstance(module, nn.Sequential):
            _fold_sequence(module, result)
    return ready(result, device)


def _fold_residual(network: PreActResNet) -> None:
    blocks = [block for block in network.blocks if isinstance(block, Block)]
    makers = [[network.stem]]  # of what each block is given, and of what the last norm is given
    for block in blocks:
        if block.shortcut is not None:
            # Slicing is for the sake of gradients; without them a strided convolution is right, and faster.
            block.shortcut.conv.stride, block.shortcut.stride = block.shortcut.stride, (1, 1)
        if _foldable(block.second[0]):
            _absorb(block.second[0], [block.first_conv])
            block.second[0] = nn.Identity()
        # A sum of which one part is the block's own input is no convolution's output.
        makers.append([] if block.shortcut is None else [block.second_conv, block.shortcut.conv])
    for block, convolutions in zip(blocks, makers[:-1], strict=True):
        # Without a convolution in its own shortcut, a block needs what it is given as it is, too.
        if convolutions and block.shortcut is not None and _foldable(block.first[0]):
            _absorb(block.first[0], convolutions)
            block.first[0] = nn.Identity()
    if makers[-1] and _foldable(network.norm):
        _absorb(network.norm, makers[-1])
        network.norm = nn.Identity()


def _fold_sequence(sequence: nn.Sequential, network: nn.Module) -> None:
    uses = Counter(id(module) for _, module in network.named_modules(remove_duplicate=False))
    for number, (conv, norm) in enumerate(pairwise(list(sequence))):
        if type(conv) is nn.Conv2d and _foldable(norm) and uses[id(conv)] == uses[id(norm)] == 1:
            _absorb(norm, [conv])
            sequence[number + 1] = nn.Identity()


def _foldable(norm: nn.Module) -> TypeGuard[nn.BatchNorm2d]:
    return type(norm) is nn.BatchNorm2d and norm.running_mean is not None


@torch.no_grad()
def _absorb(norm: nn.BatchNorm2d, convolutions: list[nn.Conv2d]) -> None:
    """Let convolutions, whose outputs are summed, do what a norm would do with the sum."""
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None  # as _foldable has seen
    assert variance is not None
    scale = torch.rsqrt(variance.double() + norm.eps)
    if norm.affine:
        scale = scale * norm.weight
    shift = -mean * scale + (norm.bias if norm.affine else 0)
    for conv in convolutions:
        bias = shift if conv.bias is None else shift + conv.bias * scale
        conv.weight.copy_(conv.weight * scale[:, None, None, None])
        if conv.bias is not None or conv is convolutions[0]:
            conv.bias = nn.Parameter(bias.to(conv.weight.dtype))
        shift = torch.zeros_like(shift)  # once
