"""Predictions averaged over mirrored views of a pattern.

Assalauova et al., J. Appl. Cryst. 55 (2022), 444-454, section 3.4: four mirror states, softmax averaged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

Mirror = Literal["none", "rows", "columns", "both"]

MIRRORS: tuple[Mirror, ...] = ("none", "rows", "columns", "both")
FLIPPED: dict[Mirror, tuple[int, ...]] = {"none": (), "rows": (-2,), "columns": (-1,), "both": (-2, -1)}


def mirrored(patterns: torch.Tensor, mirror: Mirror) -> torch.Tensor:
    """Patterns ``(..., rows, columns)`` with the order of their rows, their columns, or both turned round."""
    return patterns.flip(FLIPPED[mirror]) if FLIPPED[mirror] else patterns


@torch.inference_mode()
def member_probabilities(network: nn.Module, patterns: torch.Tensor, mirrors: Sequence[Mirror]) -> torch.Tensor:
    """Probability of a single hit by one network, the mean over mirrored views.

    All patterns go through the network at once: hand it few at a time (8 on a CPU, where activations that stay in the
    cache double the speed; hundreds on a GPU). The views go one after the other, for stacking them gains nothing.

    Args:
        network: in evaluation mode; patterns → logits ``(n, 2)``. Channels-last weights are the fastest on a CPU.
        patterns: ``(n, 1, rows, columns)`` float32, normalised, on the network's device.
        mirrors: the views, one at least.

    Returns:
        ``(n,)`` float32, from 0 to 1.

    Raises:
        ValueError: the network is in training mode, in which patterns of a batch influence each other; or no view.
    """
    if network.training:
        raise ValueError("The network is in training mode: call network.eval() first.")
    if not mirrors:
        raise ValueError("There is no view to predict from: name one mirror at least, such as 'none'.")
    total = torch.zeros(len(patterns), dtype=torch.float32, device=patterns.device)
    for mirror in mirrors:
        view = mirrored(patterns, mirror).contiguous(memory_format=torch.channels_last)
        total += network(view).to(torch.float32).softmax(dim=1)[:, 1]
    return total / len(mirrors)
