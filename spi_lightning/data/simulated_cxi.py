"""A finished simulated run as files: CXI with labels and truth, and Dragonfly's formats on request."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import spi_lightning
from spi_lightning.data.simulated_run import Gathered, Recipe
from spi_lightning.instrument import Geometry
from spi_lightning.patterns import open_run
from spi_lightning.patterns.export_cxi import Compression, smallest_unsigned, write_cxi
from spi_lightning.patterns.export_dragonfly import write_detector, write_emc
from spi_lightning.simulation.detector import detector_flags
from spi_lightning.simulation.expert import expert_labels


def write_simulated(
    gathered: Gathered,
    recipe: Recipe,
    folder: Path,
    advance: Callable[[int], None],
    compression: Compression = "gzip",
    dragonfly: bool = False,
) -> dict[str, Any]:
    """Write ``patterns.cxi``, and ``photons.emc`` with ``detector.h5`` if ``dragonfly`` asks for them.

    Beside the frames, ``entry_1/image_1`` holds ``labels`` (the expert's) and ``truth/`` with the arrays that
    :meth:`~spi_lightning.simulation.experiment.Experiment.simulate` lists, and ``kind``, the ingredient's name.

    Returns:
        What a user wants to know at once: how many patterns and labels; mean and standard deviation per pixel of the
        whole frame, masked ones counted as zero (as the paper's 0.342 and 2.336 are).

    Raises:
        SpiError: a file cannot be written; fewer patterns than asked for could be labelled.
    """
    settings, instrument = recipe.settings, recipe.instrument
    labels = expert_labels(gathered.scores, settings.expert.labelled)
    truth = dict(gathered.truth)
    names = np.array(list(settings.composition), dtype=np.str_)
    truth["kind"] = names[truth.pop("ingredient")]
    flags, _ = detector_flags(settings.detector, instrument.centre, settings.seed)
    geometry = Geometry(
        instrument.photon_energy, instrument.distance, instrument.pixel_size, instrument.centre, instrument.polarisation
    )
    raw = settings.detector.adu_per_photon is not None
    # Two bytes at least: spi-em-class sums pixels in the type that it finds.
    dtype = np.dtype(np.float32) if raw else np.promote_types(smallest_unsigned(int(gathered.largest)), np.uint16)
    total, squares = 0.0, 0.0
    good = flags == 0

    def frames() -> Iterator[np.ndarray]:
        nonlocal total, squares
        for block in gathered.frames():
            values = block.reshape(len(block), -1).take(np.flatnonzero(good), axis=1)
            total += float(values.sum(dtype=np.float64))
            squares += float(np.einsum("ij,ij->", values, values, dtype=np.float64))
            yield block
            advance(len(block))

    path = folder / "patterns.cxi"
    write_cxi(
        path,
        frames(),
        len(labels),
        shape=instrument.shape,
        dtype=dtype,
        mask_flags=flags,
        geometry=geometry,
        ids=np.char.add(f"sim{settings.seed}:", np.arange(len(labels)).astype(np.str_)),
        labels=labels,
        extra={f"truth/{name}": values for name, values in truth.items()},
        process={
            "program": "spi-simulate",
            "version": spi_lightning.__version__,
            "command": f"simulate.seed={settings.seed} simulate.n_patterns={settings.n_patterns}",
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        },
        compression=compression,
    )
    if dragonfly:
        write_emc(folder / "photons.emc", gathered.frames(), len(labels), int(np.prod(instrument.shape)))
        write_detector(folder / "detector.h5", instrument, mask=good)
    pixels = len(labels) * int(np.prod(instrument.shape))
    mean = total / pixels
    return {
        "file": str(path),
        "fingerprint": open_run(path).fingerprint(),
        "patterns": len(labels),
        "single hits, in truth": int(truth["single"].sum()),
        "single hits, as labelled": int(labels.sum()),
        "mean per pixel": round(mean, 4),
        "standard deviation": round(float(np.sqrt(max(0.0, squares / pixels - mean**2))), 4),
    }
