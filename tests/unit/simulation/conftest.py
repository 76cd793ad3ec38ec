from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch

from spi_lightning.instrument import Instrument
from spi_lightning.simulation.body import Body
from spi_lightning.simulation.particles import IcosahedralVirus, Rod, Spheroid
from spi_lightning.simulation.scenes import Scene
from spi_lightning.simulation.settings import Background, Beam, Detector, Expert, Ingredient, Simulation, Size


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def instrument() -> Instrument:
    """The paper's geometry with a small full plane."""
    return Instrument((64, 64), photon_energy=1700.0, distance=0.130, pixel_size=75e-6, centre=(31.5, 31.5))


@pytest.fixture
def particles() -> dict[str, object]:
    size = Size("normal", 60.0, 3.0, 30.0, 90.0)
    return {
        "virus": IcosahedralVirus(size, 6.0, 430.0, 360.0, 0.1, 0.03, 0.8),
        "droplet": Spheroid(size, (0.8, 1.3), 340.0, 1.0),
        "rod": Rod(size, (2.0, 4.0), 400.0, 1.0),
    }


@pytest.fixture
def settings() -> Simulation:
    """Every sort of pattern, every fault."""

    def ingredient(single: bool, names: tuple[str, ...], count: tuple[int, int], apart=None, rate=0.1) -> Ingredient:
        return Ingredient(1.0, single, names, count, apart, rate, 1000.0)

    return Simulation(
        n_patterns=24,
        seed=3,
        beam=Beam(2e-3, 0.1, 0.03, 1500.0, 0.2, 5000.0, 0.3),
        detector=Detector((64, 64), (31.5, 31.5), ((31, 33, 0, 64),), 3.0, None, 0.01, 0.01, 2, 30.0, None, 0.0),
        background=Background(0.1, 0.2, 1.0, 0.01, 0.3, 0.3, 2.0, 1.5, 20.0, 90.0, 5.0),
        least_photons=300.0,
        particles={"virus": {}, "droplet": {}, "rod": {}},
        composition={
            "single": ingredient(True, ("virus",), (1, 1), rate=0.9),
            "aggregate": ingredient(False, ("virus", "droplet"), (2, 4)),
            "coincident": ingredient(False, ("virus", "rod"), (2, 3), (80.0, 900.0)),
            "blank": ingredient(False, (), (0, 0)),
        },
        expert=Expert(0.1, None),
    )


@pytest.fixture
def plain(settings: Simulation) -> Simulation:
    """A perfect detector without background, the beam always at the same place."""
    return dataclasses.replace(
        settings,
        beam=dataclasses.replace(settings.beam, centre_jitter=0.0),
        detector=dataclasses.replace(
            settings.detector, shadows=(), beamstop_radius=0.0, dead_share=0.0, hot_share=0.0, unmasked_hot=0
        ),
        background=dataclasses.replace(settings.background, gas_level=0.0, flat_level=0.0, streak_share=0.0),
    )


@pytest.fixture
def scene_of() -> Callable[..., Scene]:
    """Build a scene by hand: bodies, where they are, how they are turned, at a fluence of 1 photon per nm²."""

    def build(bodies: list[Body], positions=None, quaternions=None, fluence: float = 1.0) -> Scene:
        n = len(bodies)
        return Scene(
            ingredient=0,
            bodies=tuple(bodies),
            quaternions=np.array(quaternions if quaternions is not None else [[1.0, 0, 0, 0]] * n),
            positions=np.array(positions if positions is not None else [[0.0, 0, 0]] * n),
            fluences=np.full(n, fluence),
            centre_offset=np.zeros(2),
            background=1.0,
            streak=(0.0, 0.0),
            expert=0.5,
            noise_seed=1,
        )

    return build


def ball(radius: float, electrons: float = 1e7) -> Body:
    return Body("sphere", radius * np.eye(3), ((1.0, electrons),), 0.0, 2 * radius)
