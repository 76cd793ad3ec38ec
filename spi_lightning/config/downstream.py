"""What train, predict and select have in common in their configs: callbacks, steps, and the selections made of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spi_lightning.config.targets import check_target, instantiate
from spi_lightning.errors import SpiError, nearest
from spi_lightning.selection.names import file_name

LONGEST = 80  # characters of a selection's name
Block = dict[str, Any]
Callbacks = dict[str, Block | None]
Steps = dict[str, Block]
Selections = dict[str, tuple[Any, ...] | None]


def check_downstream(callbacks: Callbacks, steps: Steps, selections: Selections) -> None:
    """Check the three blocks without building anything.

    Args:
        callbacks: by name, what a config says of each; None for one that is switched off.
        steps: by name, what a config says of each.
        selections: by name, the steps of each in order: names, or ``{NAME: {KEY: VALUE}}`` for one with values of its
            own; None for a selection that is left out.

    Raises:
        SpiError: a class is not on the list, a key or value is wrong, or a selection names a step that is not there.
    """
    for name, step in steps.items():
        check_target(step, f"steps.{name}", "step")
    plans_of(selections, steps)
    for name, block in callbacks.items():
        if block is not None:
            check_target(block, f"callbacks.{name}", "callback")


def callbacks_of(blocks: Callbacks) -> list[Any]:
    """The Lightning callbacks that are switched on, in order."""
    return [instantiate(block, f"callbacks.{name}", "callback") for name, block in blocks.items() if block is not None]


def plans_of(selections: Selections, steps: Steps) -> dict[str, list[tuple[str, Any]]]:
    """The steps of every selection, each with its name.

    Raises:
        SpiError: as :func:`check_downstream`.
    """
    files: dict[str, str] = {}
    for name in selections:
        if not name.isprintable() or not 1 <= len(name) <= LONGEST:
            raise SpiError(f"selections: {name!r} is no name: give 1 to {LONGEST} printable characters.")
        if (other := files.setdefault(file_name(name), name)) != name:
            raise SpiError(f"selections: '{other}' and '{name}' would be written to the same files. Rename one.")
    plans = {name: [_step(entry, f"selections.{name}", steps) for entry in plan] for name, plan in _given(selections)}
    if empty := [name for name, plan in plans.items() if not plan]:
        raise SpiError(f"selections.{empty[0]} has no steps. Give some of {', '.join(steps)}; or null to leave it out.")
    return plans


def _given(selections: Selections) -> list[tuple[str, tuple[Any, ...]]]:
    return [(name, plan) for name, plan in selections.items() if plan is not None]


def _step(entry: Any, key: str, steps: Mapping[str, Block]) -> tuple[str, Any]:
    name, own = next(iter(entry.items())) if isinstance(entry, dict) and len(entry) == 1 else (entry, {})
    if not isinstance(name, str) or not isinstance(own, dict):
        raise SpiError(
            f"{key}: found {entry!r}; a step is given by its name, as size, or with values of its own, as "
            "{size: {smallest: 40}}."
        )
    if name not in steps:
        raise SpiError(f"{key}: there is no step '{name}'.{nearest(name, steps)} There are: {', '.join(steps)}.")
    return name, instantiate({**steps[name], **own}, f"{key}.{name}", "step")
