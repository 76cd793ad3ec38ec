"""Writing any part of a run in the formats of other programs."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

import spi_lightning
from spi_lightning.errors import SpiError
from spi_lightning.patterns.export_cxi import Compression, replaced_when_done, write_cxi
from spi_lightning.patterns.export_dragonfly import write_detector, write_emc, write_photons_h5
from spi_lightning.patterns.frames import Frames, frames_at_once

BLOCK = 256  # patterns in memory at once, fewer where they are large


def export_cxi(
    run: Frames,
    indices: Sequence[int] | np.ndarray,
    path: str | Path,
    *,
    program: str,
    command: str,
    compression: Compression = "gzip",
) -> None:
    """Write some patterns of a run as CXI, with ids, labels, mask, geometry, and where they come from.

    Args:
        run: prepared or as stored.
        indices: ``(n,)`` integers, of the patterns, each once, in the order in which to write them; or ``(len(run),)``
            bool, True for those to write.
        path: the file; it appears once it is whole.
        program: what writes it; stored in ``process_1`` with the version, the date and the fingerprint of ``run``.
        command: how it was called.
        compression: see :func:`~spi_lightning.patterns.export_cxi.write_cxi`.

    Raises:
        SpiError: the indices are none of these patterns, or there are none; the file is one of the run's own, or cannot
            be written.
    """
    chosen = _chosen(run, indices)
    _refuse_own_files(run, path)
    write_cxi(
        path,
        _blocks(run, chosen),
        len(chosen),
        shape=run.shape,
        dtype=run.dtype,
        mask=run.mask,
        geometry=run.geometry,
        ids=run.ids[chosen],
        labels=None if run.labels is None else run.labels[chosen],
        process={
            "program": program,
            "version": spi_lightning.__version__,
            "command": command,
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "source": f"{len(chosen)} of the {len(run)} patterns with fingerprint {run.fingerprint()}",
        },
        compression=compression,
    )


def export_dragonfly(
    run: Frames, indices: Sequence[int] | np.ndarray, photons: str | Path, detector: str | Path
) -> None:
    """Write some patterns of a run for Dragonfly.

    Args:
        run: photon counts whose geometry is known.
        indices: as in :func:`export_cxi`.
        photons: ``.emc`` (binary) or ``.h5``; the file's ending decides.
        detector: detector file (HDF5) to go with them.

    Raises:
        SpiError: as in :func:`export_cxi`; or the geometry is not complete, the values are no counts, the ending is
            none of these, or both files are one. What was there before is then still there.
    """
    writers = {".emc": write_emc, ".h5": write_photons_h5}
    ending = Path(photons).suffix
    if ending not in writers:
        raise SpiError(f"{photons}: photons are written as .emc or .h5; '{ending}' is neither.")
    if os.path.realpath(photons) == os.path.realpath(detector):
        raise SpiError(f"{photons}: photons and detector need a file each. Give the detector another name.")
    chosen = _chosen(run, indices)
    _refuse_own_files(run, photons, detector)
    instrument = run.geometry.on_detector(run.shape)
    with replaced_when_done(detector) as partial:  # which appears only where the photons do
        write_detector(partial, instrument, mask=run.mask)
        writers[ending](photons, _blocks(run, chosen), len(chosen), int(np.prod(run.shape)))


def _chosen(run: Frames, indices: Sequence[int] | np.ndarray) -> np.ndarray:
    """Checked indices, ``(n,)`` int64."""
    chosen = np.asarray(indices)
    if chosen.dtype.kind == "b" and chosen.shape == (len(run),):
        chosen = np.flatnonzero(chosen)
    if chosen.size == 0:
        raise SpiError("There is no pattern to write: the selection is empty.")
    if chosen.ndim != 1 or chosen.dtype.kind not in "iu":
        raise SpiError(
            f"Patterns are chosen by a list of whole numbers from 0 on, or by {len(run)} times true or false; got "
            f"{chosen.dtype} of shape {chosen.shape}."
        )
    outside = chosen[(chosen < 0) | (chosen >= len(run))]
    values, counts = np.unique(chosen, return_counts=True)
    for wrong, what in (
        (outside, f"there is no such pattern: they go from 0 to {len(run) - 1}"),
        (values[counts > 1], "chosen more than once, but ids must be unique in a file"),
    ):
        if wrong.size:
            some = ", ".join(map(str, wrong[:3].tolist()))
            raise SpiError(f"{wrong.size} of the {chosen.size} indices cannot be written, such as {some}: {what}.")
    return chosen.astype(np.int64)


def _refuse_own_files(run: Frames, *targets: str | Path) -> None:
    own = {os.path.realpath(file) for file in run.files}
    for target in targets:
        if os.path.realpath(target) in own:
            raise SpiError(f"{target} is one of the files that the patterns are read from. Give another name.")


def _blocks(run: Frames, chosen: np.ndarray) -> Iterator[np.ndarray]:
    step = min(BLOCK, frames_at_once(run))
    for start in range(0, len(chosen), step):
        yield run.read(chosen[start : start + step])
