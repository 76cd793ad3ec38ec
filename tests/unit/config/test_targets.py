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
    built = instantiate(GOOD, "simulate.particles.ball")
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
        instantiate({"_target_": target, "command": f"touch {proof}"}, "simulate.particles.ball")
    assert not proof.exists()


def test_a_missing_target_and_wrong_fields_are_told() -> None:
    with pytest.raises(SpiError, match="the class to build is missing"):
        instantiate({}, "simulate.particles.ball")
    with pytest.raises(SpiError, match=r"simulate\.particles\.ball\.densty: .* Did you mean 'density'\?"):
        instantiate({**GOOD, "densty": 1.0}, "simulate.particles.ball")
    with pytest.raises(SpiError, match=r"Did you mean 'spi_lightning\.simulation\.particles\.Spheroid'"):
        instantiate({**GOOD, "_target_": "spi_lightning.simulation.particles.Sphroid"}, "simulate.particles.ball")
