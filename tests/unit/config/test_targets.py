"""The one door through which a config names code."""

from __future__ import annotations

from pathlib import Path

import pytest

from spi_lightning.config.targets import instantiate
from spi_lightning.errors import SpiError
from spi_lightning.simulation.particles import Spheroid

SIZE = {"distribution": "normal", "centre": 70.0, "spread": 1.0, "low": 50.0, "high": 90.0}
GOOD = {
    "_target_": "spi_lightning.simulation.particles.Spheroid",
    "diameter": SIZE,
    "aspect": [1.0, 1.0],
    "density": 400.0,
    "roughness": 0.0,
}


def test_what_is_on_the_list_is_built() -> None:
    built = instantiate(GOOD, "simulate.particles.ball", "particle")
    assert isinstance(built, Spheroid)
    assert built.aspect == (1.0, 1.0)


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "code.InteractiveInterpreter",
        "torch.load",
        "hydra.utils.instantiate",
        "spi_lightning.config.targets.instantiate",
        "spi_lightning.simulation.particles.np.load",
        "spi_lightning.simulation.particles.draw_size",
        "spi_lightning.simulation.particles.__builtins__",
        "",
    ],
)
def test_what_is_not_on_the_list_is_refused_and_does_not_run(target: str, tmp_path: Path) -> None:
    proof = tmp_path / "ran"
    with pytest.raises(SpiError, match="not on the list"):
        instantiate({"_target_": target, "command": f"touch {proof}"}, "simulate.particles.ball", "particle")
    assert not proof.exists()


def test_a_missing_target_and_wrong_fields_are_told() -> None:
    with pytest.raises(SpiError, match="the class to build is missing"):
        instantiate({}, "simulate.particles.ball", "particle")
    with pytest.raises(SpiError, match=r"simulate\.particles\.ball\.densty: .* Did you mean 'density'\?"):
        instantiate({**GOOD, "densty": 1.0}, "simulate.particles.ball", "particle")
    with pytest.raises(SpiError, match=r"Did you mean 'spi_lightning\.simulation\.particles\.Spheroid'"):
        instantiate({**GOOD, "_target_": "spi_lightning.simulation.particles.Sphroid"}, "ball", "particle")


NETWORK = {"_target_": "spi_lightning.models.small_cnn.SmallCNN", "filters": [4, 8]}


def test_a_class_is_built_from_its_typed_parameters() -> None:
    built = instantiate(NETWORK, "model", "model")
    assert built.head.in_features == 8
    with pytest.raises(SpiError, match=r"model\.filter: there is no such key\. Did you mean 'filters'\?"):
        instantiate({"_target_": NETWORK["_target_"], "filter": [4]}, "model", "model")
    with pytest.raises(SpiError, match=r"model\.filters\.0: found 'many'"):
        instantiate({**NETWORK, "filters": ["many"]}, "model", "model")
    with pytest.raises(SpiError, match=r"model: .*positive numbers|model\.filters is \[0\]"):
        instantiate({**NETWORK, "filters": [0]}, "model", "model")


@pytest.mark.parametrize(
    "target",
    [
        "spi_lightning.simulation.particles.Rod",
        "spi_lightning.models.preact_resnet.Block",
        "spi_lightning.models.small_cnn.nn.Linear",
        "spi_lightning.training.losses.Focal",
    ],
)
def test_a_role_has_its_own_list(target: str) -> None:
    with pytest.raises(SpiError, match="not on the list"):
        instantiate({"_target_": target}, "model", "model")
