"""Reading what jobs have left: names and values in JSON, tables in CSV, the settings of a config."""

from __future__ import annotations

import csv
import json
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

from spi_lightning.errors import SpiError


def mapping_of(path: Path) -> dict[str, Any]:
    """A JSON file that holds a mapping; empty where it is missing.

    Raises:
        SpiError: it is damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise SpiError(f"{path} cannot be read ({error}). Restore it, or remove it to do without.") from None
    if not isinstance(content, dict):
        raise SpiError(f"{path} is damaged: it holds no names and values. Restore it, or remove it to do without.")
    return content


def readable_mapping(path: Path) -> dict[str, Any]:
    """The same, for what can do without: empty also where the file is damaged."""
    with suppress(SpiError):
        return mapping_of(path)
    return {}


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a table, a text for each column; none where the file is missing.

    Raises:
        SpiError: it is no CSV.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = [*csv.DictReader(file, restkey="")]
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SpiError(f"{path} cannot be read as a table ({error}). Restore it, or remove it to do without.") from None
    return [{name: value or "" for name, value in row.items() if name} for row in rows]


def flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values of a config by keys such as ``trainer.epochs``; lists and empty blocks are values."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict) and value:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def finite_number(text: Any) -> float | None:
    """The number that a text stands for; None where it is none, or not finite."""
    try:
        number = float(text)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
