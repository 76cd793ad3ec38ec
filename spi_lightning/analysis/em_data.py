"""Patterns as EM reads them: checked, block by block, on any device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from spi_lightning.analysis.em_images import EMPixels
from spi_lightning.analysis.em_settings import EMSettings
from spi_lightning.errors import SpiError

_CELLS_AT_ONCE = 1 << 23  # of a block of patterns, or of their posterior


@dataclass(frozen=True, eq=False)
class Data:
    """Patterns as EM reads them, block by block.

    Attributes:
        counts: ``(n, P)``.
        logarithm: they are read as log(1 + counts).
        totals: ``(n,)`` float64: sum of each pattern, as it is read.
        device: of what is read.
        dtype: likewise: float64 where the counts are, float32 otherwise.
    """

    counts: torch.Tensor
    logarithm: bool
    totals: torch.Tensor
    device: torch.device
    dtype: torch.dtype

    def blocks(self, width: int) -> Iterator[tuple[slice, torch.Tensor]]:
        """Places and values of patterns, so many at once that ``width`` numbers for each fit into memory."""
        for rows in blocks_of(len(self.counts), max(width, self.counts.shape[1])):
            values = self.counts[rows].to(self.device, self.dtype)
            yield rows, values.log1p() if self.logarithm else values


def read(counts: torch.Tensor, pixels: EMPixels, settings: EMSettings) -> Data:
    """Check patterns and sum them up.

    Raises:
        SpiError: as in :func:`classify`.
    """
    if counts.ndim != 2 or counts.shape[1] != len(pixels.index):
        raise ValueError(f"counts {tuple(counts.shape)}: expected (n, {len(pixels.index)}), one column a pixel.")
    if len(counts) < settings.classes:
        raise SpiError(
            f"There are {len(counts)} patterns for {settings.classes} classes; EM needs at least one for each. Select "
            "more patterns, or set fewer classes."
        )
    dtype = torch.float64 if counts.dtype == torch.float64 else torch.float32
    totals = torch.zeros(len(counts), dtype=torch.float64, device=pixels.x.device)
    data = Data(counts, settings.logarithm, totals, pixels.x.device, dtype)
    for rows, values in data.blocks(counts.shape[1]):
        totals[rows] = values.double().sum(1)
        if not (values >= 0).all() or not totals[rows].isfinite().all():  # NaN too
            raise SpiError(
                f"Among patterns {rows.start} to {rows.stop - 1} some pixels are negative or not finite; EM sorts "
                "numbers of photons. Convert the patterns to photons, and mask bad pixels."
            )
    if not totals.any():
        raise SpiError(
            f"None of {len(counts)} patterns has a photon in the {len(pixels.index)} pixels that EM looks at. Choose "
            "another range of distances from the beam, or other patterns."
        )
    return data


def blocks_of(n: int, width: int) -> Iterator[slice]:
    """Places of ``n`` patterns, so many at once that ``width`` numbers for each fit into memory."""
    size = max(1, _CELLS_AT_ONCE // width)
    return (slice(start, min(start + size, n)) for start in range(0, n, size))
