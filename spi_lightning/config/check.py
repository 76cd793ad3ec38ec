"""Check a composed config against plain dataclasses, and say in a sentence what is wrong."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from typing import Any, TypeVar

from spi_lightning.errors import SpiError, nearest

T = TypeVar("T")


def checked(kind: type[T], values: Any, key: str = "") -> T:
    """Build the dataclass ``kind`` from a config block, strictly: no unknown key, no silent change of type.

    Args:
        kind: a dataclass; its fields may hold further ones.
        values: dicts, lists and scalars, as a resolved config holds them.
        key: where the block stands in the config, for messages.

    Raises:
        SpiError: names every offending key, what was found and the nearest valid name.
    """
    import pydantic

    _forbid_unknown(kind)
    try:
        # In JSON a list may become a tuple; in strict Python mode it may not.
        return pydantic.TypeAdapter(kind).validate_json(json.dumps(values), strict=True)
    except pydantic.ValidationError as error:
        lines = [_explain(kind, detail, key) for detail in error.errors(include_url=False)]
        raise SpiError("\n".join(lines)) from None


def fields_at(kind: Any, path: tuple[str | int, ...]) -> list[str]:
    """Names of the fields of the dataclass that stands at ``path`` inside ``kind``; empty where there is none."""
    for step in path:
        kind = _inside(kind, step)
    kind = _without_none(kind)
    return [field.name for field in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else []


def _inside(kind: Any, step: str | int) -> Any:
    """The type that stands behind a field's name, a dict's key or a list's place."""
    kind = _without_none(kind)
    if dataclasses.is_dataclass(kind):
        return typing.get_type_hints(kind).get(str(step))
    arguments = [argument for argument in typing.get_args(kind) if argument is not Ellipsis]
    return arguments[-1] if arguments else None


def _without_none(kind: Any) -> Any:
    """X of ``X | None``; other types as they are."""
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        return next(option for option in typing.get_args(kind) if option is not type(None))
    return kind


def _explain(kind: Any, detail: Any, key: str) -> str:
    path = detail["loc"]
    where = ".".join([*([key] if key else []), *(str(step) for step in path)])
    found = detail["input"]
    if detail["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        valid = fields_at(kind, path[:-1])
        return f"{where}: there is no such key.{nearest(str(path[-1]), valid)} Valid here: {', '.join(valid)}."
    if detail["type"] in ("missing", "missing_argument"):
        return f"{where}: this key is missing from the config."
    return f"{where}: found {found!r} ({type(found).__name__}). {detail['msg']}."


def _forbid_unknown(kind: Any) -> None:
    """Tell pydantic, on the dataclass itself and on all within it, to refuse unknown keys."""
    for option in [kind, *typing.get_args(kind)]:
        if dataclasses.is_dataclass(option) and isinstance(option, type):
            if "__pydantic_config__" not in vars(option):
                option.__pydantic_config__ = {"extra": "forbid"}  # type: ignore[attr-defined]
                for hint in typing.get_type_hints(option).values():
                    _forbid_unknown(hint)
        elif option is not kind:
            _forbid_unknown(option)
