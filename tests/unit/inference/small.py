"""An ensemble small enough for tests, with random weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from spi_lightning.config.targets import instantiate
from spi_lightning.data.normalisation import Normalisation
from spi_lightning.inference.ensemble import Ensemble, TrainedOn, ready
from spi_lightning.inference.mirroring import MIRRORS
from spi_lightning.inference.thresholds import ThresholdSettings

ARCHITECTURE: dict[str, Any] = {
    "_target_": "spi_lightning.models.preact_resnet.PreActResNet",
    "filters": [4, 8],
    "blocks": [1, 1],
    "strides": [[1, 1], [2, 2]],
    "activation": "leaky_relu",
    "norm": "batch",
}
SHAPE = (24, 30)  # of the patterns of tests/unit/patterns/fake_run.py


def small_ensemble(how_many: int = 3, shape: tuple[int, int] = SHAPE, **changes: Any) -> Ensemble:
    """Every network has weights of its own, and batch statistics unlike those of a new one."""
    torch.manual_seed(7)
    members = [instantiate(ARCHITECTURE, "model", "model") for _ in range(how_many)]
    for member in members:
        for module in member.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.running_mean, 0.1, 0.1)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
    values: dict[str, Any] = {
        "networks": tuple(ready(member) for member in members),
        "architecture": ARCHITECTURE,
        "normalisation": Normalisation("none", 0.342, 2.336),
        "mirrors": MIRRORS,
        "threshold": 0.5,
        "chosen_by": ThresholdSettings(),
        "trained_on": TrainedOn(shape, None, {"crop": {"shape": None, "binning": 1}}, "data" * 16, "labels" * 8),
        "description": {"experiment": "a test"},
    }
    return Ensemble(**(values | changes))
