"""What the folder of a training says of how it was made, whatever is left of it."""

from __future__ import annotations

import dataclasses
import datetime
import glob
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spi_lightning.errors import SpiError
from spi_lightning.records import mapping_of

FILES = ("path", "scores")  # what a step may call a file


@dataclass(frozen=True)
class Recorded:
    """A training, as recorded.

    Attributes:
        folder: of the run.
        config: of spi-train, resolved, with what spi-evaluate and spi-select have changed since.
        jobs: ``provenance.json`` of each job that took part: the run's first, then those of folds trained alone.
        uncommitted: changes of the checkout that trained; None where there were none.
        missing: what is not in the folder, and what follows from that, in sentences.
    """

    folder: Path
    config: dict[str, Any]
    jobs: list[dict[str, Any]]
    uncommitted: str | None
    missing: list[str]

    def fact(self, name: str) -> Any:
        """What the first job that knows it recorded; None where none does."""
        return next((facts[name] for facts in self.jobs if facts.get(name) is not None), None)

    def threads_of_folds(self) -> tuple[int, ...] | None:
        """Threads that each fold was trained with; None where that is not known of all."""
        folds = int(self.config["split"]["folds"])
        known = self.fact("threads of each fold")
        threads: list[Any] = list(known) if isinstance(known, list) and len(known) == folds else [None] * folds
        for facts in self.jobs[1:]:
            if facts.get("threads of this fold") and facts["fold"] < folds:
                threads[facts["fold"]] = facts["threads of this fold"]
        return None if None in threads else tuple(int(count) for count in threads)


def read_recorded(folder: Path) -> Recorded:
    """Read what a training has left in its folder; or what was kept of it: ``config.yaml`` and ``tables/`` at least.

    Raises:
        SpiError: it is no such folder; or it holds a part of a run, or one that is not complete; or it is damaged.
    """
    from spi_lightning.commands.parts import read_train_config
    from spi_lightning.config.check import checked
    from spi_lightning.config.train_schema import TrainConfig

    if read_train_config(folder).fold is not None:
        raise SpiError(f"run: {folder} is a fold of a run. Give the folder of the whole: run={folder.parent.parent}.")
    state = mapping_of(folder / "status.json").get("state", "complete")
    evaluated = _ended(folder / "evaluation")
    if state != "complete" and evaluated is None:
        raise SpiError(
            f"run: the training in {folder} is not complete (its status is '{state}'), so that there is nothing to "
            "compare with. Start spi-train again with the same settings, which goes on there."
        )
    if not [*(folder / "tables").glob("*.csv")]:
        raise SpiError(
            f"run: {folder} has no tables/*.csv to compare with. spi-evaluate run={folder} makes them anew where the "
            "folds are still there."
        )
    missing = []
    config, later = _as_evaluated(folder)
    config = dataclasses.asdict(checked(TrainConfig, config))  # with what versions since then have added
    splits = mapping_of(folder / "splits.json")
    jobs: list[dict[str, Any]] = [{key: splits[key] for key in ("data", "labels") if key in splits}]
    jobs[0] |= mapping_of(folder / "provenance.json") | later
    if not (folder / "provenance.json").is_file():
        missing.append("provenance.json is not there: circumstances of the run as a whole are not known.")
    jobs += [mapping_of(file) | {"fold": int(file.parent.name)} for file in _folds(folder)]
    if not (folder / "scores.h5").is_file():
        missing.append("scores.h5 is not there: probabilities are not compared.")
    difference = folder / "uncommitted.diff"
    changes = difference.read_text(encoding="utf-8", errors="replace") if difference.is_file() else None
    return Recorded(folder, config, jobs, changes, missing)


def started_in(recorded: Recorded) -> Path:
    """The folder from which relative paths of a run count, as far as that can be found out.

    It is the one that the run's own folder lies in as its config says; or the one that was recorded; or this one. The
    first in which the patterns are is taken.
    """
    name = Path(str(recorded.config["run"]))
    here = recorded.folder.resolve()
    candidates = []
    for folder in (here, *here.parents):  # a job of a sweep lies in a folder inside of it
        if not name.is_absolute() and name.parts and folder.parts[-len(name.parts) :] == name.parts:
            candidates.append(Path(*folder.parts[: -len(name.parts)]))
    if isinstance(known := recorded.fact("folder"), str):
        candidates.append(Path(known))
    data = recorded.config["data"]["path"]
    first = data if isinstance(data, str) else data[0]
    for candidate in candidates:
        if is_there(first, candidate):
            return candidate
    return Path.cwd()


def is_there(name: str, folder: Path) -> bool:
    """Whether a file of a config is there, or any that a pattern such as ``run*.cxi`` finds.

    Args:
        name: as a config has it; of a dataset in a file (``FILE:/dataset``), the file counts.
        folder: from which relative names count.
    """
    path = os.path.expanduser(name.partition(":/")[0])
    return (folder / path).exists() or bool(glob.glob(path, root_dir=folder))


def files_of(config: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Every file that a training with this config reads: key and path."""
    data = config["data"]
    for path in [data["path"]] if isinstance(data["path"], str) else data["path"]:
        yield "data.path", path
    named = {
        "data.detector": data["detector"],
        "data.prepare.mask_file": data["prepare"]["mask_file"],
        "data.prepare.labels.path": data["prepare"]["labels"]["path"],
        "truth.path": config["truth"]["path"],
    }
    for name, plan in config.get("selections", {}).items():
        for entry in plan or ():
            step, own = next(iter(entry.items())) if isinstance(entry, dict) else (entry, {})
            values = {**config["steps"][step], **own}
            named |= {f"selections.{name}.{step}.{key}": values.get(key) for key in FILES}
    yield from ((key, path) for key, path in named.items() if isinstance(path, str))


def _as_evaluated(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The config behind the tables as they are: what spi-evaluate and spi-select made later counts. And later facts."""
    config, facts = _config(folder), {}
    last = _ended(folder)
    if (evaluated := _ended(folder / "evaluation")) is not None and (last is None or evaluated > last):
        other = _config(folder / "evaluation")
        if (rule := other.get("threshold")) is not None:
            rule = rule if isinstance(rule, dict) else {"rule": "fixed", "value": rule}
            config["ensemble"] = {**config["ensemble"], "threshold": rule}
        if other.get("truth") is not None:
            config["truth"] = {"path": None, "dataset": None, "kind": "auto", **other["truth"]}
        facts = {"threshold": mapping_of(folder / "evaluation" / "provenance.json").get("threshold")}
        last = evaluated
    if (selected := _ended(folder / "selection")) is not None and (last is None or selected > last):
        other = _config(folder / "selection")
        config |= {key: other[key] for key in ("callbacks", "steps", "selections") if key in other}
    return config, facts


def _config(folder: Path) -> dict[str, Any]:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    from spi_lightning.config.earlier import without_retired

    try:
        values = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"), resolve=False)
    except (OSError, ValueError, YAMLError, OmegaConfBaseException) as error:
        raise SpiError(f"{folder / 'config.yaml'} cannot be read ({' '.join(str(error).split())}).") from None
    return dict(without_retired(values)) if isinstance(values, dict) else {}


def _ended(folder: Path) -> datetime.datetime | None:
    """When a job was complete; None where it is not."""
    status = mapping_of(folder / "status.json")
    try:
        return datetime.datetime.fromisoformat(status["ended"]) if status.get("state") == "complete" else None
    except (KeyError, TypeError, ValueError):
        return None


def _folds(folder: Path) -> list[Path]:
    """Records of folds that were trained by jobs of their own."""
    return sorted(path for path in folder.glob("folds/*/provenance.json") if path.parent.name.isdecimal())
