"""What an earlier job left in a run folder, and whether this one may go on there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from spi_lightning.errors import SpiError
from spi_lightning.provenance import write_text

# Settings that do not change a result but for rounding, or that say which part of it to make.
HARMLESS = (
    *("run", "workers", "folds_at_once", "device", "fold", "trainer.threads", "trainer.compile"),
    *("logger", "trainer.log_every", "part", "parts"),
)
# Settings of earlier versions, which mean nothing any more.
RETIRED = ("trainer.tensorboard",)
# Settings that earlier versions did not have, at what those did.
ADDED = {"trainer.devices": 1, "range": 16384}
# Settings of what follows the scores.
DOWNSTREAM = ("callbacks", "steps", "selections", "moresh")
LONGEST = 80  # characters of a value in a message
# What every job writes of itself.
RECORDS = {"config.yaml", "status.json", "provenance.json", "uncommitted.diff", "log.txt", "traceback.txt", "lock"}


def earlier_state(folder: Path, config_yaml: str, may_change: tuple[str, ...] = ()) -> str | None:
    """How an earlier job in this folder went: its state, or None where there was none, or one of its parts alone.

    Args:
        folder: of the run.
        config_yaml: the resolved config of the new job.
        may_change: keys that may differ as long as the earlier job is not complete.

    Raises:
        SpiError: it was a job with other settings, which is not overwritten.
    """
    try:
        before = without_retired(OmegaConf.to_container(OmegaConf.load(folder / "config.yaml")))
        status = folder / "status.json"
        state = str(json.loads(status.read_text(encoding="utf-8"))["state"]) if status.exists() else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, YAMLError, OmegaConfBaseException) as error:
        said = " ".join(str(error).split())
        raise SpiError(
            f"run: what an earlier job left in {folder} cannot be read ({said}). Give another run=FOLDER."
        ) from None
    if state in ("failed", "stopped") and {path.name for path in folder.iterdir()} <= RECORDS:
        return None  # it ended before it made anything
    free = HARMLESS if state == "complete" else HARMLESS + may_change
    changed = _differences(before, OmegaConf.to_container(OmegaConf.create(config_yaml)), free)
    if changed:
        more = f"; and {len(changed) - 3} more" if len(changed) > 3 else ""
        downstream = all(line.startswith(DOWNSTREAM) for line in changed)
        remedy = (
            f"spi-select run={folder} makes other selections" if downstream else "Give another run=FOLDER, or remove it"
        )
        raise SpiError(f"run: {folder} holds a job with other settings ({'; '.join(changed[:3])}{more}). {remedy}.")
    return state


def without_retired(values: Any, prefix: str = "") -> Any:
    """What a config says, without the settings of earlier versions that mean nothing any more."""
    if not isinstance(values, dict):
        return values
    kept = {key: value for key, value in values.items() if f"{prefix}{key}" not in RETIRED}
    return {key: without_retired(value, f"{prefix}{key}.") for key, value in kept.items()}


def claim(folder: Path, config_yaml: str, may_change: tuple[str, ...]) -> None:
    """Let a job that trains one fold belong to a run: the first one says what the run is, the others must agree.

    Args:
        folder: of the whole run; its ``config.yaml`` is written where there is none.
        config_yaml: the resolved config of the job.
        may_change: keys that may differ as long as the run is not complete.

    Raises:
        SpiError: the run has other settings.
    """
    values = OmegaConf.create(config_yaml)
    values.fold = None
    text = OmegaConf.to_yaml(values)
    earlier_state(folder, text, may_change)
    if not (folder / "config.yaml").exists():
        write_text(folder / "config.yaml", text)


def _differences(before: Any, now: Any, free: tuple[str, ...], key: str = "") -> list[str]:
    if key in free:
        return []
    if isinstance(before, dict) and isinstance(now, dict):
        if list(before) != list(now) and set(before) == set(now):
            return [f"the order of {key} has changed"]  # the mixture of a simulation is drawn in this order
        names = [*before, *(name for name in now if name not in before)]
        inner = ((before.get(name), now.get(name), f"{key}.{name}" if key else str(name)) for name in names)
        return [line for old, new, name in inner for line in _differences(old, new, free, name)]
    if before == now or (before is None and key in DOWNSTREAM):  # versions before these had none of them
        return []
    if before is None and key in ADDED and now == ADDED[key]:
        return []
    return [f"{key} is {_short(before)} there and {_short(now)} here"]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
