"""The instrument as CXI files describe it, in SI units, and the ways in which programs deviate from that."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spi_lightning.errors import SpiError
from spi_lightning.instrument import Geometry, Polarisation
from spi_lightning.patterns.dialects import Candidate
from spi_lightning.patterns.dialects._dense import text_rows
from spi_lightning.patterns.storage import read_all

EV_IN_JOULE = 1.602176634e-19  # exact (SI 2019)
POLARISATIONS: tuple[Polarisation, ...] = ("horizontal", "vertical", "none")

_LARGEST_DISTANCE = 100.0  # m: no instrument is longer, so a larger number was written in millimetres
_LARGEST_PIXEL = 0.01  # m: a larger number was written in millimetres or micrometres
_PHOTON_ENERGIES = (10.0, 1e6)  # eV
_SHOT_JITTER = 0.02  # relative: SASE pulses differ by about a percent from shot to shot, which blurs nothing here


def cxi_geometry(
    candidate: Candidate,
    notes: list[str],
    *,
    detectors: Sequence[str] = ("entry_1/instrument_1/detector_1",),
    sources: Sequence[str] = ("entry_1/instrument_1/source_1",),
    centres: Sequence[str] = (),
) -> Geometry:
    """Read distance, pixel size, photon energy, centre and polarisation; the first group or name that has one wins.

    Values that cannot be (zero, not finite, or not in SI units) are taken as unknown, with a note.

    Args:
        candidate: the file.
        notes: what a user should know is added here.
        detectors: groups that may hold ``distance``, ``x_pixel_size``, ``y_pixel_size``.
        sources: groups that may hold ``energy`` and ``polarisation``.
        centres: datasets that may hold ``image_center`` (x, y, z in pixels).

    Raises:
        SpiError: pixels are not square.
    """
    pixel = [first_number(candidate, [f"{d}/{axis}_pixel_size" for d in detectors], notes) for axis in "xy"]
    sizes = [plausible(candidate, "pixel size", value, _LARGEST_PIXEL, "m", notes) for value in pixel]
    if sizes[0] and sizes[1] and abs(sizes[0] / sizes[1] - 1) > 1e-3:
        raise SpiError(
            f"{candidate.path}: the pixels are {sizes[0]:g} m wide and {sizes[1]:g} m high ({pixel[0][0]}). Square "
            "pixels are needed: bin or resample the patterns, or correct the sizes in the file."
        )
    distance = first_number(candidate, [f"{d}/distance" for d in detectors], notes)
    return Geometry(
        photon_energy=photon_energy(candidate, [f"{s}/energy" for s in sources], notes),
        distance=plausible(candidate, "distance", distance, _LARGEST_DISTANCE, "m", notes),
        pixel_size=sizes[0] or sizes[1],
        centre=_centre(candidate, centres, notes),
        polarisation=_polarisation(candidate, [f"{s}/polarisation" for s in sources]),
    )


def first_number(
    candidate: Candidate, names: Sequence[str], notes: list[str], jitter: float = 1e-3
) -> tuple[str, float | None]:
    """The first of several datasets that gives one number, with its name.

    Where there is one value a frame, it is their median if all lie within ``jitter`` (relative) of it; elsewhere the
    value is unknown, with a note.
    """
    for name in names:
        values = _numbers(candidate, name)
        if values is None or values.size == 0:  # programs that fill frame by frame leave (0,) behind
            continue
        known = values[np.isfinite(values) & (values != 0)]
        if known.size == 0:
            notes.append(f"{candidate.path}: '{name}' is {values.flat[0]:g}, which was taken as unknown.")
            continue
        middle = float(np.median(known))
        if np.abs(known - middle).max() > jitter * abs(middle):
            notes.append(
                f"{candidate.path}: '{name}' varies between frames from {known.min():g} to {known.max():g} and was "
                "taken as unknown. Give the value that holds for the run in the instrument's config."
            )
            continue
        return name, middle
    return "", None


def plausible(
    candidate: Candidate, what: str, found: tuple[str, float | None], largest: float, unit: str, notes: list[str]
) -> float | None:
    """The number that was found, or None with a note where it cannot be in ``unit``."""
    name, value = found
    if value is None or 0 < value <= largest:
        return value
    notes.append(
        f"{candidate.path}: '{name}' is {value:g}, which cannot be a {what} in {unit} and was taken as unknown. Set "
        f"instrument.{what.replace(' ', '_')}=VALUE."
    )
    return None


def photon_energy(candidate: Candidate, names: Sequence[str], notes: list[str]) -> float | None:
    """Energy of a photon in eV. CXI wants joules; a number above 1 cannot be joules and is read as eV."""
    name, value = first_number(candidate, names, notes, _SHOT_JITTER)
    if value is None:
        return None
    energy = value if value > 1 else value / EV_IN_JOULE
    if not _PHOTON_ENERGIES[0] <= energy <= _PHOTON_ENERGIES[1]:
        notes.append(
            f"{candidate.path}: '{name}' is {value:g}, which is no X-ray photon's energy in J or eV and was taken as "
            "unknown. Set instrument.photon_energy=EV."
        )
        return None
    if value > 1:
        notes.append(f"{candidate.path}: '{name}' is {value:g}: not joules, as CXI wants, but read as eV.")
    return energy


def _centre(candidate: Candidate, names: Sequence[str], notes: list[str]) -> tuple[float, float] | None:
    for name in names:
        values = _numbers(candidate, name)
        if values is None or values.size == 0:
            continue
        if values.shape[-1] not in (2, 3) or values.ndim > 2:
            notes.append(f"{candidate.path}: '{name}' has the shape {values.shape}; (x, y, z) was expected. Not used.")
            continue
        points = values.reshape(-1, values.shape[-1])[:, :2]
        return common_centre(candidate, name, points, notes)
    return None


def common_centre(candidate: Candidate, name: str, points: np.ndarray, notes: list[str]) -> tuple[float, float] | None:
    """The one centre that ``points`` (``(n, 2)``, pixels) agree on within 0.5 px, else None with a note."""
    known = points[np.isfinite(points).all(axis=1) & (points != 0).any(axis=1)]
    if len(known) == 0:
        notes.append(f"{candidate.path}: '{name}' is {points[0].tolist()}, which was taken as unknown.")
        return None
    x, y = (float(v) for v in np.median(known, axis=0))
    if np.hypot(known[:, 0] - x, known[:, 1] - y).max() > 0.5:
        notes.append(
            f"{candidate.path}: '{name}' varies between frames by more than 0.5 px and was taken as unknown. Set "
            "instrument.centre=[X,Y]."
        )
        return None
    return x, y


def _polarisation(candidate: Candidate, names: Sequence[str]) -> Polarisation | None:
    for name in names:
        dataset = candidate.dataset_at(name)
        if dataset is None or dataset.shape != ():
            continue
        value = read_all(dataset)
        text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
        for polarisation in POLARISATIONS:
            if text == polarisation:
                return polarisation
    return None


def _numbers(candidate: Candidate, name: str) -> np.ndarray | None:
    dataset = candidate.dataset_at(name)
    if dataset is None or dataset.dtype.kind not in "iuf" or dataset.shape is None:
        return None
    return np.atleast_1d(np.asarray(read_all(dataset), dtype=np.float64))


def joined_ids(trains: np.ndarray, pulses: np.ndarray) -> np.ndarray:
    """``trainId:pulseId`` of each frame as bytes, ``(n,)``."""
    return np.array([f"{int(t)}:{int(p)}".encode() for t, p in zip(trains, pulses, strict=True)], dtype="S")


def strings(candidate: Candidate, name: str, n: int) -> np.ndarray | None:
    """A dataset of ``n`` strings as bytes, or None where there is no such thing."""
    dataset = candidate.dataset_at(name)
    if dataset is None or dataset.shape != (n,):
        return None
    return text_rows(dataset)
