"""The jobs of a sweep, read from its folder: settings that differ, metrics, and how each job went."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from spi_lightning.config.sweep import RECORD, SweepJob, look_up
from spi_lightning.errors import SpiError
from spi_lightning.records import finite_number, flat, readable_mapping, rows_of

SEED = "seed"
PART = "fold"  # a job with this key made a part of another job
OWN = ("run", PART)  # settings that say where a job is, not what it is
SECONDS = "seconds"
FINAL = ("complete", "failed", "pruned")  # states that a job does not leave by itself
TABLES = {"cross_validation": "cross-validation", "test": "test set"}
JUDGES = ("labels", "truth")
OF_SELECTIONS = ("patterns", "contrast", "contrast_low", "contrast_high")
UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, yaml.YAMLError)


@dataclass(frozen=True)
class SweptJob:
    """A job of a sweep.

    Attributes:
        name: made of its swept values.
        folder: relative to that of the sweep; empty where it does not lie inside.
        state: complete, failed, pruned (given up by a search), stopped, killed, running or missing.
        error: in a sentence; empty where there is none.
        traceback: of a job that failed; else empty.
        swept: swept keys and their values, as written.
        settings: all keys of its config, such as ``loss.weights``, and their values as on a command line; empty where
            the job is not complete.
        metrics: ``TABLE.JUDGE.QUANTITY`` (``test.labels.f1``), ``selection.NAME.contrast`` and the like; and
            ``seconds``. What is undefined or not there is left out.
        origin: commit and fingerprints of data and labels, where they are known.
        page: whether it has a report of its own.
    """

    name: str
    folder: str
    state: str
    error: str = ""
    traceback: str = ""
    swept: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    origin: Mapping[str, str] = field(default_factory=dict)
    page: bool = False

    def setting(self, key: str) -> str:
        """Its value of a key, as it was swept or else as its config has it; empty where that is not known."""
        return self.swept.get(key, self.settings.get(key.lstrip("+"), ""))


@dataclass(frozen=True)
class Sweep:
    """A sweep.

    Attributes:
        command: that started it last.
        started: when that was, in ISO 8601; empty where it is not known.
        ended: the same; empty while it goes on.
        swept: keys, in order.
        jobs: but for folds that were jobs of their own.
        folds: those.
    """

    command: str
    started: str
    ended: str
    swept: tuple[str, ...]
    jobs: tuple[SweptJob, ...]
    folds: tuple[SweptJob, ...]


def read_sweep(folder: Path) -> Sweep:
    """Read ``sweep.json`` and what the jobs left; what is missing or cannot be read is left out.

    Args:
        folder: of the sweep.

    Raises:
        SpiError: there is no ``sweep.json`` that can be read.
    """
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        entries = [entry for entry in record["jobs"] if isinstance(entry, dict)]
    except UNREADABLE as error:
        raise SpiError(
            f"run: {folder / RECORD} cannot be read ({' '.join(str(error).split())}). Give the folder of a sweep, as "
            "spi-train -m leaves it."
        ) from None
    ended = _text(record.get("ended"))
    jobs = [_job(folder, entry, ended) for entry in entries]
    swept = record.get("swept")
    known = [_text(str(key)) for key in swept] if isinstance(swept, list) else []
    keys = dict.fromkeys([*known, *(key for job in jobs for key in job.swept)])
    folds = [job for job in jobs if PART in job.swept]
    whole = [_with_folds(job, folds) for job in jobs if PART not in job.swept]
    started = _text(record.get("started"))
    return Sweep(
        _text(record.get("command")),
        started,
        ended,
        tuple(key for key in keys if key not in OWN),
        tuple(whole),
        tuple(folds),
    )


def differing(jobs: Sequence[SweptJob], swept: Sequence[str]) -> list[str]:
    """Settings in which jobs differ: those that were swept, then all others by their configs, in the order of these.

    Paths are left out where they were not swept: they may be written in another way and yet mean the same file.

    Args:
        jobs: of a sweep; those without settings do not count.
        swept: keys that come first, whether they differ or not.
    """
    known = [job for job in jobs if job.settings]
    keys = dict.fromkeys(key for job in known for key in job.settings)
    swept_in_config = {key.lstrip("+") for key in swept}
    others = [
        key
        for key in keys
        if key not in swept_in_config
        and key not in OWN
        and key.rpartition(".")[2] != "path"
        and len({job.settings.get(key) for job in known}) > 1
    ]
    return [*swept, *others]


def flattened(config: dict[str, Any]) -> dict[str, str]:
    """Keys of a config, such as ``loss.weights``, and their values as on a command line; a list is one value."""
    return {_text(key): _text(_written(value)) for key, value in flat(config).items()}


def metrics(folder: Path) -> dict[str, float]:
    """Metrics of a job, from the tables in its folder."""
    found: dict[str, float] = {}
    for table in TABLES:
        for row in _rows(folder / "tables" / f"{table}.csv"):
            if row.get("by") in JUDGES and row.get("quantity"):
                found |= _number(f"{table}.{row['by']}.{row['quantity']}", row.get("value"))
    for row in _rows(folder / "tables" / "selections.csv"):
        if row.get("selection"):
            for quantity in OF_SELECTIONS:
                found |= _number(f"selection.{row['selection']}.{quantity}", row.get(quantity))
    return found


def _job(root: Path, entry: Mapping[str, Any], ended: str) -> SweptJob:
    folder = _inside(entry.get("folder"))
    outcome = _outcome(root / folder if folder else None, entry, ended)
    overrides = entry.get("overrides")
    swept = {_text(key): _text(str(value)) for key, value in overrides.items()} if isinstance(overrides, dict) else {}
    place = root / folder if folder and outcome.state == "complete" else None  # else it may be another job's
    seconds = {} if outcome.seconds is None else _number(SECONDS, outcome.seconds)
    return SweptJob(
        name=outcome.name,
        folder=folder,
        state=outcome.state,
        error=outcome.error or "",
        traceback=outcome.traceback or "",
        swept=swept,
        settings={} if place is None else _settings(place),
        metrics=seconds if place is None else metrics(place) | seconds,
        origin={} if place is None else _origin(place),
        page=bool(folder) and (root / folder / "report.html").is_file(),
    )


def _outcome(place: Path | None, entry: Mapping[str, Any], ended: str) -> SweepJob:
    """How a job went: as recorded, unless that is not final or the job was started again since."""
    here = place or Path()
    recorded = SweepJob(_text(entry.get("name")), here, [], {}, ("", None), _text(entry.get("state")) or "missing")
    recorded.error, recorded.traceback = _text(entry.get("error")), _text(entry.get("traceback"))
    recorded.seconds = next(iter(_number(SECONDS, entry.get(SECONDS)).values()), None)
    if place is None or (recorded.state in FINAL and ended and not _started_after(place, ended)):
        return recorded
    now = SweepJob(recorded.name, here, [], {}, ("", None))
    try:
        look_up(now)
    except UNREADABLE:
        return recorded
    return recorded if now.state == "missing" else now


def _started_after(place: Path, moment: str) -> bool:
    try:
        started = json.loads((place / "status.json").read_text(encoding="utf-8"))["started"]
        return datetime.datetime.fromisoformat(started) > datetime.datetime.fromisoformat(moment)
    except UNREADABLE:
        return False


def _with_folds(job: SweptJob, folds: Sequence[SweptJob]) -> SweptJob:
    """A job that put folds together, with the time that these took."""
    own = [fold.metrics.get(SECONDS, 0.0) for fold in folds if fold.folder.startswith(f"{job.folder}/folds/")]
    if not own or SECONDS not in job.metrics:
        return job
    total = {SECONDS: job.metrics[SECONDS] + sum(own)}
    return SweptJob(**{**vars(job), "metrics": {**job.metrics, **total}})


def _inside(folder: Any) -> str:
    """A folder's path if it leads further inside; else empty."""
    path = PurePosixPath(_text(folder))
    return str(path) if path.parts and not path.is_absolute() and ".." not in path.parts else ""


def _settings(place: Path) -> dict[str, str]:
    try:
        config = yaml.safe_load((place / "config.yaml").read_text(encoding="utf-8"))
        return flattened(config) if isinstance(config, dict) and config else {}
    except UNREADABLE:
        return {}


def _origin(place: Path) -> dict[str, str]:
    facts = readable_mapping(place / "provenance.json")
    return {name: text for name in ("commit", "data", "labels") if (text := _text(facts.get(name)))}


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        return rows_of(path)
    except SpiError:
        return []


def _number(name: str, value: Any) -> dict[str, float]:
    """A finite number under its name; else nothing."""
    number = finite_number(value)
    return {} if number is None else {name: number}


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), default=str)


def _text(value: Any) -> str:
    """A text without halves of surrogate pairs, which JSON may hold and no file can; empty where it is none."""
    return value.encode("utf-8", "replace").decode("utf-8") if isinstance(value, str) else ""
