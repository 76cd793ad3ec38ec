"""The labelled training patterns in memory, as compact integers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from spi_lightning.data.splits import Splits
from spi_lightning.errors import SpiError
from spi_lightning.patterns.export_cxi import smallest_unsigned
from spi_lightning.patterns.frames import Frames, frames_at_once

_AS_TORCH = {1: np.uint8, 2: np.int32, 4: np.int64}  # torch does little with uint16 and uint32
_SAME_BITS = {1: np.uint8, 2: np.int16, 4: np.int32}
_AS_COUNTS = {torch.int16: torch.int32, torch.int32: torch.int64}


@dataclass(frozen=True, eq=False)
class HeldCounts:
    """Counts on a device, with as many bytes a pixel as in the training set.

    Attributes:
        bits: ``(n, rows, columns)``: uint8, or int16 or int32 with the bits of uint16 or uint32.
    """

    bits: torch.Tensor

    def of(self, rows: torch.Tensor) -> torch.Tensor:
        """Counts ``(k, rows, columns)`` of the patterns ``rows``, as :meth:`TrainingSet.tensor` gives them.

        Args:
            rows: int64 ``(k,)`` on the same device.
        """
        bits = self.bits.index_select(0, rows)
        if bits.dtype == torch.uint8:
            return bits
        return bits.to(_AS_COUNTS[bits.dtype]) & ((1 << 8 * bits.itemsize) - 1)


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """Labelled patterns of all folds together.

    Attributes:
        counts: photons, uint8, uint16 or uint32 ``(n, rows, columns)``; masked pixels hold 0.
        labels: int64 ``(n,)``: 1 single hit, 0 other.
        mask: bool ``(rows, columns)``, True = good.
        indices: int64 ``(n,)``, ascending: where the patterns stand in the run.
    """

    counts: np.ndarray
    labels: np.ndarray
    mask: np.ndarray
    indices: np.ndarray

    def __len__(self) -> int:
        return len(self.counts)

    def rows(self, indices: np.ndarray) -> np.ndarray:
        """Rows of this set, int64 ``(k,)``, of patterns that are known by their indices in the run.

        Raises:
            KeyError: a pattern is not in this set.
        """
        rows = np.searchsorted(self.indices, indices)
        missing = np.take(self.indices, rows, mode="clip") != indices
        if missing.any():
            raise KeyError(f"Pattern {np.asarray(indices)[missing][0]} of the run is not in the training set.")
        return rows

    def tensor(self, rows: np.ndarray | slice) -> torch.Tensor:
        """Counts ``(k, rows, columns)`` of the patterns ``rows``: uint8, or int32 or int64 where they are larger."""
        counts = self.counts[rows]
        return torch.from_numpy(counts.astype(_AS_TORCH[counts.itemsize], copy=False))

    def on(self, device: str | torch.device) -> HeldCounts:
        """All counts, on a device; on the CPU they share the memory of this set.

        Raises:
            SpiError: they need more than the GPU has.
        """
        if torch.device(device).type == "cuda" and self.counts.nbytes > (free := torch.cuda.mem_get_info(device)[0]):
            raise SpiError(
                f"device: the training patterns take {self.counts.nbytes / 1e9:.1f} GB, but {device} has "
                f"{free / 1e9:.1f} GB free. Crop or bin them (data.prepare.crop), take fewer (split.others), or "
                "device=cpu."
            )
        return HeldCounts(torch.from_numpy(self.counts.view(_SAME_BITS[self.counts.itemsize])).to(device))

    def blocks(self, size: int = 256) -> Iterator[torch.Tensor]:
        """All counts, at most ``size`` patterns at a time, for :func:`~spi_lightning.data.normalisation.fitted`."""
        for start in range(0, len(self), size):
            yield self.tensor(slice(start, start + size))


def load_training_set(run: Frames, splits: Splits, advance: Callable[[int], None]) -> TrainingSet:
    """Read the training patterns of all folds.

    They are kept with as many bytes a pixel as the brightest needs, one for up to 255 photons and two for up to
    65,535: the paper's 20,000 patterns of 192 x 96 take 0.37 GB, or 0.74 GB, and 1.1 GB for a moment at a pattern that
    is the first to need two.

    Args:
        run: the patterns as photon counts, of an unsigned dtype.
        splits: made for this run.
        advance: told how many more patterns have been read.

    Raises:
        SpiError: a pattern cannot be read.
    """
    if run.dtype.kind != "u":
        raise ValueError(f"Expected photon counts of an unsigned dtype, not {run.dtype}: prepare the run first.")
    indices = splits.training
    counts = np.empty((len(indices), *run.shape), np.uint8)
    step = min(512, frames_at_once(run))
    for start in range(0, len(indices), step):
        block = run.read(indices[start : start + step])
        needed = smallest_unsigned(int(block.max()))
        if needed.itemsize > counts.itemsize:
            counts = counts.astype(needed)
        counts[start : start + len(block)] = block
        advance(len(block))
    return TrainingSet(counts, splits.labels[indices].astype(np.int64), run.mask, indices)
