"""Settling how a run's frames become photon counts, by looking at some of them.

The steps, in this order: the mask file is applied; pixels that are not finite are masked; ADU become photons;
background is subtracted; the centre is settled; the crop is cut; pixels are binned. Gain, background, centre and the
largest count are found in a sample of frames, once, in bounded memory; frames are converted when they are read.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from spi_lightning.errors import SpiError
from spi_lightning.instrument import Geometry
from spi_lightning.patterns.background import find_level
from spi_lightning.patterns.centre import find_centre
from spi_lightning.patterns.crop import Window, bin_mask, bin_sum, choose_window, moved_centre
from spi_lightning.patterns.frames import Frames
from spi_lightning.patterns.labels import read_labels
from spi_lightning.patterns.masks import read_mask
from spi_lightning.patterns.photons import find_gain
from spi_lightning.patterns.prepared import PreparedRun, Recipe
from spi_lightning.patterns.settings import LabelSettings, PrepareSettings
from spi_lightning.patterns.survey import sampled, spread, survey

MOSTLY_BROKEN = 0.5  # share of frames that are mostly not finite from which on the data are not patterns
HEADROOM = 16  # how much brighter than those looked at other frames may be before the counts overflow


def prepare(run: Frames, settings: PrepareSettings | None = None, override: Geometry | None = None) -> PreparedRun:
    """Settle the way from stored frames to photon counts.

    Args:
        run: frames as stored.
        settings: what to do; the defaults take the frames for photon counts and keep the whole detector.
        override: what the config says of the instrument, for pixels as stored; wins over what the files say.

    Returns:
        The run as photon counts; its ``geometry`` is as complete as files and config make it.

    Raises:
        SpiError: settings and data do not go together; the message says what to change.
    """
    settings, override = settings or PrepareSettings(), override or Geometry()
    notes = list(run.notes)
    found: dict[str, float | int | str] = {}
    geometry = _settled_geometry(run, settings, override, notes)
    labels = _settled_labels(run, settings.labels, notes)
    indices = spread(len(run), settings.sample_frames)
    found["frames_looked_at"] = len(indices)

    mask = _with_mask_file(run, settings, notes)
    recipe = _counting(run, settings, mask, indices, notes, found)
    if settings.background.mode == "level":
        recipe = _with_background(run, settings, recipe, indices, notes, found)
    mean, largest = _mean_and_largest(run, recipe, indices)
    found["photons_per_frame"] = float(mean.sum())
    if settings.centre.mode == "find":
        geometry = _with_found_centre(run, settings, geometry, mean, recipe.mask, notes, found)

    crop = settings.crop
    window = recipe.window
    if crop.shape is not None:
        if geometry.centre is None:
            raise SpiError(
                f"{_name(run)}: a crop of {list(crop.shape)} needs the beam's centre, which neither the file nor the "
                "config says. Set instrument.centre=[x,y] in stored pixels, or data.prepare.centre.mode=find."
            )
        window, said = choose_window(recipe.mask, geometry.centre, crop)
        notes += said
    elif any(side % crop.binning for side in run.shape):
        rows, columns = (side % crop.binning for side in run.shape)
        notes.append(
            f"Binning by {crop.binning}: {rows} rows and {columns} columns at the far edges fill no bin and are "
            "cut off."
        )
    recipe = dataclasses.replace(recipe, window=window, binning=crop.binning)
    result_mask = bin_mask(window.cut(recipe.mask), crop.binning, crop.min_good_fraction)
    if not result_mask.any():
        raise SpiError(
            f"{_name(run)}: no good pixel is left after data.prepare.crop.shape={crop.shape} and "
            f"data.prepare.crop.binning={crop.binning}. Bin less, or lower data.prepare.crop.min_good_fraction."
        )
    brightest = int(bin_sum(window.cut(largest), crop.binning).max())
    found["largest_count_bound"] = brightest
    return PreparedRun(
        run=run,
        recipe=recipe,
        shape=(result_mask.shape[0], result_mask.shape[1]),
        dtype=_dtype_for(run, recipe, brightest, exact=len(indices) == len(run)),
        geometry=_moved(geometry, window, crop.binning),
        mask=result_mask,
        labels=labels,
        found=found,
        notes=notes,
    )


def _name(run: Frames) -> str:
    return run.where(0) if len(run) == 1 else f"{run.where(0)}, to {run.where(len(run) - 1)}"


@contextmanager
def _about(run: Frames) -> Iterator[None]:
    """Say in errors of the numerical steps, which know arrays only, of which patterns they speak."""
    try:
        yield
    except SpiError as error:
        raise SpiError(f"{_name(run)}: {error}") from error


# --- before any frame is read ------------------------------------------------------------------------------------


def _settled_geometry(run: Frames, settings: PrepareSettings, override: Geometry, notes: list[str]) -> Geometry:
    if settings.centre.mode == "given" and override.centre is None:
        raise SpiError(
            "data.prepare.centre.mode is 'given', but the config gives no centre. Set instrument.centre=[x,y] in "
            "stored pixels, or choose data.prepare.centre.mode=file or data.prepare.centre.mode=find."
        )
    for name in override.disagreements(run.geometry):
        ours, theirs = getattr(override, name), getattr(run.geometry, name)
        notes.append(f"The config's {name} {ours} is used; the file says {theirs}.")
    geometry = override.filled_from(run.geometry)
    if geometry.centre is not None and not all(math.isfinite(value) for value in geometry.centre):
        raise SpiError(f"The centre {geometry.centre} is no place on a detector. Set instrument.centre=[x,y].")
    return geometry


def _settled_labels(run: Frames, settings: LabelSettings, notes: list[str]) -> np.ndarray | None:
    if settings.path is None:
        return run.labels
    labels = read_labels(settings.path, run.ids, dataset=settings.dataset, kind=settings.kind)
    if run.labels is not None and (differ := int((labels != run.labels).sum())):
        notes.append(f"Labels are taken from {settings.path}; {differ} of those beside the frames differ.")
    return labels


def _with_mask_file(run: Frames, settings: PrepareSettings, notes: list[str]) -> np.ndarray:
    mask = run.mask
    if settings.mask_file is not None:
        given = read_mask(settings.mask_file, run.shape, settings.mask_kind, run.mask_bits)
        mask = mask & given
        notes.append(f"The mask {settings.mask_file} calls {given.mean():.1%} of the pixels good.")
        if given.mean() < 0.5 and settings.mask_kind == "auto":
            notes.append("That is less than half. If it marks good pixels with 1, set data.prepare.mask_kind=good.")
    if not mask.any():
        raise SpiError(f"{_name(run)}: no pixel is good. Check the file's mask and data.prepare.mask_file.")
    return mask


# --- what the frames say -----------------------------------------------------------------------------------------


def _counting(
    run: Frames,
    settings: PrepareSettings,
    mask: np.ndarray,
    indices: np.ndarray,
    notes: list[str],
    found: dict[str, float | int | str],
) -> Recipe:
    """Mask of finite pixels, and the way from ADU to photons."""
    photons = settings.photons
    broken: tuple[int, ...] = ()
    if run.dtype.kind == "f" or photons.mode == "histogram":
        look = survey(run, indices, mask)
        broken = tuple(look.broken)
        if len(broken) >= MOSTLY_BROKEN * len(indices):
            raise SpiError(
                f"{len(broken)} of the {len(indices)} frames looked at are mostly not finite, such as "
                f"{run.where(broken[0])}. Is that the dataset that holds the patterns? Name it with data.dataset=PATH, "
                "or write a file without those frames."
            )
        if broken:
            names = ", ".join(str(run.ids[i]) for i in broken[:3])
            notes.append(f"{len(broken)} frames are mostly not finite, such as {names}; they read as 0.")
        if look.non_finite.any():
            mask = mask & ~look.non_finite
            found["non_finite_pixels"] = int(look.non_finite.sum())
            notes.append(f"{int(look.non_finite.sum())} pixels that are not finite in some frame were masked.")
        if not mask.any():
            raise SpiError(f"{_name(run)}: no good pixel is finite in all of the {len(indices)} frames looked at.")
    gain, offset = photons.gain, photons.offset
    if photons.mode == "histogram":
        with _about(run):
            peaks = find_gain(look.pixels)
        gain, offset = peaks.gain, peaks.offset
        found |= {"gain": peaks.gain, "offset": peaks.offset, "noise": peaks.noise, "photon_peaks": peaks.peaks}
        notes.append(
            f"Found {peaks.gain:.3g} ADU per photon (a pixel without a photon: {peaks.offset:.3g} ADU, "
            f"noise {peaks.noise:.3g} ADU)."
        )
    whole = Window(0, 0, *run.shape)
    return Recipe(mask=mask, window=whole, gain=gain, offset=offset, threshold=photons.threshold, broken=broken)


def _with_background(
    run: Frames,
    settings: PrepareSettings,
    recipe: Recipe,
    indices: np.ndarray,
    notes: list[str],
    found: dict[str, float | int | str],
) -> Recipe:
    with _about(run):
        level = find_level(_counted(run, recipe, indices), settings.background.maximum, settings.background.min_share)
    found |= {"background_pixels": int((level > 0).sum()), "background_photons": int(level.sum())}
    notes.append(
        f"A background of {int(level.sum())} photons a frame in {int((level > 0).sum())} pixels is subtracted."
    )
    return dataclasses.replace(recipe, level=level) if level.any() else recipe


def _with_found_centre(
    run: Frames,
    settings: PrepareSettings,
    geometry: Geometry,
    mean: np.ndarray,
    mask: np.ndarray,
    notes: list[str],
    found: dict[str, float | int | str],
) -> Geometry:
    with _about(run):
        centre = find_centre(mean, mask, settings.centre.method)
    found |= {f"centre_{name}": value for name, value in dataclasses.asdict(centre).items()}
    if not math.isfinite(centre.uncertainty):  # no number that a record in JSON could hold
        del found["centre_uncertainty"]
    note = f"Found the centre at x={centre.x:.2f}, y={centre.y:.2f} ({centre.method}, score {centre.score:.2f})"
    if geometry.centre is not None:
        away = math.dist((centre.x, centre.y), geometry.centre)
        note += (
            f", {away:.2f} pixels from ({geometry.centre[0]:.2f}, {geometry.centre[1]:.2f}), which file or config say"
        )
    notes.append(note + ".")
    return dataclasses.replace(geometry, centre=(centre.x, centre.y))


def _counted(run: Frames, recipe: Recipe, indices: np.ndarray) -> Iterator[np.ndarray]:
    for some, frames in sampled(run, indices):
        yield recipe.apply(frames, some, run.where)


def _mean_and_largest(run: Frames, recipe: Recipe, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and largest photon count of each pixel over the sample; by the way, all of it is checked."""
    total = np.zeros(run.shape, np.float64)
    largest = np.zeros(run.shape, np.uint64)
    for counts in _counted(run, recipe, indices):
        total += counts.sum(axis=0, dtype=np.float64)
        np.maximum(largest, counts.max(axis=0), out=largest)
    return total / len(indices), largest


# --- the result --------------------------------------------------------------------------------------------------


def _dtype_for(run: Frames, recipe: Recipe, brightest: int, *, exact: bool) -> np.dtype:
    """Smallest unsigned dtype that holds all counts; with headroom where not all frames were looked at."""
    largest: float = brightest
    if not exact:
        largest = max(brightest * HEADROOM, 256)
        if run.dtype.kind in "ui":  # no count can be larger than what the stored dtype holds
            most = int(np.iinfo(run.dtype).max)
            if recipe.gain is not None:
                most = math.ceil(max(most - recipe.offset, 0) / recipe.gain) + 1
            largest = min(largest, most * recipe.binning**2)
    if largest > np.iinfo(np.uint32).max:
        if brightest > np.iinfo(np.uint32).max:
            raise SpiError(
                f"{_name(run)}: up to {brightest} photons in a pixel cannot be. Mask the pixels that say so."
            )
        largest = brightest
    return np.min_scalar_type(int(largest))


def _moved(geometry: Geometry, window: Window, binning: int) -> Geometry:
    return dataclasses.replace(
        geometry,
        centre=None if geometry.centre is None else moved_centre(geometry.centre, window, binning),
        pixel_size=None if geometry.pixel_size is None else geometry.pixel_size * binning,
    )
