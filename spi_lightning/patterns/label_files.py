"""Reading lists and tables of labels out of HDF5, JSON and text, before anything is known of what they mean.

Nothing in a file is executed, and nothing is read that is too large to be a list of labels.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np

from spi_lightning.errors import SpiError
from spi_lightning.patterns.hdf5 import (
    check_file,
    damage_is_reported,
    describe,
    list_datasets,
    open_h5,
    resolve,
)
from spi_lightning.patterns.storage import check_storage, read_all

LARGEST_TEXT = 1 << 28  # bytes: ids and labels of some 10 million patterns
LARGEST_DATASET = 1 << 26  # elements
ID_WORDS = frozenset({"id", "ids", "pattern", "pattern_id", "name"})
INDEX_WORDS = frozenset({"index", "indices", "frame", "number"})
LABEL_WORDS = frozenset({"label", "labels", "class", "single", "singles", "single_hit", "is_single"})
OTHER_WORDS = frozenset({"run", "file", "group", "event", "shot", "train", "trainid", "pulse", "pulseid"})
HEADER_WORDS = ID_WORDS | INDEX_WORDS | LABEL_WORDS | OTHER_WORDS


@dataclass
class Table:
    """Rows of words, all of the same length, as they stand in a file.

    Attributes:
        where: the file, and the dataset in it, for messages.
        rows: at least one.
        header: lower-case names of the columns; empty where there are none.
        kind: what the form of the file says about its meaning, or None.
        lines: the rows not split, where blanks were taken for the gaps between columns: ids may contain blanks.
    """

    where: str
    rows: list[list[str]]
    header: list[str] = field(default_factory=list)
    kind: Literal["classes", "singles"] | None = None
    lines: list[str] | None = None


def read_table(path: str | Path, dataset: str | None = None) -> Table:
    """Read a label file.

    Args:
        path: HDF5 or CXI; JSON (by its name or its first character); otherwise text.
        dataset: in HDF5; where None, the only one called ``labels``.

    Raises:
        SpiError: not there, empty, binary, too large, damaged, rows of different lengths, or no such dataset.
    """
    path = Path(os.path.expanduser(path))
    check_file(path)
    if h5py.is_hdf5(path):
        return _from_hdf5(path, dataset)
    if dataset is not None:
        raise SpiError(
            f"{path} is no HDF5 file, so data.prepare.labels.dataset={dataset} means nothing. Leave it away."
        )
    if (size := path.stat().st_size) > LARGEST_TEXT:
        raise SpiError(
            f"{path} has {size} bytes; a list of labels has at most {LARGEST_TEXT}. Is this the file with the labels?"
        )
    content = path.read_bytes()
    try:
        if b"\0" in content:
            raise ValueError("it contains zero bytes")
        text = content.decode("utf-8-sig")
    except ValueError as error:
        raise SpiError(
            f"{path} is a binary file ({error}). Labels are read from HDF5, JSON, CSV and UTF-8 text."
        ) from error
    table = _from_json(path, text) if path.suffix == ".json" or text.lstrip()[:1] in ("[", "{") else _text(path, text)
    if not table.rows:
        raise SpiError(f"{table.where} lists no pattern. Expected an id or index a line, or an id and a label.")
    width = len(table.rows[0])
    for number, row in enumerate(table.rows, start=1):
        if len(row) != width:
            raise SpiError(
                f"{table.where}: entry {number} has {len(row)} columns ({', '.join(row)[:60]}), the first has {width}. "
                "Write every pattern with the same columns."
            )
    return table


# --- text --------------------------------------------------------------------------------------------------------


def _text(path: Path, text: str) -> Table:
    table = Table(str(path), [])
    first = next(_content_lines(text), "")
    delimiter = next((mark for mark in ",;\t" if mark in first), None)
    if delimiter is None:
        table.lines = [line.strip() for line in _content_lines(text)]
        rows: Iterable[list[str]] = (line.split() for line in table.lines)
    else:
        rows = csv.reader(_content_lines(text), delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        for row in rows:
            words = [word.strip() for word in row]
            while words and not words[-1]:
                words.pop()
            if words:
                table.rows.append(words)
    except csv.Error as error:
        raise SpiError(f"{path} cannot be read as a table ({error}). Check its quotation marks.") from error
    if table.rows and all(word.lower() in HEADER_WORDS for word in table.rows[0]):
        table.header = [word.lower() for word in table.rows.pop(0)]
        if table.lines is not None:
            table.lines.pop(0)
    return table


def _content_lines(text: str) -> Iterator[str]:
    """Lines that are neither blank nor begin with '#', with their ends, which a quoted word may run across."""
    return (line for line in io.StringIO(text, newline="") if line.strip() and not line.lstrip().startswith("#"))


# --- JSON --------------------------------------------------------------------------------------------------------


def _from_json(path: Path, text: str) -> Table:
    def without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(found := dict(pairs)) < len(pairs):
            names = [name for name, _ in pairs]
            double = next(name for name in names if names.count(name) > 1)
            raise SpiError(f"{path} names '{double[:80]}' more than once. Leave each pattern in once.")
        return found

    try:
        value = json.loads(text, object_pairs_hook=without_doubles)
    except (ValueError, RecursionError) as error:
        raise SpiError(f"{path} cannot be read as JSON ({error}). Check it, or give the labels as CSV.") from error
    if isinstance(value, dict):
        keys, lists = set(value), all(isinstance(entry, list) for entry in value.values())
        if lists and "labels" in keys and keys & {"ids", "indices"} and len(keys) == 2:
            return _columns_of_json(path, value)
        if lists and len(keys) == 1 and keys <= {"ids", "indices", "singles", "labels"}:
            (name,) = keys
            rows = [_words(path, entry) for entry in value[name]]
            header = [] if name == "singles" else [name]
            return Table(str(path), rows, header, "classes" if name == "labels" else "singles")
        rows = [[name, *_words(path, label)] for name, label in value.items()]
        return Table(str(path), rows, kind="classes")
    if isinstance(value, list):
        return Table(str(path), [_words(path, entry) for entry in value])
    raise SpiError(f"{path} holds {type(value).__name__}; a list of single hits, or labels by id, was expected.")


def _columns_of_json(path: Path, value: dict[str, list]) -> Table:
    (name,) = set(value) - {"labels"}
    if len(value[name]) != len(value["labels"]):
        raise SpiError(
            f"{path} holds {len(value[name])} {name} and {len(value['labels'])} labels; as many of both were expected."
        )
    pairs = zip(value[name], value["labels"], strict=True)
    rows = [[*_words(path, entry), *_words(path, label)] for entry, label in pairs]
    return Table(str(path), rows, [name, "labels"], "classes")


def _words(path: Path, entry: object) -> list[str]:
    if isinstance(entry, list) and entry and not any(isinstance(part, list) for part in entry):
        return [word for part in entry for word in _words(path, part)]
    if isinstance(entry, str):
        return [entry.strip()]
    if isinstance(entry, bool | int) or (isinstance(entry, float) and entry.is_integer()):
        return [str(int(entry))]
    raise SpiError(f"{path} holds {json.dumps(entry)[:60]} where an id, an index or a label was expected.")


# --- HDF5 --------------------------------------------------------------------------------------------------------


def _from_hdf5(path: Path, name: str | None) -> Table:
    with open_h5(path) as file:
        if name is None:
            called = [d for d in list_datasets(file) if (d.name or "").rsplit("/", 1)[-1] in ("labels", "label")]
            if len(called) != 1:
                raise SpiError(
                    f"{path} holds {len(called) or 'no'} datasets called 'labels'; say where the labels are: "
                    f"data.prepare.labels.dataset=PATH. {describe(file)}"
                )
            found = called[0]
        else:
            found = resolve(file, name)
        if not isinstance(found, h5py.Dataset):
            raise SpiError(f"{path} holds no dataset '{name}'. {describe(file)}")
        where = f"{path}, dataset '{found.name}'"
        rows = _rows(where, _values(where, found))
        # Ids that lie beside the labels and are as many say which label is whose.
        beside = resolve(file, f"{found.parent.name}/ids")
        if isinstance(beside, h5py.Dataset) and beside.shape == found.shape and beside.name != found.name:
            ids = _rows(where, _values(f"{path}, dataset '{beside.name}'", beside))
            return Table(where, [[*i, *row] for i, row in zip(ids, rows, strict=True)], ["id", "label"], "classes")
    return Table(where, rows, kind="classes" if name is None else None)


def _values(where: str, dataset: h5py.Dataset) -> np.ndarray:
    if len(dataset.shape or ()) not in (1, 2) or not 0 < dataset.size <= LARGEST_DATASET:
        raise SpiError(
            f"{where} has the shape {dataset.shape}; one entry a pattern, or a list of patterns, was expected. "
            "Name another with data.prepare.labels.dataset=PATH."
        )
    if h5py.check_string_dtype(dataset.dtype) is not None:
        check_storage(dataset)
        with damage_is_reported(dataset.file.filename, f"dataset '{dataset.name}'"):
            return dataset.asstr()[()]
    return np.asarray(read_all(dataset))


def _rows(where: str, values: np.ndarray) -> list[list[str]]:
    if values.dtype.kind == "f" and np.all(np.isfinite(values) & (values == np.rint(values)) & (abs(values) < 2**53)):
        values = values.astype(np.int64)
    if values.dtype.kind == "b":
        values = values.astype(np.int8)
    if values.dtype.kind not in "iuOU":
        raise SpiError(f"{where} holds {values.dtype} values that are no labels; whole numbers or ids were expected.")
    return [[str(word).strip() for word in row] for row in values.reshape(len(values), -1).tolist()]
