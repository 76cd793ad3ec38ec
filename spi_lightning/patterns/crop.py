"""Cutting a part out of frames around the beam, and binning: the arithmetic of pixels, masks and centres."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from spi_lightning.errors import SpiError
from spi_lightning.patterns.settings import CropSettings

Edge = Literal["top", "bottom", "left", "right"]

ONE_SIDED = 0.1  # good pixels across the beam, as a share of those on this side, below which a plane counts as half
ALIKE = 0.05  # difference of good shares within which two edges are as good as each other


@dataclass(frozen=True)
class Window:
    """A rectangle of a detector's pixels. It may reach out of the detector.

    Attributes:
        top, left: its first row and column; negative above and left of the detector.
        rows, columns: its size.
    """

    top: int
    left: int
    rows: int
    columns: int

    def outside(self, shape: tuple[int, int]) -> int:
        """How many of its pixels lie out of a detector of ``shape``."""
        inside, _ = self._overlap(shape)
        return self.rows * self.columns - (inside[0].stop - inside[0].start) * (inside[1].stop - inside[1].start)

    def cut(self, frames: np.ndarray) -> np.ndarray:
        """Cut the window out of ``(..., rows, columns)``; what lies outside of the detector is 0 (False).

        A view where nothing lies outside.
        """
        inside, place = self._overlap(frames.shape[-2:])
        if self.outside(frames.shape[-2:]) == 0:
            return frames[..., inside[0], inside[1]]
        result = np.zeros((*frames.shape[:-2], self.rows, self.columns), frames.dtype)
        result[..., place[0], place[1]] = frames[..., inside[0], inside[1]]
        return result

    def _overlap(self, shape: tuple[int, ...]) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """The part of the detector inside the window, and where in the window it belongs."""
        spans = []
        for start, size, length in ((self.top, self.rows, shape[-2]), (self.left, self.columns, shape[-1])):
            first = min(max(start, 0), length)
            last = max(min(start + size, length), first)
            spans.append((slice(first, last), slice(first - start, last - start)))
        return (spans[0][0], spans[1][0]), (spans[0][1], spans[1][1])


def full_window(shape: tuple[int, int], centre: tuple[float, float]) -> Window:
    """Window of ``shape`` (rows, columns) with the beam at ``centre`` (x, y) in its middle, to half a pixel."""
    rows, columns = shape
    return Window(_nearest(centre[1] - (rows - 1) / 2), _nearest(centre[0] - (columns - 1) / 2), rows, columns)


def half_window(shape: tuple[int, int], centre: tuple[float, float], edge: Edge) -> Window:
    """Window of ``shape`` (rows, columns) with the beam on the outermost pixel at the middle of ``edge``."""
    rows, columns = shape
    middle = full_window(shape, centre)
    if edge in ("top", "bottom"):
        row = _nearest(centre[1])
        return Window(row if edge == "top" else row - rows + 1, middle.left, rows, columns)
    column = _nearest(centre[0])
    return Window(middle.top, column if edge == "left" else column - columns + 1, rows, columns)


def measured_edge(mask: np.ndarray, centre: tuple[float, float]) -> Edge | None:
    """Edge of the measured half plane on which the beam lies, or None for a full plane.

    Args:
        mask: bool ``(rows, columns)``, True = good.
        centre: (x, y) in pixels.

    Returns:
        "top" where nearly all good pixels lie below the beam, and so on.
    """
    rows, columns = np.nonzero(mask)
    above, below = int((rows < centre[1]).sum()), int((rows > centre[1]).sum())
    before, behind = int((columns < centre[0]).sum()), int((columns > centre[0]).sum())
    across: dict[Edge, float] = {
        "top": above / max(below, 1),
        "bottom": below / max(above, 1),
        "left": before / max(behind, 1),
        "right": behind / max(before, 1),
    }
    edge = min(across, key=lambda name: across[name])
    return edge if across[edge] < ONE_SIDED else None


def choose_window(mask: np.ndarray, centre: tuple[float, float], crop: CropSettings) -> tuple[Window, list[str]]:
    """Where to cut.

    For a half plane the beam is put on that long edge of the crop for which more good pixels fall into the crop, and
    the crop is turned, rows for columns, where the measured half plane lies that way; on a detector that measures the
    full plane, where all are alike, it is not turned and the beam is on the left or top edge.

    Args:
        mask: bool ``(rows, columns)`` of the stored frames, True = good.
        centre: (x, y) in pixels of the stored frames.
        crop: settings, whose ``shape`` is given.

    Returns:
        The window, and notes for the user.

    Raises:
        SpiError: the crop would hold no good pixel.
    """
    assert crop.shape is not None
    shape, notes = crop.shape, []
    measured = measured_edge(mask, centre) if crop.plane != "full" else None
    if crop.plane == "half" or measured is not None:
        if measured is not None and measured not in _long_edges(shape):
            shape = (shape[1], shape[0])
            notes.append(
                f"The measured half plane lies the other way: the crop is {list(shape)}, not {list(crop.shape)}."
            )
        window, edge = _best(mask, centre, shape)
        notes.append(f"The crop is a half plane with the beam at the middle of its {edge} edge.")
    else:
        window = full_window(shape, centre)
    if not window.cut(mask).any():
        raise SpiError(
            f"A crop of {list(shape)} around the centre (x={centre[0]:.1f}, y={centre[1]:.1f}) holds no good pixel of "
            f"a detector of {mask.shape[0]} x {mask.shape[1]} pixels. Check instrument.centre, which is (x, y) in "
            "stored pixels, and the mask; or choose data.prepare.centre.mode=find or a larger data.prepare.crop.shape."
        )
    if outside := window.outside((mask.shape[0], mask.shape[1])):
        notes.append(
            f"The crop reaches out of the detector: {outside} of its {shape[0] * shape[1]} pixels are padding, "
            "which is masked."
        )
    return window, notes


def _long_edges(shape: tuple[int, int]) -> list[Edge]:
    edges: list[Edge] = []
    if shape[0] >= shape[1]:
        edges += ["left", "right"]
    if shape[0] <= shape[1]:
        edges += ["top", "bottom"]
    return edges


def _best(mask: np.ndarray, centre: tuple[float, float], shape: tuple[int, int]) -> tuple[Window, Edge]:
    """Of the half planes with the beam on a long edge, the one with the most good pixels."""
    edges = _long_edges(shape)
    shares = {edge: float(half_window(shape, centre, edge).cut(mask).mean()) for edge in edges}
    # On a full plane the edges are alike but for details of the mask, which must not decide: take the first.
    edge = next(edge for edge in edges if shares[edge] >= max(shares.values()) - ALIKE)
    return half_window(shape, centre, edge), edge


def bin_sum(counts: np.ndarray, factor: int) -> np.ndarray:
    """Sum blocks of ``factor`` by ``factor`` pixels of ``(..., rows, columns)``; what is left over is cut off.

    Returns:
        uint64 ``(..., rows // factor, columns // factor)``; ``counts`` itself where ``factor`` is 1.
    """
    if factor == 1:
        return counts
    rows, columns = (side // factor * factor for side in counts.shape[-2:])
    # Half the bytes where that cannot overflow; rows first, which lie side by side.
    wide = np.uint32 if counts.dtype.itemsize <= 2 and factor <= 256 else np.uint64
    lines = np.zeros((*counts.shape[:-2], rows // factor, columns), wide)
    for i in range(factor):
        lines += counts[..., i:rows:factor, :columns]
    total = np.zeros((*lines.shape[:-1], columns // factor), np.uint64)
    for j in range(factor):
        total += lines[..., j::factor]
    return total


def bin_mask(mask: np.ndarray, factor: int, min_good_fraction: float = 1.0) -> np.ndarray:
    """Good binned pixels: those of which at least ``min_good_fraction`` of the pixels are good. bool, True = good."""
    if factor == 1:
        return mask
    return bin_sum(mask, factor) >= max(min_good_fraction * factor**2 - 1e-9, 1)


def moved_centre(centre: tuple[float, float], window: Window, factor: int) -> tuple[float, float]:
    """The beam's (x, y) after cutting ``window`` and binning: integers are the middles of the new, larger pixels."""
    x, y = centre[0] - window.left, centre[1] - window.top
    return (x - (factor - 1) / 2) / factor, (y - (factor - 1) / 2) / factor


def _nearest(value: float) -> int:
    """Nearest integer, halves up: unlike round(), the same for every parity."""
    return int(np.floor(value + 0.5))
