"""The scores of patterns: ``scores.h5`` of a run, and ``predictions.h5`` of a fold, which has one network.

======================  ===============  =====================================================================
``id``                  ``(n,)`` UTF-8   pattern ids, in the order of the run, or of the indices that were asked for
``probability``         ``(n,)`` f4      of a single hit, the mean over the networks
``models``              ``(n, m)`` f4    each network's, the mean over the mirrored views; behind a cascade, NaN of
                                         those not asked (and the first one's from one view, if it alone was)
``label``               ``(n,)`` i1      1 single hit, 0 other, -1 unknown; left out where nothing is known
attribute ``source``                     fingerprint of the ensemble (or whatever names a fold's network)
attribute ``data``                       fingerprint of the prepared run
attribute ``threshold``                  from which on a pattern is called a single hit; NaN where none is chosen yet
attribute ``mirrors``                    views, separated by commas
attribute ``cascade``                    bound below which a first look left patterns out; NaN where it left out none
attribute ``precision``                  float32; or bfloat16 or float16, of what was far from the threshold or left out
attribute ``program``                    version of spi-lightning that wrote it
======================  ===============  =====================================================================
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

import spi_lightning
from spi_lightning.errors import SpiError
from spi_lightning.inference.engine import DTYPES, Precision
from spi_lightning.inference.mirroring import MIRRORS, Mirror
from spi_lightning.patterns.export_cxi import replaced_when_done
from spi_lightning.patterns.hdf5 import damage_is_reported, open_h5, resolve
from spi_lightning.patterns.storage import read_all

FORMAT = "spi-lightning scores"
VERSION = 1
CHUNK = 4096  # patterns


@dataclass(frozen=True)
class Origin:
    """Where scores come from.

    Attributes:
        source: fingerprint of the ensemble; of a fold, whatever names its network.
        data: fingerprint of the prepared run.
        threshold: probability from which on a pattern is called a single hit; None where none is chosen yet.
        mirrors: views that were averaged.
        cascade: probability of a first look below which patterns were left out; None where all are scored in full.
        precision: of the scores; where it is not float32, that of what was far from the threshold, or left out.
    """

    source: str
    data: str
    threshold: float | None
    mirrors: tuple[Mirror, ...]
    cascade: float | None = None
    precision: Precision = "float32"


@dataclass(frozen=True, eq=False)
class Scores:
    """What a file of scores holds.

    Attributes:
        ids: ``(n,)`` str.
        probabilities: ``(n,)`` float32, mean over the networks.
        models: ``(n, m)`` float32; NaN of networks that a cascade has spared.
        labels: ``(n,)`` int8: 1 single hit, 0 other, -1 unknown; None where nothing is known.
        origin: where they come from.
        attributes: all that the file has.
    """

    ids: np.ndarray
    probabilities: np.ndarray
    models: np.ndarray
    labels: np.ndarray | None
    origin: Origin
    attributes: dict[str, Any]


class ScoreWriter:
    """Takes scores block by block, in any order.

    Attributes:
        probabilities: ``(n,)`` float32, mean over the networks, as far as written; NaN elsewhere.
        attributes: of the file, besides its own.
    """

    def __init__(self, models: h5py.Dataset, cascade: bool):
        self._models, self._cascade = models, cascade
        self.probabilities = np.full(len(models), np.nan, np.float32)
        self.attributes: dict[str, int | float | str] = {}

    def __call__(self, start: int, models: np.ndarray) -> None:
        """Write the scores ``(k, m)`` of the patterns from ``start`` on.

        Raises:
            ValueError: scores are not finite (behind a cascade, those of the last networks may be NaN), or are not
                those of so many networks and patterns.
        """
        stop = start + len(models)
        if models.shape[1:] != self._models.shape[1:] or not 0 <= start <= stop <= len(self._models):
            raise ValueError(f"Scores {models.shape} from {start} on do not fit into {self._models.shape}.")
        if not (np.isfinite(models).all(axis=1) | (_spared(models) & self._cascade)).all():
            raise ValueError(f"Scores of the patterns {start} to {stop - 1} are not finite.")
        self._models[start:stop] = models
        self.probabilities[start:stop] = np.nanmean(models, axis=1, dtype=np.float64)


@contextmanager
def score_file(
    path: str | Path, ids: np.ndarray, models: int, origin: Origin, labels: np.ndarray | None = None
) -> Iterator[ScoreWriter]:
    """Open a file of scores, which appears only once the block ends well.

    Args:
        path: the file; one that is there is replaced.
        ids: ``(n,)`` str, of all patterns.
        models: number of networks.
        origin: where the scores come from.
        labels: ``(n,)``: 1 single hit, 0 other, -1 unknown; None where nothing is known.

    Raises:
        SpiError: the file cannot be written.
        ValueError: when the block ends, patterns are without a score.
    """
    n = len(ids)
    with replaced_when_done(path) as partial, h5py.File(partial, "w") as file:
        names = np.char.encode(np.asarray(ids, dtype=np.str_), "utf-8") if n else np.empty(0, "S1")
        file.create_dataset("id", data=names.astype(h5py.string_dtype("utf-8", max(1, names.dtype.itemsize))))
        if labels is not None:
            file.create_dataset("label", (n,), np.int8, data=np.asarray(labels))
        chunks = (min(n, CHUNK), models) if n else None
        dataset = file.create_dataset("models", (n, models), np.float32, chunks=chunks)
        writer = ScoreWriter(dataset, origin.cascade is not None)
        yield writer
        if missing := int(np.isnan(writer.probabilities).sum()):
            raise ValueError(f"{missing} of {n} patterns were given no score.")
        file.create_dataset("probability", data=writer.probabilities)
        file.attrs.update(
            {
                **writer.attributes,
                "format": FORMAT,
                "version": VERSION,
                "source": origin.source,
                "data": origin.data,
                "threshold": math.nan if origin.threshold is None else origin.threshold,
                "mirrors": ",".join(origin.mirrors),
                "precision": origin.precision,
                "cascade": math.nan if origin.cascade is None else origin.cascade,
                "program": spi_lightning.__version__,
            }
        )


def read_scores(path: str | Path) -> Scores:
    """Read a file of scores.

    Raises:
        SpiError: it is missing, damaged, of another format, or its parts do not fit together.
    """
    with open_h5(path) as file:
        with damage_is_reported(path, "its attributes"):
            attributes = dict(file.attrs)
        if attributes.get("format") != FORMAT:
            raise SpiError(
                f"{path} is not a file of scores (its attribute 'format' is not '{FORMAT}'). Give a scores.h5 or "
                "predictions.h5 that spi-train or spi-predict wrote."
            )
        if attributes.get("version") != VERSION:
            raise SpiError(
                f"{path} has version {attributes.get('version')} of the format of scores; this program reads version "
                f"{VERSION}. Use the version of spi-lightning that wrote it."
            )
        origin = _origin(path, attributes)
        probabilities = _values(file, "probability", "f", 1)
        models = _values(file, "models", "f", 2)
        names = _values(file, "id", "SO", 1)
        labels = None if resolve(file, "label") is None else _values(file, "label", "i", 1)
    lengths = {len(values) for values in (probabilities, models, names, labels) if values is not None}
    if len(lengths) > 1:
        raise SpiError(f"{path}: its datasets speak of different numbers of patterns. {_AGAIN}")
    said = models
    if origin.cascade is not None:
        said = np.where(_spared(models)[:, None] & np.isnan(models), 0, models)
    for name, scores in (("probability", probabilities), ("models", said)):
        if not ((scores >= 0) & (scores <= 1)).all():
            raise SpiError(f"{path}: '{name}' has values that are no probabilities, from 0 to 1. {_AGAIN}")
    if labels is not None and not np.isin(labels, (-1, 0, 1)).all():
        raise SpiError(f"{path}: 'label' has values that are none of 1, 0, -1. {_AGAIN}")
    try:
        ids = np.array([name.decode() for name in names.tolist()], dtype=np.str_)
    except UnicodeDecodeError:
        raise SpiError(f"{path}: 'id' has names that are not UTF-8. {_AGAIN}") from None
    return Scores(ids, probabilities.astype(np.float32), models.astype(np.float32), labels, origin, attributes)


def write_selection_csv(
    path: str | Path, ids: np.ndarray, probabilities: np.ndarray, labels: np.ndarray | None = None
) -> None:
    """Write patterns as a table, the most probable single hit first: id, probability, and the label where known.

    Args:
        path: the file; it appears once it is whole.
        ids: ``(n,)`` str.
        probabilities: ``(n,)``.
        labels: ``(n,)``: 1 single hit, 0 other, -1 unknown.

    Raises:
        SpiError: the file cannot be written.
    """
    columns = [ids.tolist(), [f"{value:.7g}" for value in probabilities.tolist()]]
    if labels is not None:
        columns.append(labels.tolist())
    rows = list(zip(*columns, strict=True))
    with replaced_when_done(path) as partial, open(partial, "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["id", "probability", "label"][: len(columns)])
        table.writerows(rows[place] for place in np.argsort(-probabilities, kind="stable"))


def _spared(models: np.ndarray) -> np.ndarray:
    """Patterns of which only the first networks were asked, at least one, bool ``(n,)``."""
    silent = np.isnan(models)
    return ~silent[:, 0] & (silent[:, :-1] <= silent[:, 1:]).all(axis=1) & (np.isfinite(models) | silent).all(axis=1)


_AGAIN = "The file is damaged, or was changed by another program: write it again."


def _origin(path: str | Path, attributes: dict[str, object]) -> Origin:
    source, data, mirrors, threshold = (attributes.get(name) for name in ("source", "data", "mirrors", "threshold"))
    views = [view for word in str(mirrors).split(",") for view in MIRRORS if view == word]
    texts = isinstance(source, str) and isinstance(data, str)
    if not (texts and views and ",".join(views) == mirrors and isinstance(threshold, float)):
        raise SpiError(f"{path}: its attributes do not say where the scores come from. {_AGAIN}")
    cascade = attributes.get("cascade", math.nan)
    precision = attributes.get("precision", "float32")
    if not isinstance(cascade, float) or precision not in DTYPES:
        raise SpiError(f"{path}: its attributes 'cascade' and 'precision' say nothing that is known. {_AGAIN}")
    return Origin(
        str(source),
        str(data),
        None if math.isnan(threshold) else float(threshold),
        tuple(views),
        None if math.isnan(cascade) else float(cascade),
        precision,  # type: ignore[arg-type]  # one of those that it was just compared with
    )


def _values(file: h5py.File, name: str, kinds: str, axes: int) -> np.ndarray:
    found = resolve(file, name)
    if not isinstance(found, h5py.Dataset) or found.dtype.kind not in kinds or found.ndim != axes:
        what = "is missing" if found is None else "has another type or number of axes"
        raise SpiError(f"{file.filename}: the dataset '{name}' {what}. {_AGAIN}")
    return read_all(found)
