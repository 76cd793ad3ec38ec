from __future__ import annotations

import numpy as np
import pytest
import torch

from spi_lightning.errors import SpiError
from spi_lightning.simulation.form_factors import icosahedron, sphere
from spi_lightning.simulation.fourier_volume import density_volume, icosahedron_volume


def directions(n: int, longest: float, seed: int = 5) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3))
    x *= rng.random((n, 1)) * longest / np.linalg.norm(x, axis=1, keepdims=True)
    return torch.from_numpy(x)


def test_reading_between_the_nodes_stays_close_to_the_exact_transform() -> None:
    volume = icosahedron_volume(reach=16.0)
    x = directions(20_000, 15.9)
    read, imaginary = volume(x.float()[None])
    envelope = 3 / (x.square().sum(1) + 3)
    error = (read[0] - icosahedron(x)) / envelope
    assert imaginary is None
    assert error.square().mean().sqrt() < 1.5e-3
    assert error.abs().max() < 0.015


def test_beyond_its_reach_a_volume_is_zero() -> None:
    volume = icosahedron_volume(reach=3.0)
    far = torch.tensor([[[9.0, 0.0, 0.0], [0.0, -20.0, 1.0]]])
    assert (volume(far)[0] == 0).all()


def test_a_map_of_a_ball_scatters_like_a_sphere() -> None:
    axis = torch.arange(61, dtype=torch.float64) - 30
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    density = (25.5 - (x**2 + y**2 + z**2).sqrt()).clamp(0, 1)
    volume = density_volume(density, voxel=1.0, reach=0.5)
    q = directions(3000, 0.48).float()[None]
    real, imaginary = volume(q)
    assert imaginary is not None
    assert imaginary.abs().max() < 1e-6  # the map is its own mirror image
    assert (real[0] - sphere(q[0] * 25.0)).abs().max() < 0.012


def test_a_lopsided_map_agrees_with_a_direct_sum_over_its_voxels() -> None:
    rng = np.random.default_rng(8)
    density = np.zeros((9, 11, 13))
    density[2:7, 3:9, 2:11] = rng.random((5, 6, 9))
    volume = density_volume(torch.from_numpy(density), voxel=4.0, reach=0.25, oversampling=12)
    q = directions(500, 0.24)
    real, imaginary = volume(q.float()[None])
    filled = np.argwhere(density > 0)
    weights = density[tuple(filled.T)]
    places = (filled - (filled * weights[:, None]).sum(0) / weights.sum())[:, ::-1] * 4.0  # (x, y, z)
    wave = np.exp(1j * q.numpy() @ places.T) @ weights / weights.sum() * np.sinc(q.numpy() * 4 / (2 * np.pi)).prod(1)
    assert np.abs(real[0].numpy() - wave.real).max() < 0.006
    assert np.abs(imaginary[0].numpy() - wave.imag).max() < 0.006
    assert np.abs(wave.imag).max() > 0.02  # there is something to get wrong


@pytest.mark.parametrize("density", [torch.zeros(5, 5, 5), torch.full((3, 3, 3), float("nan")), -torch.ones(3, 3, 3)])
def test_a_map_without_a_particle_is_refused(density: torch.Tensor) -> None:
    with pytest.raises(SpiError, match="holds no particle"):
        density_volume(density, 1.0, 0.5)


def test_a_grid_that_would_not_fit_is_refused() -> None:
    with pytest.raises(SpiError, match=r"simulate\.detector\.shape smaller"):
        icosahedron_volume(reach=1000.0)
