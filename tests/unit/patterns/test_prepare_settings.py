from __future__ import annotations

import dataclasses
from pathlib import Path

import pydantic
import pytest

from spi_lightning.config.compose import composed
from spi_lightning.config.schema import InspectConfig
from spi_lightning.errors import SpiError
from spi_lightning.patterns.settings import PrepareSettings

ADAPTER = pydantic.TypeAdapter(PrepareSettings)


def test_a_config_becomes_settings():
    settings = ADAPTER.validate_python(
        {
            "photons": {"mode": "gain", "gain": 7.8},
            "crop": {"shape": [192, 96], "plane": "half"},
            "labels": {"path": "singles.csv"},
            "sample_frames": None,
        }
    )
    assert settings.crop.shape == (192, 96)
    assert settings.photons.gain == 7.8
    assert settings.sample_frames is None
    assert ADAPTER.validate_python({}) == PrepareSettings()
    assert ADAPTER.validate_python(dataclasses.asdict(settings)) == settings


def test_the_config_that_is_shipped_says_what_the_settings_do():
    """Where they differ, spi-inspect takes the defaults for a choice of the user's."""
    conf = Path(__file__).resolve().parents[3] / "conf"
    config = composed("inspect", conf, InspectConfig, ["data.path=any.cxi"])
    assert config.data.prepare == PrepareSettings()


@pytest.mark.parametrize(
    "config",
    [{"phtons": {}}, {"crop": {"shpae": [1, 1]}}, {"photons": {"mode": "gian"}}, {"crop": {"shape": [1, 2, 3]}}],
)
def test_names_and_types_are_checked_by_the_config(config: dict):
    with pytest.raises(pydantic.ValidationError):
        ADAPTER.validate_python(config)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"photons": {"mode": "gain"}}, "photons.gain is None"),
        ({"photons": {"mode": "gain", "gain": -1}}, r"photons.gain is -1"),
        (
            {"photons": {"mode": "none", "gain": 3}},
            "photons.gain is 3.0; it must be null where data.prepare.photons.mode=none",
        ),
        ({"photons": {"threshold": 0}}, "photons.threshold"),
        ({"photons": {"offset": float("nan")}}, "photons.offset"),
        ({"background": {"maximum": 0}}, "background.maximum"),
        ({"background": {"min_share": 1.5}}, "background.min_share"),
        ({"crop": {"binning": 0}}, "crop.binning"),
        ({"crop": {"shape": [0, 4]}}, "crop.shape"),
        ({"crop": {"shape": [96, 95], "binning": 2}}, "crop.shape.*divisible by data.prepare.crop.binning=2"),
        ({"crop": {"min_good_fraction": 0}}, "crop.min_good_fraction"),
        ({"labels": {"dataset": "labels"}}, "labels.dataset.*labels.path"),
        ({"sample_frames": 0}, "sample_frames"),
    ],
)
def test_ranges_are_checked_wherever_the_settings_come_from(config: dict, expected: str):
    with pytest.raises(SpiError, match=expected):
        ADAPTER.validate_python(config)
