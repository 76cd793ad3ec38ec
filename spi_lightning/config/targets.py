"""The one door through which a config may name code (``_target_``).

A config can come from anywhere, so it may build only what is listed here: public classes of these modules and packages,
and of modules that an installed package registers under the entry point group ``spi_lightning.targets``. Nothing that a
config or a command line says can add to the list.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import inspect
import pkgutil
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from spi_lightning.config.check import checked
from spi_lightning.errors import SpiError, nearest

# What stands where in a config: the modules, and packages with all their modules, whose classes may be built there.
ALLOWED = {
    "particle": ("spi_lightning.simulation.particles",),
    "augmentation": ("spi_lightning.augmentation",),
    "model": ("spi_lightning.models",),
    "loss": ("spi_lightning.training.losses",),
    "optimizer": ("spi_lightning.training.optimizers",),
    "scheduler": ("spi_lightning.training.schedules",),
    "callback": ("spi_lightning.callbacks",),
    "step": ("spi_lightning.selection.steps",),
    "logger": ("spi_lightning.tracking",),
}
MARKS = {
    "augmentation": "in_workers",
    "callback": "state_key",
    "step": "verdict",
    "logger": "package",
}  # what tells the classes that are meant from those that they are made of
ENTRY_POINTS = "spi_lightning.targets"  # name = "module"


def allowed_modules(role: str) -> tuple[str, ...]:
    """Modules whose public classes a config may name where it describes a ``role``."""
    ours = [module for name in ALLOWED[role] for module in (_modules_of(name) or [name])]
    return (*ours, *_registered())


@cache
def _registered() -> tuple[str, ...]:
    """Modules of other packages; looking for them takes longer than all else of a check."""
    return tuple(point.value for point in entry_points(group=ENTRY_POINTS))


def instantiate(block: dict[str, Any], key: str, role: str) -> Any:
    """Build the object that a config block describes.

    Args:
        block: ``_target_`` and the fields of the dataclass, or the parameters of the class, that it names.
        key: where the block stands in the config, for messages.
        role: what it describes, one of :data:`ALLOWED`.

    Raises:
        SpiError: the target is missing, not on the list, or does not take these fields.
    """
    kind, fields = check_target(block, key, role)
    if dataclasses.is_dataclass(kind):
        return fields
    values = {field.name: getattr(fields, field.name) for field in dataclasses.fields(fields)}
    with _placed(key):
        return kind(**values)


def check_target(block: dict[str, Any], key: str, role: str) -> tuple[type[Any], Any]:
    """Check a config block without building what may be large.

    Returns:
        The class, and its checked parameters: the object itself where the class is a dataclass.

    Raises:
        SpiError: as :func:`instantiate`.
    """
    target = block.get("_target_")
    if not isinstance(target, str):
        raise SpiError(f"{key}._target_: the class to build is missing. One of: {', '.join(_targets(role))}.")
    module, _, name = target.rpartition(".")
    kind = _public_classes(module, role).get(name) if module in allowed_modules(role) else None
    if kind is None:
        raise SpiError(
            f"{key}._target_: '{target}' is not on the list of what a config may build."
            f"{nearest(target, _targets(role))} Allowed: {', '.join(_targets(role))}. A package adds its own with "
            f"the entry point group '{ENTRY_POINTS}'."
        )
    with _placed(key):
        return kind, checked(parameters_of(kind), {k: v for k, v in block.items() if k != "_target_"}, key)


def parameters_of(kind: type[Any]) -> type[Any]:
    """The dataclass itself, or one made of the parameters of a class, whose types its constructor must give."""
    if dataclasses.is_dataclass(kind):
        return kind
    hints = typing.get_type_hints(kind.__init__)
    fields: list[Any] = []
    for name, parameter in list(inspect.signature(kind).parameters.items()):
        given = () if parameter.default is parameter.empty else (dataclasses.field(default=parameter.default),)
        fields.append((name, hints[name], *given))
    return dataclasses.make_dataclass(kind.__name__, fields)


@contextmanager
def _placed(key: str) -> Iterator[None]:
    """What a class itself refuses does not know where in the config it stands: say so."""
    try:
        yield
    except SpiError as error:
        text = str(error)
        raise SpiError(text if text.startswith(key) else f"{key}: {text}") from None


def _public_classes(module: str, role: str) -> dict[str, type[Any]]:
    members = vars(importlib.import_module(module))
    public = members.get("__all__", [name for name in members if not name.startswith("_")])
    classes = {name: members[name] for name in public if inspect.isclass(members[name])}
    mark = MARKS.get(role, "__module__")
    return {name: kind for name, kind in classes.items() if kind.__module__ == module and hasattr(kind, mark)}


def _targets(role: str) -> list[str]:
    return [f"{module}.{name}" for module in allowed_modules(role) for name in _public_classes(module, role)]


def _modules_of(package: str) -> list[str]:
    """Its modules, or nothing where it is a module itself."""
    spec = importlib.util.find_spec(package)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    return [f"{package}.{module.name}" for module in pkgutil.iter_modules(folders)]
