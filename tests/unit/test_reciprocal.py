"""Geometry and momentum transfer against what is known in closed form."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spi_lightning.errors import SpiError
from spi_lightning.instrument import Geometry, Instrument
from spi_lightning.reciprocal import (
    momentum_transfer,
    pixel_positions,
    polarisation_factor,
    q_magnitude,
    ring_momentum,
    solid_angle,
)

PAPER = Instrument((192, 96), photon_energy=1700.0, distance=0.130, pixel_size=75e-6, centre=(-0.5, 95.5))


def test_the_paper_s_numbers() -> None:
    assert PAPER.wavelength == pytest.approx(0.729, abs=5e-4)
    assert PAPER.q_per_pixel == pytest.approx(4.972e-3, rel=1e-3)
    reach = ring_momentum(PAPER, 184)
    assert float(reach[96]) == pytest.approx(0.477, abs=1e-3)
    assert float(reach[183]) == pytest.approx(0.911, abs=6e-3)  # 6.9 nm, "~183 px"
    assert float(reach[40]) == pytest.approx(0.2, abs=2e-3)  # the scale bar of Fig. 2


@given(st.floats(500, 12_000), st.floats(0.05, 5), st.floats(1e-5, 1e-3), st.floats(-50, 50), st.floats(-50, 50))
def test_every_pixel_lies_on_the_ewald_sphere_at_four_pi_sin_theta_over_lambda(energy, distance, pixel, x, y) -> None:
    instrument = Instrument((7, 9), energy, distance, pixel, (x, y))
    positions = pixel_positions(instrument)
    q = momentum_transfer(positions, instrument.wavelength)
    k = 2 * math.pi / instrument.wavelength
    on_sphere = (q + torch.tensor([0, 0, k], dtype=torch.float64)).norm(dim=-1)
    assert torch.allclose(on_sphere, torch.full_like(on_sphere, k), rtol=1e-12)
    angle = torch.atan2(positions[..., :2].norm(dim=-1), positions[..., 2])
    expected = 2 * k * (angle / 2).sin()
    assert torch.allclose(q.norm(dim=-1), expected, rtol=1e-9, atol=1e-12)
    assert torch.allclose(q_magnitude(instrument), expected, rtol=1e-9, atol=1e-12)


def test_next_to_the_beam_float32_keeps_its_digits() -> None:
    centre = torch.tensor([[-0.5, 95.5]], dtype=torch.float32)
    single = momentum_transfer(pixel_positions(PAPER, centre), PAPER.wavelength)[0].double()
    double = momentum_transfer(pixel_positions(PAPER), PAPER.wavelength)
    assert ((single - double).abs() <= 2e-6 * double.abs() + 1e-12).all()


def test_solid_angles_of_a_wide_detector_add_up_to_that_of_its_pyramid() -> None:
    a, d, n = 1e-4, 0.05, 801
    instrument = Instrument((n, n), 1700.0, d, a, ((n - 1) / 2, (n - 1) / 2))
    side = n * a / 2
    exact = 4 * math.asin(side**2 / (side**2 + d**2))
    assert float(solid_angle(pixel_positions(instrument), a).sum()) == pytest.approx(exact, rel=1e-5)


def test_polarisation_takes_light_along_the_field_and_leaves_it_across() -> None:
    positions = torch.tensor([[1.0, 0, 1], [0, 1, 1], [0, 0, 1]], dtype=torch.float64)
    assert polarisation_factor(positions, "horizontal").tolist() == pytest.approx([0.5, 1, 1])
    assert polarisation_factor(positions, "vertical").tolist() == pytest.approx([1, 0.5, 1])
    mean = (polarisation_factor(positions, "horizontal") + polarisation_factor(positions, "vertical")) / 2
    assert torch.allclose(polarisation_factor(positions, "none"), mean)


def test_what_is_known_fills_in_and_disagreements_are_named() -> None:
    config = Geometry(photon_energy=1700.0, centre=(10.0, 10.0))
    file = Geometry(photon_energy=1710.0, distance=0.13, centre=(10.3, 10.0))
    assert config.filled_from(file) == Geometry(1700.0, 0.13, None, (10.0, 10.0))
    assert config.disagreements(file) == ["photon_energy"]
    assert dataclasses.replace(config, centre=(11.0, 10.0)).disagreements(file) == ["photon_energy", "centre"]
    with pytest.raises(SpiError, match=r"pixel_size is not known.*instrument\.pixel_size=VALUE"):
        config.filled_from(file).on_detector((4, 4))


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_impossible_instruments_are_refused(value: float) -> None:
    with pytest.raises(SpiError, match="distance must be a positive number"):
        dataclasses.replace(PAPER, distance=value)
