from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from spi_lightning.config.launch import conf_folder
from spi_lightning.errors import SpiError
from spi_lightning.inference.preparation import as_trained
from spi_lightning.patterns.settings import (
    BackgroundSettings,
    CropSettings,
    LabelSettings,
    PhotonSettings,
    PrepareSettings,
)

TRAINED = PrepareSettings(
    mask_file="mask.npy",
    mask_kind="bad",
    photons=PhotonSettings("gain", 7.8, 1.5, 0.6),
    background=BackgroundSettings("level", 20, 0.4),
    crop=CropSettings((48, 60), "half", 2, 0.5),
    labels=LabelSettings("labels.csv", None, "classes"),
    sample_frames=17,
)


def shipped() -> dict[str, Any]:
    """``prepare`` of conf/data/as_trained.yaml."""
    return yaml.safe_load((Path(conf_folder()) / "data/as_trained.yaml").read_text())["prepare"]


def test_null_is_as_in_training_but_for_what_belongs_to_its_files() -> None:
    found = as_trained(dataclasses.asdict(TRAINED), shipped())
    assert found == dataclasses.replace(
        TRAINED, mask_file=None, mask_kind="auto", labels=LabelSettings(), sample_frames=1000
    )


def test_the_shipped_file_has_every_key() -> None:
    expected = dataclasses.asdict(PrepareSettings())
    given = shipped()
    assert set(given) == set(expected)
    assert {name: set(v) for name, v in given.items() if isinstance(v, dict)} == {
        name: set(v) for name, v in expected.items() if isinstance(v, dict)
    }


def test_what_is_given_goes_first() -> None:
    given = shipped()
    given["crop"]["binning"] = 4
    given["labels"]["path"] = "new.csv"
    given["mask_file"] = "new.npy"
    given["sample_frames"] = None
    found = as_trained(dataclasses.asdict(TRAINED), given)
    assert found.crop == CropSettings((48, 60), "half", 4, 0.5)
    assert found.labels.path == "new.csv"
    assert found.mask_file == "new.npy"
    assert found.sample_frames is None


def test_with_another_mode_a_section_starts_from_the_defaults() -> None:
    given = shipped()
    given["photons"]["mode"] = "none"
    given["photons"]["threshold"] = 0.5
    found = as_trained(dataclasses.asdict(TRAINED), given)
    assert found.photons == PhotonSettings("none", None, 0.0, 0.5)
    assert found.background == TRAINED.background
    given["photons"]["mode"] = "gain"
    assert as_trained(dataclasses.asdict(TRAINED), given).photons == PhotonSettings("gain", 7.8, 1.5, 0.5)


def test_what_cannot_be_is_told() -> None:
    trained = dataclasses.asdict(TRAINED)
    with pytest.raises(SpiError, match=r"data\.prepare\.crop\.binning: found 'two'"):
        as_trained(trained, {"crop": {"binning": "two"}})
    with pytest.raises(SpiError, match=r"data\.prepare\.crop\.binnning: .* Did you mean 'binning'"):
        as_trained(trained, {"crop": {"binnning": 2}})
    with pytest.raises(SpiError, match=r"data\.prepare\.photons: found 5"):
        as_trained(trained, {"photons": 5})
