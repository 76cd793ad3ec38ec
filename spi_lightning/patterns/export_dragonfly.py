"""Writing photons and detector for Dragonfly (EMC orientation): ``.emc`` or HDF5 lists, and the detector file.

Dragonfly numbers pixels; here pixel = row × columns + column, in lists and detector alike.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import h5py
import numpy as np

from spi_lightning.errors import SpiError
from spi_lightning.instrument import Instrument
from spi_lightning.patterns.export_cxi import replaced_when_done

_HEADER = 1024  # bytes
_INT = np.dtype("<i4")
_LARGEST = 2**31 - 1


def write_emc(path: str | Path, blocks: Iterable[np.ndarray], n_frames: int, num_pix: int) -> None:
    """Write a sparse binary photon file.

    Args:
        path: the file; appears only once it is complete.
        blocks: photon counts in order, ``(k, rows, columns)`` or ``(k, num_pix)``; whole numbers of any dtype.
        n_frames: how many frames the blocks give together.
        num_pix: pixels of a frame.

    Raises:
        SpiError: counts are not whole, negative or too large; the file cannot be written.
        ValueError: the blocks are not what was announced.
    """
    path = Path(path)
    lengths = np.zeros((2, n_frames), _INT)
    with (
        replaced_when_done(path) as partial,
        open(partial, "wb") as file,
        tempfile.TemporaryFile(dir=path.parent) as places,
        tempfile.TemporaryFile(dir=path.parent) as counts,
    ):
        file.seek(_HEADER + lengths.nbytes)
        for index, ones, multi, several in _lists(path, blocks, n_frames, num_pix):
            lengths[:, index] = len(ones), len(multi)
            file.write(ones.tobytes())
            places.write(multi.tobytes())
            counts.write(several.tobytes())
        for rest in (places, counts):
            rest.seek(0)
            shutil.copyfileobj(rest, file, 2**20)
        header = np.zeros(_HEADER // _INT.itemsize, _INT)
        header[:2] = n_frames, num_pix
        file.seek(0)
        file.write(header.tobytes())
        file.write(lengths.tobytes())


def write_photons_h5(path: str | Path, blocks: Iterable[np.ndarray], n_frames: int, num_pix: int) -> None:
    """Write Dragonfly's photon lists in HDF5. Arguments and errors as :func:`write_emc`."""
    path = Path(path)
    with replaced_when_done(path) as partial, h5py.File(partial, "w") as file:
        file.create_dataset("num_pix", data=np.array([num_pix], np.int32))
        names = ("place_ones", "place_multi", "count_multi")
        lists = [file.create_dataset(name, (n_frames,), h5py.vlen_dtype(np.int32)) for name in names]
        for index, *values in _lists(path, blocks, n_frames, num_pix):
            for dataset, value in zip(lists, values, strict=True):
                dataset[index] = value


def write_detector(path: str | Path, instrument: Instrument, mask: np.ndarray) -> None:
    """Write the detector file that belongs to the photons.

    With x, y a pixel's place from the beam in pixels, detd the distance in pixels, f² = x² + y² + detd² and R the
    radius of the Ewald sphere in voxels: qx = xR/f, qy = yR/f, qz = R(detd/f − 1); corr = detd/f³ · P, with the
    polarisation factor P = 1 − x²/f² (horizontal), 1 − y²/f² (vertical), 1 − (x² + y²)/2f² (none). R is detd, which
    makes a voxel as large as a pixel next to the beam. All are float64: Dragonfly's C code reads float32 wrongly.

    Args:
        path: the file (HDF5); appears only once it is complete.
        instrument: geometry; its shape is that of the photons.
        mask: ``(rows, columns)`` bool, True = good. Written as 0 good, 2 bad.

    Raises:
        SpiError: the file cannot be written.
        ValueError: the mask does not fit.
    """
    path = Path(path)
    if mask.shape != instrument.shape or mask.dtype.kind != "b":
        raise ValueError(f"A mask {mask.shape} {mask.dtype}: expected {instrument.shape} bool.")
    detd = instrument.distance / instrument.pixel_size
    rows, columns = (np.arange(length, dtype=np.float64) for length in instrument.shape)
    x, y = np.broadcast_arrays(columns - instrument.centre[0], rows[:, None] - instrument.centre[1])
    f = np.sqrt(x**2 + y**2 + detd**2)
    across = {"horizontal": x**2, "vertical": y**2, "none": (x**2 + y**2) / 2}[instrument.polarisation]
    values = {
        "qx": x * detd / f,
        "qy": y * detd / f,
        "qz": -detd * (x**2 + y**2) / (f * (f + detd)),  # = R(detd/f − 1) without a difference of near equals
        "corr": detd / f**3 * (1 - across / f**2),
    }
    with replaced_when_done(path) as partial, h5py.File(partial, "w") as file:
        for name, value in values.items():
            file.create_dataset(name, data=value.ravel())
        file.create_dataset("mask", data=np.where(mask, 0, 2).ravel().astype(np.uint8))
        file["detd"] = detd
        file["ewald_rad"] = detd


def _lists(
    path: Path, blocks: Iterable[np.ndarray], n_frames: int, num_pix: int
) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
    """For each frame its index, and as int32: pixels with one photon, pixels with more, and how many those have."""
    done = 0
    for block in blocks:
        flat = block.reshape(len(block), -1)
        if flat.shape[1] != num_pix or done + len(flat) > n_frames:
            raise ValueError(
                f"Block {block.shape} at frame {done}: expected {num_pix} pixels, {n_frames} frames in all."
            )
        for frame in flat:
            _check_photons(frame, f"{path}: frame {done}")
            lit = np.flatnonzero(frame)
            counts = frame[lit].astype(_INT)
            several = counts > 1
            yield done, lit[~several].astype(_INT), lit[several].astype(_INT), counts[several]
            done += 1
    if done != n_frames:
        raise ValueError(f"{n_frames} frames were announced, but {done} were given.")


def _check_photons(frame: np.ndarray, where: str) -> None:
    if frame.dtype.kind in "bu" and frame.dtype.itemsize < 4:
        return
    wrong = (frame < 0) | (frame > _LARGEST)
    if frame.dtype.kind == "f":
        wrong |= ~np.isfinite(frame) | (frame != np.round(frame))
    elif frame.dtype.kind not in "biu":
        raise SpiError(f"{where} is {frame.dtype}; photon counts are needed.")
    if wrong.any():
        raise SpiError(
            f"{where} has {frame[wrong][0]} in a pixel; Dragonfly needs whole photon counts from 0 to {_LARGEST}. "
            "Convert the patterns to photons first: data.prepare.photons.mode=histogram or gain."
        )
