"""Preparing new patterns as those of the training were."""

from __future__ import annotations

from typing import Any

from spi_lightning.config.check import checked
from spi_lightning.patterns.settings import PrepareSettings

# These belong to the files of the training, not to what the networks have learnt.
NOT_TAKEN = ("mask_file", "mask_kind", "labels", "sample_frames")


def as_trained(trained: dict[str, Any], given: dict[str, Any]) -> PrepareSettings:
    """Settings of the data preparation: what is given, and where that is None, those of the training.

    Where another mode is given than that of the training, the rest of its section (a gain, say) would make no sense:
    what is not given there stands at its default. Masks, labels and the number of frames to look at are as given.

    Args:
        trained: ``data.prepare`` of the training.
        given: ``data.prepare`` now, with None in any place.

    Raises:
        SpiError: a key or value is none of :class:`PrepareSettings`.
    """
    merged = _merged({name: value for name, value in trained.items() if name not in NOT_TAKEN}, given)
    if "sample_frames" in given:  # None means all of them
        merged["sample_frames"] = given["sample_frames"]
    return checked(PrepareSettings, merged, "data.prepare")


def _merged(trained: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    if given.get("mode") not in (None, trained.get("mode")):
        trained = {}
    merged = dict(trained)
    for name, value in given.items():
        if isinstance(value, dict):
            merged[name] = _merged(trained.get(name) or {}, value)
        elif value is not None:
            merged[name] = value
    return merged
