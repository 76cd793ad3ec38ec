"""Writing any part of a run in the formats of other programs."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

import spi_lightning
from spi_lightning.errors import SpiError
from spi_lightning.patterns.export_cxi import Compression, write_cxi
from spi_lightning.patterns.export_dragonfly import write_detector, write_emc, write_photons_h5
from spi_lightning.patterns.prepared import Frames

BLOCK = 256  # patterns in memory at once


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
        indices: ``(n,)``, of the patterns, in the order in which to write them.
        path: the file; it appears once it is whole.
        program: what writes it; stored in ``process_1`` with the version, the date and the fingerprint of ``run``.
        command: how it was called.
        compression: see :func:`~spi_lightning.patterns.export_cxi.write_cxi`.

    Raises:
        SpiError: there are no patterns to write, or the file cannot be written.
    """
    chosen = _chosen(indices)
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
        indices: ``(n,)``, of the patterns.
        photons: ``.emc`` (binary) or ``.h5``; the file's ending decides.
        detector: detector file (HDF5) to go with them.

    Raises:
        SpiError: there are no patterns, the geometry is not complete, the values are no counts, or the ending is none
            of these.
    """
    writers = {".emc": write_emc, ".h5": write_photons_h5}
    ending = Path(photons).suffix
    if ending not in writers:
        raise SpiError(f"{photons}: photons are written as .emc or .h5; '{ending}' is neither.")
    chosen = _chosen(indices)
    instrument = run.geometry.on_detector(run.shape)
    write_detector(detector, instrument, mask=run.mask)
    writers[ending](photons, _blocks(run, chosen), len(chosen), int(np.prod(run.shape)))


def _chosen(indices: Sequence[int] | np.ndarray) -> np.ndarray:
    chosen = np.asarray(indices, dtype=np.int64)
    if len(chosen) == 0:
        raise SpiError("There is no pattern to write: the selection is empty.")
    return chosen


def _blocks(run: Frames, chosen: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(chosen), BLOCK):
        yield run.read(chosen[start : start + BLOCK])
