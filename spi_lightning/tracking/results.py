"""What the folder of a training holds for loggers: settings, facts, tables, figures, final numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from spi_lightning.config.sweep import RECORD
from spi_lightning.records import finite_number, flat, readable_mapping, rows_of
from spi_lightning.tracking.run import About, Place, Results

FACTS = ("commit", "data", "labels", "device", "training patterns", "test patterns")
NAMES = {"data": "data fingerprint", "labels": "labels fingerprint"}
# Of tables/test.csv and cross_validation.csv, by whose labels → beginning of a metric's name.
JUDGED = {"test": {"labels": "test", "truth": "test by truth"}, "cross_validation": {"labels": "cross-validation"}}
QUANTITIES = ("f1", "precision", "recall", "average_precision", "auroc")
OF_SELECTIONS = ("contrast", "patterns", "diameter")
# Settings by which trainings that are no jobs of one sweep are told apart.
TELLING = (
    *("model._target_", "loss._target_", "augmentation._target_", "sampler.single_share", "sampler.batch_size"),
    *("optimizer.lr", "trainer.epochs", "seed"),
)


def about(place: Place) -> About:
    """What is known of a run before it starts, from its ``config.yaml`` and ``provenance.json``."""
    path = place.run / "config.yaml"
    own = readable_mapping(place.folder / "provenance.json") or readable_mapping(place.run / "provenance.json")
    facts = {NAMES.get(name, name): own[name] for name in FACTS if own.get(name) is not None}
    facts |= {"group": place.group, "folder": str(place.folder)}
    facts["checkpoint"] = str(place.folder / ("ensemble" if place.fold is None else "last.ckpt"))
    return About(_config(path), path, facts)


def results(place: Place) -> Results:
    """What a finished training has left in its folder."""
    return Results(
        metrics=_metrics(place.run / "tables"),
        settings=_settings(place),
        tables={path.stem: path for path in sorted((place.run / "tables").glob("*.csv"))},
        figures={path.stem: path for path in sorted((place.run / "figures").glob("*.png"))},
    )


def _metrics(tables: Path) -> dict[str, float]:
    found: dict[str, str] = {}
    for table, kinds in JUDGED.items():
        for row in rows_of(tables / f"{table}.csv"):
            if row["by"] in kinds and row["quantity"] in QUANTITIES:
                found[f"{kinds[row['by']]}/{row['quantity']}"] = row["value"]
    for row in rows_of(tables / "selections.csv"):
        found |= {f"{quantity}/{row['selection']}": row[quantity] for quantity in OF_SELECTIONS}
    numbers = {name: finite_number(value) for name, value in found.items()}
    return {name: value for name, value in numbers.items() if value is not None}


def _settings(place: Place) -> dict[str, str | int | float | bool]:
    """The swept settings of a job of a sweep; of other trainings those that most often differ."""
    values = flat(_config(place.run / "config.yaml"))
    if place.sweep is not None:
        name = place.run.relative_to(place.sweep).as_posix()
        swept = [
            job.get("overrides", {})
            for job in readable_mapping(place.sweep / RECORD).get("jobs", [])
            if job.get("folder") == name
        ]
        if swept:
            return {key: _scalar(values.get(key, text)) for key, text in swept[-1].items() if key != "fold"}
    return {key: _scalar(values[key]) for key in TELLING if key in values}


def _scalar(value: Any) -> str | int | float | bool:
    return value if isinstance(value, str | int | float | bool) else str(value)


def _config(path: Path) -> dict[str, Any]:
    values = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    return {str(key): value for key, value in values.items()} if isinstance(values, dict) else {}
