"""What the report of a run folder says in words and numbers, read from the files that stand there."""

from __future__ import annotations

import csv
import datetime
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from spi_lightning.errors import SpiError
from spi_lightning.report.template import KeyFigure
from spi_lightning.selection.selection_file import read_findings

# What a kind of run leaves, and no other does; a folder that was trained or predicted and selected in is the former.
KINDS = (
    ("splits.json", "Training"),
    ("scores.h5", "Prediction"),
    ("selection.h5", "Selection"),
    ("patterns.cxi", "Simulation"),
    ("contact_sheet.png", "Inspection"),
)
# In the config of one command or another; what is not set is not shown.
SETTINGS = (
    *(("Data", "data.path"), ("Ensemble", "ensemble"), ("Binning", "data.prepare.crop.binning")),
    *(("Crop", "data.prepare.crop.shape"), ("Photon counting", "data.prepare.photons.mode")),
    *(("Photon energy (eV)", "instrument.photon_energy"), ("Detector distance (m)", "instrument.distance")),
    *(("Pixel size (m)", "instrument.pixel_size"), ("Detector shape", "simulate.detector.shape")),
    *(("Patterns to simulate", "simulate.n_patterns"), ("Simulation seed", "simulate.seed")),
    *(("Single hits to train on", "split.singles"), ("Others to train on", "split.others"), ("Folds", "split.folds")),
    *(("Network", "model._target_"), ("Filters", "model.filters"), ("Loss", "loss._target_")),
    *(("Class weights", "loss.weights"), ("Optimiser", "optimizer._target_"), ("Learning rate", "optimizer.lr")),
    *(("Schedule", "scheduler._target_"), ("Epochs", "trainer.epochs"), ("Batch size", "sampler.batch_size")),
    *(("Single hits in a batch", "sampler.single_share"), ("Augmentation", "augmentation._target_")),
    *(("Mirrored views", "ensemble.mirrors"), ("Threshold by", "ensemble.threshold.rule")),
    *(("Threshold", "threshold"), ("Precision of the arithmetic", "precision"), ("Cascade", "cascade.enabled")),
    *(("Seed", "seed"), ("Beside the paper's", "paper")),
)
MOST = 5  # selections among the key figures; the table has all
SCORES = {"f1": "F1 score", "precision": "Precision", "recall": "Recall"}
SCORES |= {"average_precision": "Average precision", "auroc": "AUROC"}
COUNTS = {
    "Prediction": (
        *("patterns", "selected", "threshold", "labelled single hits", "precision", "recall", "F1"),
        "patterns per second",
    ),
    "Simulation": ("patterns", "single hits, in truth", "single hits, as labelled", "mean per pixel"),
    "Inspection": ("patterns", "mean per pixel", "standard deviation", "pixels without signal", "masked"),
    "Training": ("training patterns", "test patterns", "threshold"),
    "Selection": ("patterns",),
}


@dataclass
class Facts:
    """What a run is.

    Attributes:
        kind: of run, a name of :data:`KINDS`.
        name: of the run folder.
        about: what it is and where it comes from, by name.
        key: its key figures.
        chosen: how large its first selections are.
        settings: that matter, by name.
        found: of an inspection, all that it says.
        selections: what each selection is, with its steps and reasons.
        notes: what could not be done or read.
        failure: how it ended, where that was not well.
        config: as written.
        provenance: as written.
    """

    kind: str
    name: str
    about: dict[str, str] = field(default_factory=dict)
    key: list[KeyFigure] = field(default_factory=list)
    chosen: list[KeyFigure] = field(default_factory=list)
    settings: dict[str, str] = field(default_factory=dict)
    found: dict[str, str] = field(default_factory=dict)
    selections: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failure: str = ""
    config: str = ""
    provenance: str = ""


def gather(folder: Path) -> Facts:
    """Read what a run folder says of itself; a file that cannot be read becomes a note.

    Args:
        folder: of spi-train, spi-predict, spi-simulate, spi-inspect or spi-select.

    Raises:
        SpiError: it is no such folder.
    """
    path = folder.resolve()
    facts = Facts(_kind(folder), f"{path.parent.name}/{path.name}".strip("/"))
    facts.config = _text(folder / "config.yaml", facts)
    facts.provenance = _text(folder / "provenance.json", facts)
    origin = _mapping(folder / "provenance.json", json.loads, facts)
    config = _mapping(folder / "config.yaml", yaml.safe_load, facts)
    status = _mapping(folder / "status.json", json.loads, facts)
    summary = _mapping(folder / "summary.json", json.loads, facts)
    _about(facts, folder, status, origin)
    known = {**origin, **summary}
    if facts.kind == "Inspection":
        hidden = ("notes", "pictures")
        facts.found = {name: text for name, value in summary.items() if name not in hidden and (text := shown(value))}
    notes = known.get("notes")
    facts.notes += map(str, notes) if isinstance(notes, list) else []
    if (folder / "selection.h5").is_file():
        try:
            facts.notes += read_findings(folder / "selection.h5").notes
        except SpiError as error:
            facts.notes.append(str(error))
    facts.key = _scores(folder, facts) or [
        KeyFigure(name[0].upper() + name[1:], shown(known[name])) for name in COUNTS[facts.kind] if name in known
    ]
    facts.chosen = _selected(folder, facts)[:MOST]
    for name, dotted in SETTINGS:
        value: Any = config
        for key in dotted.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        if value is not None and not isinstance(value, dict):
            facts.settings[name] = str(value).rpartition(".")[2] if dotted.endswith("_target_") else shown(value)
    facts.selections = _steps(folder, facts)
    facts.notes = list(dict.fromkeys(facts.notes))
    return facts


def shown(value: Any) -> str:
    """A value of a config or a summary as a person reads it; empty for None and for what is empty."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.4g}"
        case dict():
            return ", ".join(f"{key} {shown(each)}" for key, each in value.items())
        case list():
            return ", ".join(shown(each) for each in value)
    return str(value)


def _kind(folder: Path) -> str:
    for file, kind in KINDS:
        if (folder / file).is_file():
            return kind
    if not folder.is_dir():
        raise SpiError(f"run: {folder} is no folder. Give the run folder of spi-train, spi-predict or another command.")
    raise SpiError(
        f"run: {folder} is not the run folder of a training, prediction, simulation, inspection or selection that left "
        f"results: it has none of {', '.join(file for file, _ in KINDS)}. Give one that has, or let the job finish."
    )


def _about(facts: Facts, folder: Path, status: dict[str, Any], origin: dict[str, Any]) -> None:
    started, ended = (_moment(status.get(name)) for name in ("started", "ended"))
    if started is not None:
        facts.about["Started"] = f"{started:%d %B %Y, %H:%M} {started.tzname() or ''}".strip()
    if started is not None and ended is not None:
        facts.about["Took"] = str(ended - started)
    state = str(status.get("state", "complete"))
    if state not in ("complete", "running"):
        facts.failure = f"This run {state}. {status.get('error', '')}".strip()
    elif state == "running" and status.get("process") != os.getpid():
        facts.failure = "This run was not complete when this page was written."
    if command := origin.get("command"):
        facts.about["Command"] = shown(command).replace(", ", " ") if isinstance(command, list) else str(command)
    if commit := origin.get("commit"):
        changed = " with uncommitted changes" if (folder / "uncommitted.diff").is_file() else ""
        facts.about["Commit"] = f"{commit}{changed}"
    if isinstance(versions := origin.get("versions"), dict):
        wanted = ("spi-lightning", "python", "torch", "pytorch-lightning", "numpy")
        facts.about["Versions"] = ", ".join(f"{name} {versions[name]}" for name in wanted if name in versions)
    if machine := shown(origin.get("machine")):
        facts.about["Machine"] = machine
    data = origin.get("data", origin.get("fingerprint"))
    labels = origin.get("labels") if facts.kind == "Training" else None  # an inspection records words there
    for name, value in (("Data fingerprint", data), ("Labels fingerprint", labels)):
        fingerprint = value.get("fingerprint") if isinstance(value, dict) else value
        if isinstance(fingerprint, str):
            facts.about[name] = fingerprint


def _scores(folder: Path, facts: Facts) -> list[KeyFigure]:
    """How good a training is: by the test set, or by cross-validation where there is none."""
    for file, what in (("test", "test set"), ("cross_validation", "cross-validation")):
        rows = _rows(folder / "tables" / f"{file}.csv", ("by", "quantity", "value"), facts)
        found = []
        for row in rows:
            if row["by"] == "labels" and row["quantity"] in SCORES and row["value"]:
                beside = f"{_three(row['low'])}–{_three(row['high'])}" if row.get("low") and row.get("high") else ""
                paper = f"paper {_three(row['paper'])}" if row.get("paper") else ""
                text = " · ".join(part for part in (beside, paper) if part)
                found.append(KeyFigure(f"{SCORES[row['quantity']]}, {what}", _three(row["value"]), text))
        if found:
            return found
    return []


def _selected(folder: Path, facts: Facts) -> list[KeyFigure]:
    """How many patterns each selection holds, and its contrast."""
    rows = _rows(folder / "tables" / "selections.csv", ("selection", "patterns", "contrast"), facts)
    return [
        KeyFigure(
            row["selection"],
            row["patterns"],
            f"patterns · γ {_three(row['contrast'])}" if row["contrast"] else "patterns",
        )
        for row in rows
    ]


def _steps(folder: Path, facts: Facts) -> list[dict[str, Any]]:
    """Selections in their order, each with its steps and with the reasons for which patterns were dropped."""
    tables = folder / "tables"
    found: dict[str, dict[str, Any]] = {}
    for key, file, columns in (
        ("steps", "selection_steps.csv", ("selection", "what", "before", "after")),
        ("reasons", "selection_reasons.csv", ("selection", "reason", "patterns")),
    ):
        for row in _rows(tables / file, columns, facts):
            chosen = found.setdefault(row["selection"], {"name": row["selection"], "steps": [], "reasons": []})
            chosen[key].append(row)
    return list(found.values())


def _three(text: str) -> str:
    try:
        return f"{float(text):.3f}"
    except ValueError:
        return text


def _moment(text: Any) -> datetime.datetime | None:
    try:
        return datetime.datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None


def _text(path: Path, facts: Facts) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    except OSError as error:
        facts.notes.append(f"{path.name} cannot be read ({error.strerror}).")
        return ""


def _mapping(path: Path, parse: Callable[[str], Any], facts: Facts) -> dict[str, Any]:
    """A JSON or YAML file that holds a mapping."""
    if not (text := _text(path, facts)):
        return {}
    try:
        content = parse(text)
    except (ValueError, yaml.YAMLError) as error:
        facts.notes.append(f"{path.name} cannot be read: {' '.join(str(error).split())}")
        return {}
    if not isinstance(content, dict):
        facts.notes.append(f"{path.name} cannot be read: it holds no names and values.")
        return {}
    return content


def _rows(path: Path, columns: tuple[str, ...], facts: Facts) -> list[dict[str, str]]:
    """A CSV file that has these columns at least."""
    try:
        rows = [*csv.DictReader(_text(path, facts).splitlines())]
    except csv.Error as error:
        facts.notes.append(f"{path.name} cannot be read: {error}.")
        return []
    if rows and any(row.get(name) is None for row in rows for name in columns):
        facts.notes.append(f"{path.name} cannot be read: it needs the columns {', '.join(columns)} in every row.")
        return []
    return rows
