"""Power spectral density: the angular mean of a diffraction pattern."""

from __future__ import annotations

import torch


def radial_bins(shape: tuple[int, int], centre: tuple[float, float]) -> torch.Tensor:
    """Rounded distance of each pixel from the beam, ``(rows, columns)`` int64, pixels."""
    rows = torch.arange(shape[0], dtype=torch.float64) - centre[1]
    columns = torch.arange(shape[1], dtype=torch.float64) - centre[0]
    return torch.hypot(rows[:, None], columns[None, :]).round().to(torch.int64)


def angular_mean(patterns: torch.Tensor, bins: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean over the good pixels of every ring: the paper's PSD.

    Args:
        patterns: ``(..., rows, columns)``, photons, on any device.
        bins: ``(rows, columns)`` int64, ring of each pixel, as :func:`radial_bins` gives them.
        mask: ``(rows, columns)`` bool, True where the pixel is good.

    Returns:
        ``(..., rings)`` float64, photons a pixel; NaN for rings without a good pixel.
    """
    rings = int(bins.max()) + 1
    chosen = bins[mask].to(patterns.device)
    values = patterns[..., mask.to(patterns.device)].to(torch.float64)
    sums = values.new_zeros(*values.shape[:-1], rings).index_add_(-1, chosen, values)
    counts = values.new_zeros(rings).index_add_(0, chosen, torch.ones_like(chosen, dtype=torch.float64))
    return torch.where(counts > 0, sums / counts, torch.nan)
