"""Transforms one at a time."""

from __future__ import annotations

import dataclasses
from typing import Any, get_args

from spi_lightning.augmentation.settings import Transform, Transforms

NAMES = get_args(Transform)


def only(**chosen: dict[str, Any]) -> Transforms:
    """Transforms that never happen, but those named, which always do unless their settings say otherwise."""
    blocks = {}
    for name in NAMES:
        block = getattr(Transforms(), name)
        settings = {"probability": 1.0 if name in chosen else 0.0} | chosen.get(name, {})
        if name == "gamma":
            settings = {"inverted_probability": 0.0} | settings
        blocks[name] = dataclasses.replace(block, **settings)
    return Transforms(**blocks)


def always() -> Transforms:
    """Every transform on every pattern."""
    return only(**({name: {} for name in NAMES} | {"gamma": {"inverted_probability": 1.0}}))
