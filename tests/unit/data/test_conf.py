from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from spi_lightning.config.check import checked
from spi_lightning.data.sampler import SamplerSettings
from spi_lightning.data.splits import SplitSettings

CONF = Path(__file__).resolve().parents[3] / "conf"


def choice(group: str, name: str) -> object:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return OmegaConf.to_container(compose(overrides=[f"+{group}={name}"]))[group]  # type: ignore[index,call-overload]


@pytest.mark.parametrize("path", sorted((CONF / "split").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_split_is_valid_and_complete(path: Path) -> None:
    values = choice("split", path.stem)
    assert isinstance(values, dict)
    assert set(values) == set(SplitSettings.__dataclass_fields__)
    assert checked(SplitSettings, values, "split") == SplitSettings(**values)


def test_the_default_and_the_papers_split_are_those_of_the_library() -> None:
    assert checked(SplitSettings, choice("split", "default")) == SplitSettings()
    assert checked(SplitSettings, choice("split", "paper")) == SplitSettings()


@pytest.mark.parametrize(("name", "share"), [("maxf1", 0.02), ("moresh", 0.05), ("uniform", None)])
def test_samplers_differ_in_the_share_of_single_hits_alone(name: str, share: float | None) -> None:
    assert checked(SamplerSettings, choice("sampler", name)) == SamplerSettings(share, 64, 50)
