"""A run as photon counts: what :mod:`~spi_lightning.patterns.prepare` settled, applied when frames are read."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from spi_lightning.errors import SpiError
from spi_lightning.instrument import Geometry
from spi_lightning.patterns.background import subtract_level
from spi_lightning.patterns.crop import Window, bin_sum
from spi_lightning.patterns.frames import Frames, frames_at_once
from spi_lightning.patterns.photons import adu_to_photons
from spi_lightning.patterns.threads import side_by_side

_SLICE_BYTES = 1 << 20  # stored frames that a thread prepares at once: what the steps need stays in a core's cache


@dataclass(frozen=True, eq=False)
class Recipe:
    """The way from stored frames to photon counts; plain data.

    Attributes:
        mask: bool, shape of the stored frames, True = good. Bad pixels become 0.
        gain: ADU per photon; None where the frames hold photons.
        offset: ADU without a photon.
        threshold: part of a photon that counts as one.
        level: background to subtract, photons, shape of the stored frames; None for none.
        window: what is kept.
        binning: so many by so many pixels are summed.
        broken: indices of frames that are mostly not finite; they read as 0.
    """

    mask: np.ndarray
    window: Window
    gain: float | None = None
    offset: float = 0.0
    threshold: float = 0.7
    level: np.ndarray | None = None
    binning: int = 1
    broken: tuple[int, ...] = ()

    def apply(self, frames: np.ndarray, indices: np.ndarray, where: Callable[[int], str]) -> np.ndarray:
        """Photon counts of stored frames.

        Args:
            frames: ``(n, rows, columns)`` as stored.
            indices: of these frames in the run, ``(n,)``.
            where: what to call a frame, by its index in the run, in errors.

        Returns:
            Counts of an unsigned dtype, ``(n, rows, columns)`` of the result.

        Raises:
            SpiError: a good pixel is not finite; or photons are expected, but a value is negative or not whole.
        """
        frames, good = self.window.cut(frames), self.window.cut(self.mask)
        if self.broken:
            good = good & ~np.isin(indices, self.broken)[:, None, None]
        if frames.dtype.kind == "f" and (lost := ~np.isfinite(frames) & good).any():
            frame, value = _first(frames, lost)
            raise SpiError(
                f"{where(int(indices[frame]))} has {int(lost[frame].sum())} good pixels that are not finite ({value}), "
                "and is none of the frames that were looked at beforehand. Set data.prepare.sample_frames=null, which "
                "looks at all frames and masks such pixels."
            )
        if self.gain is None:
            counts = self._checked(frames, good, lambda i: where(int(indices[i])))
        else:
            counts = np.where(good, adu_to_photons(frames, self.gain, self.offset, self.threshold), np.uint32(0))
        if self.level is not None:
            counts = subtract_level(counts, self.window.cut(self.level))
        return bin_sum(counts, self.binning)

    @staticmethod
    def _checked(frames: np.ndarray, good: np.ndarray, where: Callable[[int], str]) -> np.ndarray:
        """Counts that are said to be photons, with bad pixels 0, of an unsigned dtype."""
        if frames.dtype.kind in "iu":
            values = frames * good.astype(frames.dtype)  # five times as fast as np.where
        else:
            values = np.where(good, frames, frames.dtype.type(0))
        if values.dtype.kind == "u":
            return values
        if values.dtype.kind == "f" and (fractional := values != np.rint(values)).any():
            frame, value = _first(values, fractional)
            raise SpiError(
                f"{where(frame)} has a pixel of {value:.6g}, which is no number of photons. If the frames are in "
                "detector units, choose data.prepare.photons.mode=histogram, or data.prepare.photons.mode=gain "
                "data.prepare.photons.gain=ADU_PER_PHOTON."
            )
        if (negative := values < 0).any():
            frame, value = _first(values, negative)
            raise SpiError(
                f"{where(frame)} has {value:.6g} in a good pixel; photon counts are not negative. If the frames are "
                "in detector units, choose data.prepare.photons.mode=histogram, or data.prepare.photons.mode=gain "
                "data.prepare.photons.gain=ADU_PER_PHOTON; if such values mark bad pixels, mask those with "
                "data.prepare.mask_file=FILE."
            )
        if values.size and values.max() > np.iinfo(np.uint32).max:
            frame, value = _first(values, values > np.iinfo(np.uint32).max)
            raise SpiError(
                f"{where(frame)} has a pixel of {value:.6g} photons, which cannot be. Mask that pixel with "
                "data.prepare.mask_file=FILE."
            )
        return values.astype(np.uint32)

    def parameters(self) -> dict[str, object]:
        """Everything but the arrays, as plain values."""
        arrays = {"mask", "level", "window"}
        plain: dict[str, object] = {
            f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in arrays
        }
        return plain | {"window": dataclasses.astuple(self.window)}


def _first(values: np.ndarray, wrong: np.ndarray) -> tuple[int, float]:
    """Frame and value of the first wrong pixel."""
    place = np.unravel_index(int(np.argmax(wrong)), values.shape)
    return int(place[0]), float(values[place])


@dataclass(eq=False)
class PreparedRun:
    """Frames of a run as photon counts, made when they are read. Has the interface of a run; can be pickled.

    Attributes:
        run: the stored frames.
        recipe: what is done to them.
        shape: rows and columns of a prepared frame.
        dtype: uint8, uint16 or uint32.
        geometry: of the prepared frames' pixels: centre and pixel size follow crop and binning.
        mask: bool ``(rows, columns)``, True = good; bad pixels hold 0.
        labels: int8 ``(n,)``: 1 single hit, 0 other, -1 unknown; or None.
        found: what was found by looking at the run, as plain numbers and words, for the record of provenance.
        notes: what to tell the user.
    """

    run: Frames
    recipe: Recipe
    shape: tuple[int, int]
    dtype: np.dtype
    geometry: Geometry
    mask: np.ndarray
    labels: np.ndarray | None
    found: dict[str, float | int | str]
    notes: list[str] = field(default_factory=list)

    @property
    def ids(self) -> np.ndarray:
        """Pattern ids, str ``(n,)``."""
        return self.run.ids

    @property
    def mask_bits(self) -> int | None:
        """Bits that the user calls bad in masks, or None."""
        return self.run.mask_bits

    @property
    def files(self) -> frozenset[Path]:
        """From which frames are read."""
        return self.run.files

    def where(self, index: int) -> str:
        """File, dataset, frame and id of a pattern, for messages."""
        return self.run.where(index)

    def __len__(self) -> int:
        return len(self.run)

    def read(self, indices: np.ndarray | Sequence[int]) -> np.ndarray:
        """Photon counts ``(n, rows, columns)`` of the patterns ``indices``, in any order, repeats allowed.

        Raises:
            SpiError: a frame cannot be read, or holds what is no photon count.
        """
        wanted = np.asarray(indices, dtype=np.int64)
        out = np.empty((len(wanted), *self.shape), self.dtype)
        order = np.argsort(wanted, kind="stable")  # file order over the whole request, not only within a block
        step = frames_at_once(self.run)
        for start in range(0, len(wanted), step):
            places = order[start : start + step]
            self._prepare(self.run.read(wanted[places]), wanted[places], out, places)
        return out

    def blocks(self, size: int = 512, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, np.ndarray]]:
        """Patterns in order: index of the first, and ``(at most size, rows, columns)``, fewer where they are large."""
        for first, frames in self.run.blocks(min(size, frames_at_once(self.run)), start, stop):
            out = np.empty((len(frames), *self.shape), self.dtype)
            self._prepare(frames, np.arange(first, first + len(frames)), out, np.arange(len(frames)))
            yield first, out

    def fingerprint(self) -> str:
        """SHA-256 (hex) over the run's own fingerprint, every parameter of the preparation, mask and background."""
        digest = hashlib.sha256(self.run.fingerprint().encode())
        digest.update(repr(sorted(self.recipe.parameters().items())).encode())
        digest.update(np.packbits(self.recipe.mask).tobytes() + np.packbits(self.mask).tobytes())
        if self.recipe.level is not None:
            digest.update(self.recipe.level.tobytes())
        digest.update(repr((self.shape, self.dtype.str)).encode())
        return digest.hexdigest()

    def _prepare(self, frames: np.ndarray, indices: np.ndarray, out: np.ndarray, places: np.ndarray) -> None:
        """Write what becomes of stored frames into ``out[places]``."""
        left = self.mask if self._masks_more() else None
        step = max(1, _SLICE_BYTES // max(frames[:1].nbytes, 1))

        def prepare(start: int) -> None:
            some = slice(start, start + step)
            out[places[some]] = self._counts(frames[some], indices[some], left)

        for _ in side_by_side(prepare, range(0, len(frames), step)):
            pass

    def _masks_more(self) -> bool:
        """Whether pixels are bad that the recipe leaves: binned ones of which too few are good."""
        if self.recipe.binning > 1:
            return not bool(self.mask.all())
        return bool((self.recipe.window.cut(self.recipe.mask) & ~self.mask).any())

    def _counts(self, frames: np.ndarray, indices: np.ndarray, left: np.ndarray | None) -> np.ndarray:
        counts = self.recipe.apply(frames, indices, self.where)
        if left is not None:
            counts = counts * left.astype(counts.dtype)
        most = 0 if np.can_cast(counts.dtype, self.dtype) else int(counts.max(initial=0))
        if most > np.iinfo(self.dtype).max:
            frame, _ = _first(counts, counts == most)
            raise SpiError(
                f"{self.where(int(indices[frame]))} has {most} photons in a pixel, more than {self.dtype} holds, which "
                "was chosen from the frames looked at. Set data.prepare.sample_frames=null to look at all frames."
            )
        return counts
