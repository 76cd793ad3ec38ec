"""Gamma, noise and blur: each pattern's values changed with a strength of its own."""

from __future__ import annotations

import torch
from torch.nn import functional

TINY = 1e-7
SMALLEST_NORMAL = 2.0**-126  # float32 with full precision


def gamma_curved(patterns: torch.Tensor, exponents: torch.Tensor, inverted: bool) -> torch.Tensor:
    """Raise values, brought to 0–1 by a pattern's lowest and highest, to a power; restore mean and standard deviation.

    As in batchgenerators' ``augment_gamma`` with ``retain_stats``.

    Args:
        patterns: ``(n, 1, rows, columns)`` float32.
        exponents: ``(n,)`` float32, on the same device.
        inverted: count from the highest value downwards.

    Returns:
        ``(n, 1, rows, columns)`` float32; a pattern of one value stays as it is.
    """
    mean = patterns.mean((2, 3), keepdim=True)
    values = patterns - mean
    if inverted:
        values.neg_()
    sd = _rms(values)
    low, high = values.amin((2, 3), keepdim=True), values.amax((2, 3), keepdim=True)
    values.sub_(low).div_((high - low).clamp_min(TINY)).clamp_min_(SMALLEST_NORMAL)
    # x ** g = 2 ** (g log2 x) is much faster than pow, as long as the logarithm meets no 0.
    values.log2_().mul_(exponents[:, None, None, None]).exp2_()
    values.sub_(values.mean((2, 3), keepdim=True))
    values.mul_(sd / _rms(values).clamp_min(TINY))
    return (values.neg_() if inverted else values).add_(mean)


def noisy(patterns: torch.Tensor, sd: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Add normal noise.

    Args:
        patterns: ``(n, 1, rows, columns)`` float32.
        sd: ``(n,)`` float32, standard deviations, on the same device.
        generator: of the same device.
    """
    noise = torch.randn(patterns.shape, generator=generator, device=patterns.device)
    return noise.mul_(sd[:, None, None, None]).add_(patterns)


def blurred(patterns: torch.Tensor, sigma: torch.Tensor, widest: float) -> torch.Tensor:
    """Smooth by Gaussians up to four sigma, the image continued by its reflection, as scipy's ``gaussian_filter`` does.

    Args:
        patterns: ``(n, 1, rows, columns)`` float32.
        sigma: ``(n,)`` float32, widths in pixels, on the same device.
        widest: the largest that ``sigma`` may be.

    Returns:
        ``(n, 1, rows, columns)`` float32.
    """
    radius = int(4 * widest + 0.5)
    steps = torch.arange(-radius, radius + 1, device=patterns.device)
    kernels = (-0.5 * (steps / sigma[:, None]).square()).exp() * (steps.abs() <= (4 * sigma[:, None] + 0.5).floor())
    kernels = kernels / kernels.sum(1, keepdim=True)
    n, _, height, width = patterns.shape
    image = patterns.view(1, n, height, width)
    image = image.index_select(2, _reflected(height, radius, patterns.device))
    image = image.index_select(3, _reflected(width, radius, patterns.device))
    image = functional.conv2d(image, kernels[:, None, :, None], groups=n)
    return functional.conv2d(image, kernels[:, None, None, :], groups=n).view(n, 1, height, width)


def _rms(centred: torch.Tensor) -> torch.Tensor:
    """``(n, 1, rows, columns)`` → ``(n, 1, 1, 1)``."""
    pixels = centred.shape[2] * centred.shape[3]
    return torch.linalg.vector_norm(centred, dim=(2, 3), keepdim=True) / pixels**0.5


def _reflected(length: int, border: int, device: torch.device) -> torch.Tensor:
    """Lines ``d c b a | a b c d | d c b a``, with so many on either side, as indices."""
    lines = torch.arange(-border, length + border, device=device) % (2 * length)
    return torch.where(lines < length, lines, 2 * length - 1 - lines)
