"""``splits.json``: the division of the data, as it stands in a run's folder."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from spi_lightning.config.check import checked
from spi_lightning.data.splits import Splits, SplitSettings, check, labels_fingerprint
from spi_lightning.errors import SpiError
from spi_lightning.patterns.frames import Frames
from spi_lightning.provenance import write_json

FORMAT = 1
_ANEW = "Give another run=FOLDER, which makes splits for these data."


@dataclass(frozen=True)
class _Part:
    singles: int
    others: int
    ids: tuple[str, ...]


@dataclass(frozen=True)
class _File:
    format: int
    scheme: SplitSettings
    data: str
    labels: str
    unlabelled: int
    set_aside: int
    folds: tuple[_Part, ...]
    test: _Part


def write_splits(path: Path, splits: Splits) -> None:
    """Write ``splits.json``.

    It holds ``format`` (1); ``scheme``: the settings, with the seed; ``data`` and ``labels``: their fingerprints;
    ``unlabelled`` and ``set_aside``: numbers of patterns that take no part; ``folds``: for each the number of
    ``singles`` and ``others`` and the ``ids`` of its validation patterns; ``test``: the same of the test set.
    """

    def part(indices: np.ndarray) -> dict[str, object]:
        labels = splits.labels[indices]
        ids = splits.ids[indices].tolist()
        return {"singles": int((labels == 1).sum()), "others": int((labels == 0).sum()), "ids": ids}

    content = {
        "format": FORMAT,
        "scheme": asdict(splits.scheme),
        "data": splits.fingerprint,
        "labels": splits.labels_fingerprint,
        "unlabelled": splits.unlabelled,
        "set_aside": splits.set_aside,
        "folds": [part(fold) for fold in splits.folds],
        "test": part(splits.test),
    }
    write_json(path, content)


def read_splits(path: Path, run: Frames) -> Splits:
    """Read ``splits.json`` and make sure that it belongs to these data and these labels.

    Raises:
        SpiError: the file is missing, damaged, of another format, or of other data or labels; it names a pattern that
            is not in the data, one twice, or one without a label; a count is wrong; or a fold lacks a class.
    """
    content = _content(path)
    if content.data != run.fingerprint():
        raise SpiError(
            f"{path} was made for other data: other files, or the same prepared in another way (crop, binning, mask, "
            f"photons). Its fingerprint is {content.data[:12]}…, these data have {run.fingerprint()[:12]}…. Open the "
            f"data as they were (data.path, data.prepare). {_ANEW}"
        )
    labels = run.labels
    if labels is None or content.labels != labels_fingerprint(labels):
        raise SpiError(
            f"{path} was made with other labels of these patterns. Give those of then (data.prepare.labels). {_ANEW}"
        )
    ids = run.ids
    at = {name: index for index, name in enumerate(ids.tolist())}

    def indices(part: _Part, name: str) -> np.ndarray:
        missing = [pattern for pattern in part.ids if pattern not in at]
        if missing:
            raise SpiError(
                f"{path}: {len(missing)} patterns of {name} are not in the data, for instance '{missing[0][:80]}'. "
                f"Was the file edited? {_ANEW}"
            )
        found = np.sort(np.array([at[pattern] for pattern in part.ids], dtype=np.int64))
        counts = int((labels[found] == 1).sum()), int((labels[found] == 0).sum())
        if counts != (part.singles, part.others):
            raise SpiError(
                f"{path}: {name} says {part.singles} single hits and {part.others} others, but by the labels its "
                f"patterns are {counts[0]} and {counts[1]}. Was the file edited? {_ANEW}"
            )
        return found

    folds = [indices(part, f"fold {k}") for k, part in enumerate(content.folds)]
    test = indices(content.test, "the test set")
    splits = Splits(content.scheme, content.data, content.labels, ids, labels, folds, test)
    check(splits, str(path))
    return splits


def _content(path: Path) -> _File:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SpiError(f"{path} cannot be read ({error.strerror}). {_ANEW}") from None
    except UnicodeDecodeError:
        raise SpiError(f"{path} is damaged: it is no text. {_ANEW}") from None
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SpiError(f"{path} is damaged: it cannot be read as JSON ({error}). {_ANEW}") from None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise SpiError(f"{path} is no splits.json of format {FORMAT}, which this version reads. {_ANEW}")
    try:
        content = checked(_File, values)
    except SpiError as error:
        raise SpiError(f"{path} is damaged: {' '.join(str(error).split())[:400]} {_ANEW}") from None
    if len(content.folds) != content.scheme.folds:
        raise SpiError(
            f"{path} is damaged: it has {len(content.folds)} folds, its scheme {content.scheme.folds}. {_ANEW}"
        )
    return content
