from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from spi_lightning.augmentation.batched import BatchedPipeline
from spi_lightning.augmentation.pipeline import NoAugmentation
from spi_lightning.augmentation.settings import Cutout, Transforms
from spi_lightning.augmentation.with_batchgenerators import BatchgeneratorsPipeline
from spi_lightning.config.check import checked
from spi_lightning.errors import SpiError
from tests.unit.augmentation.alone import NAMES

CONF = Path(__file__).resolve().parents[3] / "conf" / "augmentation"


def load(name: str) -> dict[str, Any]:
    return OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml"))  # type: ignore[return-value]


def test_the_config_and_the_code_have_the_same_defaults() -> None:
    assert checked(Transforms, load("base")["transforms"]) == Transforms()


def test_the_config_names_every_setting() -> None:
    assert load("base")["transforms"] == json.loads(json.dumps(dataclasses.asdict(Transforms())))


@pytest.mark.parametrize(
    ("name", "kind"),
    [("batched", BatchedPipeline), ("batchgenerators", BatchgeneratorsPipeline), ("none", NoAugmentation)],
)
def test_each_choice_names_its_pipeline(name: str, kind: type) -> None:
    assert load(name)["_target_"] == f"{kind.__module__}.{kind.__name__}"


@pytest.mark.parametrize(
    ("block", "change", "words"),
    [
        *((name, {"probability": 1.2}, [f"{name}.probability", "1.2", "between 0"]) for name in NAMES),
        ("gamma", {"inverted_probability": -0.1}, ["gamma.inverted_probability", "-0.1"]),
        ("rotation", {"degrees": [30.0, -30.0]}, ["rotation.degrees", "[30.0, -30.0]", "lowest"]),
        ("scaling", {"factor": [1.1, 1.4]}, ["scaling.factor", "between 0.1 and 1"]),
        ("scaling", {"factor": [0.0, 1.4]}, ["scaling.factor"]),
        ("elastic", {"alpha": [-1.0, 5.0]}, ["elastic.alpha", "from 0"]),
        ("elastic", {"sigma": [0.0, 5.0]}, ["elastic.sigma", "from 1"]),
        ("gamma", {"exponent": [0.01, 1.5]}, ["gamma.exponent", "0.1"]),
        ("noise", {"sd": [-0.1, 0.1]}, ["noise.sd"]),
        ("blur", {"sigma": [0.0, 1.0]}, ["blur.sigma", "from 0.1"]),
        ("mirroring", {"axes": []}, ["mirroring.axes", "[rows, columns]"]),
        ("mirroring", {"axes": ["rows", "rows"]}, ["mirroring.axes"]),
        ("shift", {"sd": -1.0}, ["shift.sd", "-1.0"]),
        ("cutout", {"rectangles": [0, 3]}, ["cutout.rectangles"]),
        ("cutout", {"rectangles": [4, 3]}, ["cutout.rectangles"]),
        ("cutout", {"side": [0.1, 1.0]}, ["cutout.side", "0.9"]),
    ],
)
def test_a_wrong_setting_is_named(block: str, change: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(SpiError) as error:
        checked(Transforms, {block: change}, "augmentation.transforms")
    assert all(word in str(error.value) for word in words), str(error.value)


@pytest.mark.parametrize("name", NAMES)
def test_a_transform_that_is_left_out_never_happens_and_the_others_stay(name: str) -> None:
    left, whole = Transforms(leave_out=name), Transforms()
    assert getattr(left, name).probability == 0
    assert left.gamma.inverted_probability == (0 if name == "gamma" else whole.gamma.inverted_probability)
    assert all(getattr(left, other) == getattr(whole, other) for other in NAMES if other != name)


def test_all_transforms_can_be_left_out() -> None:
    patterns = torch.rand(8, 1, 12, 10)
    mask = torch.ones(12, 10, dtype=torch.bool)
    pipeline = BatchedPipeline(Transforms(leave_out="all"))
    torch.testing.assert_close(pipeline(patterns, mask, 0.0, 1), patterns)


@pytest.mark.parametrize("order", [-1, 6])
def test_splines_have_an_order_from_0_to_5(order: int) -> None:
    with pytest.raises(SpiError, match="order"):
        BatchgeneratorsPipeline(Transforms(), order)


def test_sides_of_cutouts_in_pixels() -> None:
    assert Cutout().pixels(192) == (19, 64)
    assert Cutout().pixels(96) == (10, 32)
    assert Cutout().pixels(3) == (1, 1)
