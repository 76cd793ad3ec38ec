"""Labels of patterns: 1 single hit, 0 other, -1 unknown.

A file may hold *classes*, a label for each pattern that it lists (those it does not list are unknown), or *singles*, a
list of the single hits (all others are 0), as the paper's manual selection was published. It may be HDF5 or CXI, JSON,
or a table in text: a pattern a line, columns separated by commas, semicolons, tabs or blanks; lines that begin with '#'
are comments, and a first line of names such as ``id,label`` is a header.

How a table is read, where ``kind`` is ``auto``:

- two columns or more with a header that says so, or without a header and with only -1, 0, 1 in the last: classes, but
  refused where they may as well be runs and indices;
- one column with as many lines as there are patterns, and only -1, 0, 1 in it: classes in the order of the run;
- all else: singles.

How a pattern is named, in a table or in JSON:

- by its id (``run7:15``), or by its index in the run, which starts at 0. Whole numbers that are ids *and* indices, of
  different patterns, are refused unless the column's header is ``id`` or ``index`` (JSON: key ``ids`` or ``indices``);
- by several columns, which joined by ``:`` give the id (``trainId, pulseId``), or by two: a run's number and the index
  in it (Li et al. 2020 list single hits so). The run is the one whose file's name has that number.

JSON may be a list, an object of labels by id, ``{"ids": […]}``, ``{"indices": […]}``, ``{"singles": […]}``, or one of
the first two with ``"labels": […]``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import numpy as np

from spi_lightning.errors import SpiError
from spi_lightning.patterns.label_files import HEADER_WORDS, ID_WORDS, INDEX_WORDS, LABEL_WORDS, Table, read_table

LABELS = {"1": 1, "0": 0, "-1": -1, "1.0": 1, "0.0": 0, "-1.0": -1}
_WHOLE = re.compile(r"[+-]?\d{1,18}")
_RUN = re.compile(r"(?:^|[^a-z])r(?:un)?[_-]?(\d+)", re.IGNORECASE)


def read_labels(
    path: str | Path,
    ids: np.ndarray,
    *,
    dataset: str | None = None,
    kind: Literal["auto", "classes", "singles"] = "auto",
) -> np.ndarray:
    """Read labels and put them in the order of the run.

    Args:
        path: HDF5, CXI, JSON, CSV or text.
        ids: ``(n,)`` str, the ids of the run's patterns.
        dataset: where the labels lie in HDF5; where None, the only dataset called ``labels``.
        kind: what the file holds; see the head of this module.

    Returns:
        int8 ``(n,)``: 1 single hit, 0 other, -1 unknown.

    Raises:
        SpiError: unreadable; or it names patterns that are not there, or one twice, or with two labels; or it can be
            read in two ways.
    """
    table = read_table(path, dataset)
    n = len(ids)
    # Ids may contain blanks, by which the table was split.
    if table.lines is not None and len(table.rows[0]) > 1 and set(table.lines) <= set(np.asarray(ids).tolist()):
        table.rows = [[line] for line in table.lines]
    meaning = _meaning(table, kind, n)
    if meaning == "classes" and kind == "auto" and table.kind is None and not table.header:
        _refuse_ambiguous_pairs(table, ids)
    if meaning == "in order":
        return _as_labels(table, [row[-1] for row in table.rows])
    named = table.rows if meaning == "singles" else [row[:-1] for row in table.rows]
    words = ["1"] * len(named) if meaning == "singles" else [row[-1] for row in table.rows]
    given = _as_labels(table, words)
    places = _places(table, named, ids)
    _refuse_doubles(table, named, places, given)
    labels = np.full(n, 0 if meaning == "singles" else -1, dtype=np.int8)
    labels[places] = given
    return labels


# --- what the table means ----------------------------------------------------------------------------------------


def _meaning(table: Table, kind: str, n: int) -> Literal["classes", "singles", "in order"]:
    """What the rows say, by the rules at the head of this module."""
    width = len(table.rows[0])
    names_label = bool(table.header) and table.header[-1] in LABEL_WORDS and (width > 1 or table.header != ["singles"])
    asked = table.kind if kind == "auto" else kind
    only_labels = all(row[-1] in LABELS for row in table.rows)
    if width > 1:
        unnamed = only_labels and not table.header
        return "classes" if asked == "classes" or (asked is None and (names_label or unnamed)) else "singles"
    if asked == "singles":
        return "singles"
    names_pattern = bool(table.header) and table.header[0] in ID_WORDS | INDEX_WORDS
    in_order = only_labels and len(table.rows) == n and not names_pattern
    if asked == "classes" or names_label:
        if len(table.rows) != n:
            raise SpiError(
                f"{table.where} holds {len(table.rows)} labels in one column; the data has {n} patterns. Give a label "
                "for each in their order, or a second column with the labels; a list of single hits needs "
                "data.prepare.labels.kind=singles."
            )
        return "in order"
    listed = [row[0] for row in table.rows]
    if in_order and not names_label and n <= 2 and len(set(listed)) == n and "-1" not in listed:
        raise SpiError(
            f"{table.where} can be read as the labels of {n} patterns or as a list of single hits. "
            "Say which: data.prepare.labels.kind=classes or data.prepare.labels.kind=singles."
        )
    return "in order" if in_order else "singles"


def _as_labels(table: Table, words: list[str]) -> np.ndarray:
    strange = [word for word in words if word not in LABELS]
    if strange:
        raise SpiError(
            f"{table.where}: {len(strange)} of {len(words)} labels are none, {_examples(strange)}. "
            f"Labels are 1 (single hit), 0 (other) and -1 (unknown).{_header_hint(table, strange)}"
        )
    return np.array([LABELS[word] for word in words], dtype=np.int8)


def _header_hint(table: Table, wrong: list[str]) -> str:
    """What a header may say, where the first line looks like one that was not understood."""
    first = table.rows[0]
    if table.header or not {":".join(first), ":".join(first[:-1]), first[-1]} & set(wrong):
        return ""
    if any(_WHOLE.fullmatch(word) for word in first):
        return ""
    return f" If the first line is a header, these words are known: {', '.join(sorted(HEADER_WORDS))}."


def _refuse_ambiguous_pairs(table: Table, ids: np.ndarray) -> None:
    """Raise :class:`SpiError` where pattern and label may as well be run and index, all of which are 0 or 1."""
    names = {row[0] for row in table.rows}
    if len(table.rows[0]) != 2 or names <= set(np.asarray(ids).tolist()):
        return
    if -1 not in _by_run(table, table.rows, ids, [-1] * len(table.rows)):
        raise SpiError(
            f"{table.where} can be read as patterns and their labels, or as single hits by run and index, "
            f"{_examples([' '.join(row) for row in table.rows])}. "
            "Say which: data.prepare.labels.kind=classes or data.prepare.labels.kind=singles."
        )


def _refuse_doubles(table: Table, named: list[list[str]], places: np.ndarray, given: np.ndarray) -> None:
    order = np.argsort(places, kind="stable")
    again = np.flatnonzero(np.diff(places[order]) == 0)
    if not len(again):
        return
    contradictory = given[order[again]] != given[order[again + 1]]
    for those, what in ((again[contradictory], "have contradictory labels"), (again, "are listed more than once")):
        if len(those):
            names = list({places[order[i]]: ":".join(named[order[i]]) for i in those}.values())
            raise SpiError(
                f"{table.where}: {len(names)} patterns {what}, {_examples(names)}. Leave each pattern in once."
            )


# --- which pattern is meant --------------------------------------------------------------------------------------


def _places(table: Table, named: list[list[str]], ids: np.ndarray) -> np.ndarray:
    """Index in the run of each named pattern, ``(len(named),)``."""
    id_at = {str(name): i for i, name in enumerate(np.asarray(ids).tolist())}
    words = [":".join(name) for name in named]
    by_id = [id_at.get(word, -1) for word in words]
    if len(named[0]) > 1:
        if len(named[0]) == 2 and -1 in by_id:
            by_id = _by_run(table, named, ids, by_id)
        return _all_found(table, words, by_id, ids, by_index=False)
    by_index = [int(w) if _WHOLE.fullmatch(w) and 0 <= int(w) < len(ids) else -1 for w in words]
    header = table.header[0] if table.header else ""
    if header in ID_WORDS:
        return _all_found(table, words, by_id, ids, by_index=False)
    if header in INDEX_WORDS:
        return _all_found(table, words, by_index, ids, by_index=True)
    if by_id != by_index and -1 not in by_id and -1 not in by_index:
        raise SpiError(
            f"{table.where}: the whole numbers in it are ids of some patterns and indices of others, "
            f"{_examples(words)}. Put 'id' or 'index' above their column (JSON: the key 'ids' or 'indices')."
        )
    # Whichever reading finds more is the one that was meant; if it does not find all, its error names what is missing.
    indices = by_id.count(-1) > by_index.count(-1) or (
        by_id.count(-1) == by_index.count(-1) and all(_WHOLE.fullmatch(word) for word in words)
    )
    return _all_found(table, words, by_index if indices else by_id, ids, by_index=indices)


def _by_run(table: Table, named: list[list[str]], ids: np.ndarray, by_id: list[int]) -> list[int]:
    """Fill in those patterns that are named by a run's number and an index in it."""
    at: dict[tuple[int, int], list[int]] = {}
    for i, name in enumerate(np.asarray(ids).tolist()):
        stem, *_, last = str(name).split(":")
        number = _run_number(stem)
        if number is not None and _WHOLE.fullmatch(last):
            at.setdefault((number, int(last)), []).append(i)
    found = list(by_id)
    for i, (run, index) in enumerate(named):
        number = _run_number(run)
        if found[i] == -1 and number is not None and _WHOLE.fullmatch(index):
            places = at.get((number, int(index)), [])
            if len(places) > 1:
                raise SpiError(
                    f"{table.where}: run {run} and index {index} mean {len(places)} patterns, "
                    f"{_examples([str(ids[place]) for place in places])}. Name patterns by their ids."
                )
            found[i] = places[0] if places else -1
    return found


def _run_number(name: str) -> int | None:
    """7 for "7", "run7", "r0007", "amo86615_r0007"; None where no number, or none of several, is the run's."""
    numbers = _RUN.findall(name) or re.findall(r"\d+", name)
    return int(numbers[0]) if len(numbers) == 1 and len(numbers[0]) <= 18 else None


def _all_found(table: Table, words: list[str], places: list[int], ids: np.ndarray, *, by_index: bool) -> np.ndarray:
    missing = [word for word, place in zip(words, places, strict=True) if place == -1]
    if not missing:
        return np.array(places, dtype=np.int64)
    if by_index:
        hint = " Does the list count from 1?" if set(missing) == {str(len(ids))} else ""
        raise SpiError(
            f"{table.where}: {len(missing)} of {len(words)} indices are out of range, {_examples(missing)}.{hint} "
            f"The data has {len(ids)} patterns, 0 to {len(ids) - 1}. Give indices from 0 on, or ids such as '{ids[0]}'."
        )
    raise SpiError(
        f"{table.where}: {len(missing)} of {len(words)} patterns in it are not in the data, {_examples(missing)}. "
        f"The data has {len(ids)} patterns, from '{ids[0]}' to '{ids[-1]}'. Is this the label file of these data?"
        f"{_header_hint(table, missing)}"
    )


def _examples(words: list[str]) -> str:
    return "for instance " + ", ".join(f"'{word[:60]}'" for word in words[:3])
