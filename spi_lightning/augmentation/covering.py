"""What a pattern does not show: masked pixels, borders that a shift brought in, cutouts."""

from __future__ import annotations

import torch
from torch.nn import functional

from spi_lightning.augmentation.resampling import pick


def hide(patterns: torch.Tensor, shown: torch.Tensor, zero: float) -> torch.Tensor:
    """Give every pixel that is not shown the value of no photons.

    A detector does not count in its masked pixels, whatever an augmentation does to the others.

    Args:
        patterns: ``(n, 1, rows, columns)`` float32.
        shown: bool that goes with that shape, True = shown.
        zero: normalised value of a pixel without photons.
    """
    return torch.where(shown, patterns, zero)


def moved_mask(mask: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """The detector's mask, mirrored and shifted as each pattern is; borders are bad.

    Args:
        mask: ``(rows, columns)`` bool, True = good.
        rows: ``(n, rows)`` int64, the line that each row shows; anything outside of the image is border.
        columns: ``(n, columns)`` int64.

    Returns:
        ``(n, 1, rows, columns)`` bool.
    """
    height, width = mask.shape
    framed = functional.pad(mask, (0, 1, 0, 1))  # one more row and column, False, for what is outside
    rows = torch.where((rows < 0) | (rows >= height), height, rows)
    columns = torch.where((columns < 0) | (columns >= width), width, columns)
    return pick(framed[None], torch.zeros_like(rows[:, 0]), rows, columns)[:, None]


def covered(rectangles: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """Where rectangles lie.

    Args:
        rectangles: ``(n, most, 4)`` int64: first row, row after the last, first column, column after the last.
        shape: rows and columns of a pattern.

    Returns:
        ``(n, 1, rows, columns)`` bool.
    """
    within = []
    for axis, length in enumerate(shape):
        lines = torch.arange(length, device=rectangles.device)
        first, last = rectangles[:, :, 2 * axis, None], rectangles[:, :, 2 * axis + 1, None]
        within.append(((lines >= first) & (lines < last)).to(torch.float32))
    return (within[0].transpose(1, 2) @ within[1] > 0)[:, None]
