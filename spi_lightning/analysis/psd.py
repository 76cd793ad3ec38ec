"""Power spectral density: the angular mean of a diffraction pattern."""

from __future__ import annotations

import torch

from spi_lightning.errors import require

_EXACT = 1 << 24  # integers below it are exact in float32
_PIXELS_AT_ONCE = {"cpu": 1 << 19}  # pixels of patterns worked on together: what stays in a core's cache
_PIXELS_AT_ONCE_ELSEWHERE = 1 << 26


def radial_bins(shape: tuple[int, int], centre: tuple[float, float]) -> torch.Tensor:
    """Rounded distance of each pixel from the beam, ``(rows, columns)`` int64, pixels."""
    rows = torch.arange(shape[0], dtype=torch.float64) - centre[1]
    columns = torch.arange(shape[1], dtype=torch.float64) - centre[0]
    return torch.hypot(rows[:, None], columns[None, :]).round().to(torch.int64)


def q_bins(q: torch.Tensor, width: float) -> torch.Tensor:
    """Momentum transfer of each pixel in multiples of ``width``, rounded: rings of equal width in q, not in pixels.

    The middle of ring k is at q = k·width. With the q of one pixel as the width they are :func:`radial_bins` next to
    the beam, and fall behind them where the Ewald sphere curves away.

    Args:
        q: ``(rows, columns)`` floating point, nm⁻¹, as :func:`~spi_lightning.reciprocal.q_magnitude` gives it.
        width: of a ring, nm⁻¹.

    Returns:
        ``(rows, columns)`` int64.

    Raises:
        SpiError: the width is not positive.
    """
    require(width > 0, "The width of a ring in q", width, "positive (nm⁻¹)")
    return (q / width).round().to(torch.int64)


def ring_counts(bins: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Good pixels of each ring, ``(rings,)`` int64.

    Args:
        bins: ``(rows, columns)`` int64, ring of each pixel.
        mask: ``(rows, columns)`` bool, True where the pixel is good; on the device of ``bins``.
    """
    return torch.bincount(bins[mask], minlength=int(bins.max()) + 1)


def angular_mean(patterns: torch.Tensor, bins: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean over the good pixels of every ring: the paper's PSD.

    Good pixels are sorted by ring and each ring's are summed for some patterns at once, so memory beyond input and
    output is some megabytes. Sums are exact for integers: in float32 (faster) for unsigned ones as long as they stay
    below 2²⁴, else in float64.

    Args:
        patterns: ``(..., rows, columns)``, photons, of any real dtype, on any device.
        bins: ``(rows, columns)`` int64, ring of each pixel, as :func:`radial_bins` or :func:`q_bins` give them.
        mask: ``(rows, columns)`` bool, True where the pixel is good; on the device of ``bins``.

    Returns:
        ``(..., rings)`` float64, photons a pixel; NaN for rings without a good pixel.
    """
    device = patterns.device
    counts = ring_counts(bins, mask)
    good = mask.flatten().nonzero()[:, 0]
    pixels = good[bins.flatten()[good].argsort(stable=True)].to(device)
    first = (counts.cumsum(0) - counts).to(device)
    flat = patterns.reshape(-1, bins.numel())
    at_once = max(1, _PIXELS_AT_ONCE.get(device.type, _PIXELS_AT_ONCE_ELSEWHERE) // bins.numel())
    means = torch.empty(len(flat), len(counts), dtype=torch.float64, device=device)
    for start in range(0, len(flat), at_once):
        part = slice(start, start + at_once)
        means[part] = _ring_sums(flat[part], pixels, first)
    means = torch.where(counts.to(device) > 0, means / counts.to(device), torch.nan)
    return means.reshape(*patterns.shape[:-2], len(counts))


def _ring_sums(patterns: torch.Tensor, pixels: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
    """Sums ``(n, rings)`` of flat patterns over ``pixels``, sorted by ring, of which each ring's begin at ``first``."""
    embedding_bag = torch.nn.functional.embedding_bag
    if patterns.dtype in (torch.uint8, torch.uint16, torch.bool):
        sums = embedding_bag(pixels, patterns.T.to(torch.float32).contiguous(), first, mode="sum")
        # Partial sums of what is not negative only grow: a total below the bound has never been rounded.
        if bool((sums < _EXACT).all()):
            return sums.T.to(torch.float64)
    return embedding_bag(pixels, patterns.T.to(torch.float64).contiguous(), first, mode="sum").T
