"""Unit quaternions and the rotations that they stand for.

A quaternion (w, x, y, z), scalar first, turns the particle into the laboratory: r_lab = R r_particle. What a pixel at
q_lab sees of the particle's transform therefore lies at Rᵀ q_lab. R is SciPy's matrix of (x, y, z, w); Dragonfly
stores the same quaternions, and its matrix is Rᵀ.
"""

from __future__ import annotations

import math

import torch


def uniform_quaternions(uniform: torch.Tensor) -> torch.Tensor:
    """Turn three independent uniform numbers into a uniformly distributed rotation.

    Args:
        uniform: ``(..., 3)`` in [0, 1).

    Returns:
        ``(..., 4)`` unit quaternions, scalar first.

    K. Shoemake, "Uniform random rotations", Graphics Gems III (1992), 124-132.
    """
    first, second, third = uniform.unbind(-1)
    inner, outer = (1 - first).sqrt(), first.sqrt()
    alpha, beta = 2 * math.pi * second, 2 * math.pi * third
    return torch.stack([outer * beta.cos(), inner * alpha.sin(), inner * alpha.cos(), outer * beta.sin()], dim=-1)


def rotation_matrices(quaternions: torch.Tensor) -> torch.Tensor:
    """Matrices R with r_lab = R r_particle.

    Args:
        quaternions: ``(..., 4)``, scalar first, of unit length.

    Returns:
        ``(..., 3, 3)``.
    """
    w, x, y, z = quaternions.unbind(-1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
