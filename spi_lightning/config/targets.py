"""The one door through which a config may name code (``_target_``).

A config can come from anywhere, so it may build only what is listed here: classes of these modules, and classes of
modules that an installed package registers under the entry point group ``spi_lightning.targets``. Nothing that a
config or a command line says can add to the list.
"""

from __future__ import annotations

import dataclasses
import importlib
from importlib.metadata import entry_points
from typing import Any

from spi_lightning.config.check import checked
from spi_lightning.errors import SpiError, nearest

ALLOWED_MODULES = ("spi_lightning.simulation.particles",)
ENTRY_POINTS = "spi_lightning.targets"  # name = "module"


def allowed_modules() -> tuple[str, ...]:
    """Modules whose public dataclasses a config may name."""
    return ALLOWED_MODULES + tuple(point.value for point in entry_points(group=ENTRY_POINTS))


def instantiate(block: dict[str, Any], key: str) -> Any:
    """Build the object that a config block describes.

    Args:
        block: ``_target_`` and the fields of the dataclass that it names.
        key: where the block stands in the config, for messages.

    Raises:
        SpiError: the target is missing, not on the list, or does not take these fields.
    """
    target = block.get("_target_")
    if not isinstance(target, str):
        raise SpiError(f"{key}._target_: the class to build is missing. One of: {', '.join(_targets())}.")
    module, _, name = target.rpartition(".")
    if module not in allowed_modules() or target not in _targets():
        raise SpiError(
            f"{key}._target_: '{target}' is not on the list of what a config may build."
            f"{nearest(target, _targets())} Allowed: {', '.join(_targets())}. A package adds its own classes with "
            f"the entry point group '{ENTRY_POINTS}'."
        )
    kind = getattr(importlib.import_module(module), name)
    try:
        return checked(kind, {k: v for k, v in block.items() if k != "_target_"}, key)
    except SpiError as error:  # what the class itself refuses does not know where in the config it stands
        text = str(error)
        raise SpiError(text if text.startswith(key) else f"{key}: {text}") from None


def _targets() -> list[str]:
    names = []
    for module in allowed_modules():
        members = vars(importlib.import_module(module))
        names += [
            f"{module}.{name}"
            for name, member in members.items()
            if dataclasses.is_dataclass(member) and member.__module__ == module and not name.startswith("_")
        ]
    return names
