"""Photons that the particles of a shot scatter into every pixel: Born approximation, coherent sum.

A pixel at momentum transfer q expects Φ r_e² P ΔΩ |Σ_k √(Φ_k/Φ) F_k(q) exp(i q·r_k)|² photons, with the classical
electron radius r_e, the polarisation factor P, the pixel's solid angle ΔΩ, and for particle k its fluence Φ_k,
position r_k and transform F_k(q) = Σ shells · T(Aᵀ Rᵀ q).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from spi_lightning.orientation.rotations import rotation_matrices
from spi_lightning.simulation.form_factors import cylinder, sphere
from spi_lightning.simulation.fourier_volume import FourierVolume
from spi_lightning.simulation.scenes import Scene

Amplitude = tuple[torch.Tensor, torch.Tensor | None]


@dataclass(frozen=True)
class ParticleBatch:
    """All particles of a batch of scenes, one row each, ``n`` rows.

    Attributes:
        pattern: ``(n,)`` int64, the scene that the particle is in.
        slot: ``(n,)`` int64, its number within that scene.
        shapes: rows of each shape.
        matrices: ``(n, 3, 3)``, Aᵀ Rᵀ, nm.
        shells: ``(n, s, 2)``, relative size and electrons; unused ones hold no electrons.
        roughness: ``(n,)``, nm.
        positions: ``(n, 3)``, nm.
        fluences: ``(n,)``, photons per nm².
    """

    pattern: torch.Tensor
    slot: torch.Tensor
    shapes: dict[str, torch.Tensor]
    matrices: torch.Tensor
    shells: torch.Tensor
    roughness: torch.Tensor
    positions: torch.Tensor
    fluences: torch.Tensor


def collate(scenes: Sequence[Scene], device: torch.device) -> ParticleBatch:
    """Put the particles of several scenes side by side, in float32 on ``device``."""
    bodies = [body for scene in scenes for body in scene.bodies]
    shells = np.zeros((len(bodies), max((len(body.shells) for body in bodies), default=1), 2))
    for row, body in zip(shells, bodies, strict=True):
        row[: len(body.shells)] = body.shells
    shapes: dict[str, list[int]] = {}
    for index, body in enumerate(bodies):
        shapes.setdefault(body.shape, []).append(index)

    def rows(arrays: list[np.ndarray], *shape: int) -> torch.Tensor:
        return torch.from_numpy(np.concatenate([*arrays, np.zeros((0, *shape))]))

    rotations = rotation_matrices(rows([scene.quaternions for scene in scenes], 4)).numpy()
    stretches = rows([body.stretch[None] for body in bodies], 3, 3).numpy()
    # NumPy multiplies a stack one matrix at a time; a batched product may round differently for other batches.
    matrices = np.matmul(stretches.swapaxes(1, 2), rotations.swapaxes(1, 2))
    counts = [len(scene.bodies) for scene in scenes]
    return ParticleBatch(
        pattern=torch.repeat_interleave(torch.tensor(counts, dtype=torch.int64)).to(device),
        slot=torch.tensor([slot for count in counts for slot in range(count)], dtype=torch.int64, device=device),
        shapes={shape: torch.tensor(which, device=device) for shape, which in shapes.items()},
        matrices=torch.from_numpy(matrices).float().to(device),
        shells=torch.from_numpy(shells).float().to(device),
        roughness=torch.tensor([body.roughness for body in bodies], device=device),
        positions=rows([scene.positions for scene in scenes], 3).float().to(device),
        fluences=rows([scene.fluences for scene in scenes]).float().to(device),
    )


def scattered_strength(
    particles: ParticleBatch,
    q: torch.Tensor,
    volumes: Mapping[str, FourierVolume],
    steps: torch.Tensor,
) -> torch.Tensor:
    """Σ over particles and pairs: fluence times squared modulus of the summed transforms.

    Two particles interfere in fringes of period 2π over their distance. A pixel averages over its own width, which
    takes a sinc of the fringe term along x and y; without that, fringes finer than a pixel would alias.

    Every operation works on each pixel by itself and sums in a fixed order, so the result for a pattern does not
    depend on which others are in the batch.

    Args:
        particles: ``n`` particles in ``B`` scenes.
        q: ``(B, 3, pixels)`` float32, momentum transfer of every pixel in each shot, nm⁻¹.
        volumes: transforms of the shapes that have no closed form.
        steps: ``(2, 3, pixels)`` float32, by how much q changes from a pixel to the next along x and along y, nm⁻¹.

    Returns:
        ``(B, pixels)``, electrons² photons per nm².
    """
    strength = q.new_zeros(q.shape[0], q.shape[2])
    if len(particles.pattern) == 0:
        return strength
    real, imaginary = _amplitudes(particles, q, volumes)
    for slot in range(int(particles.slot.max()) + 1):
        rows = (particles.slot == slot).nonzero()[:, 0]
        strength.index_add_(0, particles.pattern[rows], _product(real, imaginary, rows, rows)[0])
    for first, second in _pairs(particles):
        patterns = particles.pattern[first]
        apart = particles.positions[second] - particles.positions[first]
        across_x, across_y = (_project(apart, step[None]) / (2 * torch.pi) for step in steps)
        seen = torch.sinc(across_x) * torch.sinc(across_y)
        phase = _project(apart, q[patterns])
        along, across = _product(real, imaginary, second, first)
        fringes = along * phase.cos()
        if across is not None:
            fringes = fringes - across * phase.sin()
        strength.index_add_(0, patterns, fringes * (2 * seen))
    return strength


def _amplitudes(particles: ParticleBatch, q: torch.Tensor, volumes: Mapping[str, FourierVolume]) -> Amplitude:
    """√Φ F(q) of every particle, real and imaginary part, ``(n, pixels)``."""
    real = q.new_empty(len(particles.pattern), q.shape[2])
    imaginary: torch.Tensor | None = None
    for shape, rows in particles.shapes.items():
        seen = q[particles.pattern[rows]]
        matrices, shells = particles.matrices[rows], particles.shells[rows]
        body = torch.stack([_project(matrices[:, axis], seen) for axis in range(3)], dim=-1)
        re, im = seen.new_zeros(len(rows), q.shape[2]), None
        for shell in range(shells.shape[1]):
            scale, electrons = shells[:, shell, 0], shells[:, shell, 1, None]
            if not electrons.any():
                continue
            shell_re, shell_im = _unit_transform(shape, body * scale[:, None, None], volumes)
            re = re + electrons * shell_re
            im = im if shell_im is None else electrons * shell_im + (0 if im is None else im)
        square = seen[:, 0].square() + seen[:, 1].square() + seen[:, 2].square()
        weight = torch.exp(square * (-particles.roughness[rows].square() / 2)[:, None])
        weight = weight * particles.fluences[rows].sqrt()[:, None]
        real[rows] = re * weight
        if im is not None:
            imaginary = torch.zeros_like(real) if imaginary is None else imaginary
            imaginary[rows] = im * weight
    return real, imaginary


def _unit_transform(shape: str, x: torch.Tensor, volumes: Mapping[str, FourierVolume]) -> Amplitude:
    if shape == "sphere":
        return sphere(x), None
    if shape == "cylinder":
        return cylinder(x), None
    return volumes[shape](x)


def _project(vectors: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """v·q, ``(n, 3)`` and ``(n, 3, pixels)`` → ``(n, pixels)``; spelt out, since a matrix product's rounding varies."""
    x, y, z = vectors[:, 0, None], vectors[:, 1, None], vectors[:, 2, None]
    return x * q[:, 0] + y * q[:, 1] + z * q[:, 2]


def _product(
    real: torch.Tensor, imaginary: torch.Tensor | None, first: torch.Tensor, second: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """F_first F*_second, real and imaginary part."""
    re = real[first] * real[second]
    if imaginary is None:
        return re, None
    return re + imaginary[first] * imaginary[second], imaginary[first] * real[second] - real[first] * imaginary[second]


def _pairs(particles: ParticleBatch) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Pairs of rows in the same pattern, at most one pair of each pattern in a list entry."""
    slots = int(particles.slot.max()) + 1
    rows = torch.full((int(particles.pattern.max()) + 1, slots), -1, device=particles.slot.device)
    rows[particles.pattern, particles.slot] = torch.arange(len(particles.pattern), device=particles.slot.device)
    pairs = []
    for second in range(1, slots):
        present = rows[rows[:, second] >= 0]
        pairs += [(present[:, first], present[:, second]) for first in range(second)]
    return pairs
