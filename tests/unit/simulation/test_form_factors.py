from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import j1
from scipy.stats import qmc, special_ortho_group

from spi_lightning.simulation.form_factors import (
    ICOSAHEDRON_CIRCUMRADIUS,
    cylinder,
    icosahedron,
    icosahedron_vertices,
    sphere,
)


def inside_icosahedron(points: np.ndarray) -> np.ndarray:
    """Hull test that shares nothing with the code under test but the vertices."""
    from scipy.spatial import ConvexHull

    hull = ConvexHull(icosahedron_vertices().numpy())
    return (points @ hull.equations[:, :3].T + hull.equations[:, 3] <= 0).all(1)


def test_sphere_agrees_with_its_closed_form_in_float64_near_and_far() -> None:
    x = np.concatenate([np.geomspace(1e-6, 0.5, 400), np.linspace(0.5, 60, 4000)])
    exact = 3 * (np.sin(x) - x * np.cos(x)) / x**3
    series = 1 - x**2 / 10 + x**4 / 280 - x**6 / 15120
    exact = np.where(x < 0.05, series, exact)
    vectors = torch.from_numpy(np.stack([x * 0.6, x * 0.0, x * 0.8], -1)).float()
    assert np.abs(sphere(vectors).numpy() - exact).max() < 5e-6  # a few roundings of float32


def test_cylinder_agrees_with_scipy() -> None:
    x = np.random.default_rng(1).normal(size=(2000, 3)) * 8
    rho = np.hypot(x[:, 0], x[:, 1])
    exact = 2 * j1(rho) / rho * np.sinc(x[:, 2] / np.pi)
    assert np.abs(cylinder(torch.from_numpy(x)).numpy() - exact).max() < 1e-6
    assert float(cylinder(torch.zeros(1, 3))[0]) == 1.0


def test_icosahedron_has_the_volume_of_the_unit_sphere() -> None:
    from scipy.spatial import ConvexHull

    vertices = icosahedron_vertices()
    assert ConvexHull(vertices.numpy()).volume == pytest.approx(4 * math.pi / 3, rel=1e-12)
    assert torch.allclose(vertices.norm(dim=1), torch.tensor(ICOSAHEDRON_CIRCUMRADIUS, dtype=torch.float64))


def test_icosahedron_agrees_with_a_direct_sum_over_points() -> None:
    cube = qmc.Sobol(3, seed=1).random(2**20) * 2.4 - 1.2  # evenly spread, and on no lattice that faces could follow
    points = cube[inside_icosahedron(cube)]
    x = np.random.default_rng(2).normal(size=(40, 3))
    x *= np.linspace(0.3, 12, 40)[:, None] / np.linalg.norm(x, axis=1, keepdims=True)
    direct = np.array([np.cos(points @ q).mean() for q in x])
    assert np.abs(icosahedron(torch.from_numpy(x)).numpy() - direct).max() < 1e-3


@pytest.mark.parametrize("direction", [(1, 1, 1), (0, 1, (1 + math.sqrt(5)) / 2), (1, 0, 0), (0.3, -0.2, 0.9)])
def test_icosahedron_is_smooth_where_the_formula_divides_by_zero(direction: tuple[float, float, float]) -> None:
    """Along face normals, five-fold and two-fold axes, and next to the origin, values join those beside them."""
    unit = torch.tensor(direction, dtype=torch.float64)
    unit /= unit.norm()
    lengths = torch.tensor([1e-7, 3e-5, 9.9e-3, 1.01e-2, 0.1, 2.0, 9.0], dtype=torch.float64)
    on_axis = icosahedron(lengths[:, None] * unit)
    beside = icosahedron(lengths[:, None] * (unit + 1e-5 * torch.tensor([0.3, -0.8, 0.5], dtype=torch.float64)))
    assert torch.isfinite(on_axis).all()
    assert (on_axis - beside).abs().max() < 1e-4


@given(st.integers(0, 2**32 - 1))
def test_icosahedron_has_its_symmetries(seed: int) -> None:
    x = torch.from_numpy(np.random.default_rng(seed).normal(size=(20, 3)) * 5)
    value = icosahedron(x)
    for image in (-x, x * torch.tensor([-1.0, 1, 1]), x[:, [1, 2, 0]]):
        assert torch.allclose(icosahedron(image), value, atol=1e-9)
    axis = icosahedron_vertices()[0] / ICOSAHEDRON_CIRCUMRADIUS  # a five-fold axis
    k = torch.tensor([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]], dtype=torch.float64)
    fifth = torch.linalg.matrix_exp(2 * math.pi / 5 * k)
    assert torch.allclose(icosahedron(x @ fifth.T), value, atol=1e-9)


def test_far_shape_matters_and_near_shape_does_not() -> None:
    """Small momentum transfers see the radius of gyration only: sphere and icosahedron agree there, not further out."""
    turn = torch.from_numpy(special_ortho_group.rvs(3, size=50, random_state=4)[:, 0])
    near, far = icosahedron(0.3 * turn), icosahedron(5.0 * turn)
    assert (near - sphere(0.3 * turn)).abs().max() < 2e-3
    assert (far - sphere(5.0 * turn)).abs().max() > 1e-2
