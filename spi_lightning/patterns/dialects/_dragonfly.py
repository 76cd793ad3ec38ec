"""Dragonfly's detector file: where on the Ewald sphere each pixel of a photon list lies.

HDF5 with root datasets ``qx qy qz corr mask`` (1-D, one value a pixel) and scalars ``detd`` (pixels), ``ewald_rad``
(voxels); or text as Dragonfly's make_detector writes it: a first line ``"%d %.6f %.6f"`` of the number of pixels, detd
and ewald_rad, in older files of the number alone, then ``qx qy qz corr mask`` a line. Dragonfly reads qz of either
sign. Photon lists know pixels by their number only, so the image's shape has to come from here.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from spi_lightning.errors import SpiError
from spi_lightning.patterns.dialects import Candidate
from spi_lightning.patterns.hdf5 import check_file, describe, open_h5, resolve
from spi_lightning.patterns.storage import read_all

_DISTANCE_TOLERANCE = 0.01  # relative; text with six digits and float32 blur the curvature, from which it is found
_MAX_MASK_IN_USE = 1  # 0 good, 1 good but not used for orientation (a choice of Dragonfly's user), 2 bad


@dataclass(frozen=True, eq=False)
class Detector:
    """A full rectangle of pixels.

    Attributes:
        shape: (rows, columns); pixel number = row × columns + column.
        centre: where the beam meets it, (x, y) = (column, row) in pixels.
        distance: in pixels, by the pixels' q; None where they lie in a plane and do not say.
        stated: the same as ``detd``, or None where the file does not say.
        mask: ``(rows, columns)`` bool, True = good.
    """

    shape: tuple[int, int]
    centre: tuple[float, float]
    distance: float | None
    stated: float | None
    mask: np.ndarray


def detector_for(candidate: Candidate, num_pix: int) -> Detector:
    """The detector of a file of photon lists.

    Raises:
        SpiError: none was given, it cannot be read, or it has another number of pixels.
    """
    if candidate.detector is None:
        raise SpiError(
            f"{candidate.path} lists photons by pixel number ({num_pix} pixels) and does not say where the pixels are. "
            "Give Dragonfly's detector file too: data.detector=FILE."
        )
    status = candidate.detector.stat() if candidate.detector.exists() else None
    detector = _read(candidate.detector, (status.st_mtime_ns, status.st_size) if status else None)
    if detector.mask.size != num_pix:
        raise SpiError(
            f"{candidate.detector} describes {detector.mask.size} pixels, but the frames of {candidate.path} have "
            f"{num_pix}. Give the detector file that belongs to these photons: data.detector=FILE."
        )
    return detector


@functools.lru_cache(maxsize=4)  # one detector serves the many files of a run
def _read(path: Path, state: tuple[int, int] | None) -> Detector:
    check_file(path)
    table, stated = _read_hdf5(path) if h5py.is_hdf5(path) else _read_text(path)
    return _on_a_grid(path, table, stated)


def _read_hdf5(path: Path) -> tuple[list[np.ndarray], float | None]:
    with open_h5(path) as file:
        names = ("qx", "qy", "qz", "mask")
        found = [resolve(file, name) for name in names]
        datasets = [d for d in found if isinstance(d, h5py.Dataset) and d.dtype.kind in "iufb" and d.ndim == 1]
        if len(datasets) < len(names):
            raise SpiError(
                f"{path} is not Dragonfly's detector file: 1-D datasets {', '.join(names)} are expected. "
                f"{describe(file)}\nGive the right file: data.detector=FILE."
            )
        if len({d.shape for d in datasets}) > 1:
            raise SpiError(f"{path}: {names} have different lengths {[d.shape[0] for d in datasets]}. Make it again.")
        detd = resolve(file, "detd")
        known = isinstance(detd, h5py.Dataset) and detd.size == 1 and detd.dtype.kind in "iuf"
        stated = float(np.ravel(read_all(detd))[0]) if known else None
        return [np.asarray(read_all(d), dtype=np.float64) for d in datasets], stated


def _read_text(path: Path) -> tuple[list[np.ndarray], float | None]:
    try:
        with open(path, encoding="ascii") as file:
            first = file.readline().split()
            expected, stated = int(first[0]), float(first[1]) if len(first) > 1 else None
            table = np.loadtxt(file, ndmin=2)
    except (ValueError, IndexError) as error:  # UnicodeDecodeError is a ValueError
        raise SpiError(
            f"{path} is not Dragonfly's detector file: neither HDF5 nor its text form (number of pixels in the first "
            f"line, then 'qx qy qz corr mask' a line): {error}. Give the right file: data.detector=FILE."
        ) from error
    if table.shape != (expected, 5):
        raise SpiError(
            f"{path} announces {expected} pixels with 5 numbers each, but holds a table {table.shape}. It is "
            "incomplete or no detector file: data.detector=FILE."
        )
    return [table[:, 0], table[:, 1], table[:, 2], table[:, 4]], stated


def _on_a_grid(path: Path, table: list[np.ndarray], stated: float | None) -> Detector:
    """Undo qx = cx·R/fac, qz = R(detd/fac − 1) with fac² = cx² + cy² + detd², and find rows and columns."""
    qx, qy, qz, mask = table
    remedy = "Only detectors that are one full rectangle of pixels, row after row, can be shown as images."
    if qx.size < 4 or not all(np.isfinite(q).all() for q in (qx, qy, qz)):
        raise SpiError(f"{path}: fewer than 4 pixels, or q that are not finite. {remedy}")
    if qz.sum() > 0:
        qz = -qz
    # On the Ewald sphere q² = −2R·qz, so R need not be known. x/(qz + R) = cx/detd.
    curvature = float((qz**2).sum())
    radius = -float(((qx**2 + qy**2 + qz**2) * qz).sum()) / (2 * curvature) if curvature > 0 else np.inf
    sphere = np.isfinite(radius) and radius > 0 and bool((qz + radius > 0).all())
    x, y = (qx / (qz + radius), qy / (qz + radius)) if sphere else (qx, qy)
    steps = (x[1] - x[0], y[1] - y[0])
    fast, slow = (x, y) if abs(steps[0]) > abs(steps[1]) else (y, x)
    forward = np.sign(fast[1] - fast[0])
    turns = np.flatnonzero(np.sign(np.diff(fast)) != forward)
    columns = int(turns[0]) + 1 if turns.size else qx.size
    rows = qx.size // columns
    if columns < 2 or rows < 2 or rows * columns != qx.size:
        raise SpiError(f"{path}: {qx.size} pixels do not make rows of {columns}. {remedy}")
    fast, slow = fast.reshape(rows, columns), slow.reshape(rows, columns)
    across = (fast[:, -1] - fast[:, 0]).mean() / (columns - 1)
    down = (slow[-1] - slow[0]).mean() / (rows - 1)
    start = (fast[:, 0].mean(), slow[0].mean())
    column_misfit = np.abs(fast - start[0] - across * np.arange(columns)).max()
    row_misfit = np.abs(slow - start[1] - down * np.arange(rows)[:, None]).max()
    if not max(column_misfit, row_misfit) < 0.1 * abs(across) or abs(abs(down / across) - 1) > 0.01:
        raise SpiError(f"{path}: the pixels are not square or do not lie on one grid. {remedy}")
    return Detector(
        shape=(rows, columns),
        centre=(float(-start[0] / across), float(-start[1] / down)),
        distance=float(1 / abs(across)) if sphere else None,
        stated=stated if stated is not None and 0 < stated < np.inf else None,
        mask=mask.reshape(rows, columns) <= _MAX_MASK_IN_USE,
    )


def detector_note(candidate: Candidate, detector: Detector) -> tuple[str, ...]:
    """What the detector file says of the distance, which it knows in pixels only."""
    stated, found = detector.stated, detector.distance
    if stated is None and found is None:
        return ()
    notes = [
        f"{candidate.detector}: the detector stands {stated or found:.6g} pixels from the interaction region; "
        "instrument.distance has to be that times instrument.pixel_size."
    ]
    if stated is not None and found is not None and not abs(found / stated - 1) < _DISTANCE_TOLERANCE:
        notes.append(
            f"{candidate.detector}: its detd says {stated:.6g} pixels, but the q of its pixels lie on an Ewald sphere "
            f"seen from {found:.6g} pixels. Was it put together from two? Make it again, or set instrument.distance."
        )
    return tuple(notes)
