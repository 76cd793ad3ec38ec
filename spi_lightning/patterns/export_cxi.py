"""Writing patterns as CXI 1.6 in the layout of the paper's own tools, which can read it and add their results to it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np

from spi_lightning.errors import SpiError, disk_trouble
from spi_lightning.instrument import Geometry
from spi_lightning.patterns.dialects._cxi import EV_IN_JOULE

Compression = Literal["gzip", "bitshuffle", "none"]

_IMAGE = "entry_1/image_1"
_OURS = (
    "data",
    "mask",
    "image_center",
    "data_space",
    "data_type",
    "labels",
    "ids",
    "process_1",
    "detector_1",
    "source_1",
)
_INVALID = 0x1  # CXI: pixel is invalid


def smallest_unsigned(maximum: int) -> np.dtype:
    """The smallest of uint8, uint16, uint32 (and uint64) that holds counts up to ``maximum``.

    spi-em-class bins patterns in the type in which they are stored: for files that it shall bin, or take the logarithm
    of, let ``maximum`` be that of a binned pixel plus one.
    """
    if maximum < 0:
        raise ValueError(f"Counts cannot have the maximum {maximum}.")
    return np.min_scalar_type(int(maximum))


@contextmanager
def replaced_when_done(path: str | Path) -> Iterator[Path]:
    """Lend a partial file beside ``path``, which takes its place when the block ends well and is removed otherwise.

    Raises:
        SpiError: the folder is missing or cannot be written to, which is found out before the block begins; or the
            disk is full or fails during the block.
    """
    path = Path(path)
    partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
    try:
        if not path.parent.is_dir():
            raise SpiError(f"{path} cannot be written: the folder {path.parent} does not exist. Make it first.")
        if path.is_dir():
            raise SpiError(f"{path} cannot be written: it is a folder. Give the name of a file.")
        partial.touch()
    except OSError as error:
        raise SpiError(
            f"{path} cannot be written ({error.strerror}). Choose a folder that you may write to."
        ) from error
    try:
        yield partial
        os.replace(partial, path)
    except (OSError, RuntimeError) as error:
        if (said := disk_trouble(error)) is None:
            raise
        raise SpiError(
            f"{path} could not be written ({said}). Nothing was left behind: free some space, or write to another "
            "disk, and start again."
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def write_cxi(
    path: str | Path,
    blocks: Iterable[np.ndarray],
    n_frames: int,
    *,
    shape: tuple[int, int],
    dtype: np.dtype | type,
    mask: np.ndarray | None = None,
    mask_flags: np.ndarray | None = None,
    geometry: Geometry | None = None,
    ids: Sequence[str] | np.ndarray | None = None,
    labels: np.ndarray | None = None,
    extra: Mapping[str, np.ndarray] | None = None,
    process: Mapping[str, str] | None = None,
    compression: Compression = "gzip",
    progress: Callable[[int], Any] | None = None,
) -> None:
    """Write patterns to ``entry_1/image_1``, which appears only once it is complete.

    No soft links are put into ``image_1``: spi-processing refuses groups that have any. ``ids`` and other texts have a
    fixed length, without which it could not join files.

    Args:
        path: the file; one that is there is replaced.
        blocks: frames in order, ``(k, rows, columns)`` each, of a dtype that ``dtype`` can hold without loss.
        n_frames: how many frames the blocks give together.
        shape: of one frame, (rows, columns).
        dtype: in which to store; :func:`smallest_unsigned` for counts.
        mask: ``(rows, columns)`` bool, True = good; bad pixels get the flag 0x1 (invalid). All good where None.
        mask_flags: ``(rows, columns)`` uint8, uint16 or uint32 CXI flags (0 = good), written instead of ``mask``.
        geometry: what is known; the rest is not written. The energy is stored in J, lengths in m, the centre as
            (x, y, 0) in pixels. The paper's programs need the centre.
        ids: one id a frame, by which they are known when the file is read again.
        labels: ``(n_frames,)``: 1 single hit, 0 other, -1 unknown.
        extra: further values a frame, ``(n_frames, ...)`` each, by name below ``image_1``; names may contain "/".
        process: ``command``, ``program``, ``version``, ``date`` (ISO 8601): where the file comes from.
        compression: gzip can be read anywhere; bitshuffle (LZ4) is three times as fast and needs hdf5plugin to read.
        progress: called with the number of frames after each block.

    Raises:
        SpiError: the file cannot be written, or the values do not fit into ``dtype``.
        ValueError: the arguments contradict each other.
    """
    dtype = np.dtype(dtype)
    flags = _flags(mask, mask_flags, shape)
    per_frame = _per_frame(n_frames, ids, labels, extra)
    with replaced_when_done(path) as partial, h5py.File(partial, "w") as file:
        _write_around(file, shape, flags, geometry or Geometry(), process or {})
        image = file[_IMAGE]
        for name, values in per_frame.items():
            image.create_dataset(name, data=values)
        data = image.create_dataset(
            "data", (n_frames, *shape), dtype, chunks=(1, *shape) if n_frames else None, **_filter(compression)
        )
        data.attrs["axes"] = "experiment_identifier:y:x"
        done = 0
        for block in blocks:
            if block.shape[1:] != shape or done + len(block) > n_frames:
                raise ValueError(f"Block {block.shape} at frame {done} does not fit into {data.shape}.")
            data[done : done + len(block)] = _fitting(block, dtype, path, done)
            done += len(block)
            if progress is not None:
                progress(done)
        if done != n_frames:
            raise ValueError(f"{n_frames} frames were announced, but {done} were given.")


def _write_around(
    file: h5py.File, shape: tuple[int, int], flags: np.ndarray, geometry: Geometry, process: Mapping[str, str]
) -> None:
    """Everything but what is stored for each frame."""
    file["cxi_version"] = 160
    image = file.create_group(_IMAGE)
    image["mask"] = flags
    image["data_space"] = _text("diffraction")
    image["data_type"] = _text("intensity")
    if geometry.centre is not None:
        image["image_center"] = np.array([*geometry.centre, 0.0])
    for name, text in process.items():
        image[f"process_1/{name}"] = _text(text)
    file["entry_1/data_1/data"] = h5py.SoftLink(f"/{_IMAGE}/data")
    values: dict[str, float | np.ndarray | None] = {
        "detector_1/distance": geometry.distance,
        "detector_1/x_pixel_size": geometry.pixel_size,
        "detector_1/y_pixel_size": geometry.pixel_size,
        "source_1/energy": None if geometry.photon_energy is None else geometry.photon_energy * EV_IN_JOULE,
        # Ours: CXI has no place for it.
        "source_1/polarisation": None if geometry.polarisation is None else _text(geometry.polarisation),
    }
    instrument = file.create_group("entry_1/instrument_1")
    for name, value in values.items():
        if value is not None:
            instrument[name] = value
            image[name] = instrument[name]  # hard links: what filters and joins image groups takes them along
    instrument["detector_1/data"] = h5py.SoftLink(f"/{_IMAGE}/data")
    instrument["detector_1/mask"] = h5py.SoftLink(f"/{_IMAGE}/mask")


def _flags(mask: np.ndarray | None, mask_flags: np.ndarray | None, shape: tuple[int, int]) -> np.ndarray:
    if mask_flags is not None:
        if mask_flags.shape != shape or mask_flags.dtype.kind != "u" or mask_flags.dtype.itemsize > 4:
            raise ValueError(f"mask_flags {mask_flags.shape} {mask_flags.dtype}: expected {shape}, uint8/16/32.")
        return mask_flags
    if mask is None:
        return np.zeros(shape, np.uint8)
    if mask.shape != shape or mask.dtype.kind != "b":
        raise ValueError(f"mask {mask.shape} {mask.dtype}: expected {shape} bool, True = good.")
    return np.where(mask, 0, _INVALID).astype(np.uint8)


def _per_frame(
    n_frames: int,
    ids: Sequence[str] | np.ndarray | None,
    labels: np.ndarray | None,
    extra: Mapping[str, np.ndarray] | None,
) -> dict[str, np.ndarray]:
    """Everything that is stored once a frame, checked, by name below ``image_1``."""
    found = {name: np.asarray(values) for name, values in (extra or {}).items()}
    for name in found:
        parts = name.split("/")
        if parts[0] in _OURS or any(part in ("", ".", "..") for part in parts):
            raise ValueError(f"'{name}' cannot be the name of an extra dataset: it is taken, or no relative path.")
    if ids is not None:
        found["ids"] = np.asarray(ids, dtype=np.str_)
    if labels is not None:
        found["labels"] = np.asarray(labels).astype(np.int8)
        if not np.isin(labels, (-1, 0, 1)).all():
            raise ValueError("Labels must be 1 (single hit), 0 (other) or -1 (unknown).")
    for name, values in found.items():
        if values.shape[:1] != (n_frames,):
            raise ValueError(f"'{name}' has the shape {values.shape}, but there are {n_frames} frames.")
        if values.dtype.kind == "U":
            encoded = np.char.encode(values, "utf-8") if values.size else values.astype("S1")
            found[name] = encoded.astype(h5py.string_dtype("utf-8", encoded.dtype.itemsize))
        elif values.dtype.kind not in "biufcS":
            raise ValueError(f"'{name}' has the dtype {values.dtype}, which no HDF5 file can hold.")
    return found


def _fitting(block: np.ndarray, dtype: np.dtype, path: str | Path, first: int) -> np.ndarray:
    """The block in ``dtype``, if that loses nothing."""
    if np.can_cast(block.dtype, dtype, "safe"):
        return block
    with np.errstate(invalid="ignore"):
        cast = block.astype(dtype)
    same = cast == block
    if block.dtype.kind == "f" and dtype.kind == "f":
        same = same | np.isnan(block) | np.isclose(cast, block)  # a shorter float may round
    if not same.all():
        frame, row, column = (int(i) for i in np.argwhere(~same)[0])
        raise SpiError(
            f"{path}: frame {first + frame} has {block[frame, row, column]} at (row {row}, column {column}), which "
            f"{dtype} cannot hold. Expected whole numbers in its range: store as a larger or a floating type."
            if dtype.kind in "iu"
            else f"{path}: frame {first + frame} has values that {dtype} cannot hold. Store as a larger type."
        )
    return cast


def _filter(compression: Compression) -> dict[str, Any]:
    if compression == "none":
        return {}
    if compression == "gzip":
        return {"compression": "gzip", "compression_opts": 4, "shuffle": True}
    if compression == "bitshuffle":
        import hdf5plugin  # takes 0.1 s, and gzip does not need it

        return dict(hdf5plugin.Bitshuffle(cname="lz4"))
    raise ValueError(f"Unknown compression '{compression}': gzip, bitshuffle or none.")


def _text(value: str) -> np.ndarray:
    """A string of fixed length, which every program can copy."""
    encoded = value.encode() or b" "
    return np.array(encoded, dtype=h5py.string_dtype("utf-8", len(encoded)))
