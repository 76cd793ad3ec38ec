"""Fourier transforms of uniform bodies in closed form.

Every body is scaled such that its transform is 1 at the origin. The arguments are dimensionless: the momentum
transfer times a length of the body, so that one function serves all sizes and, through an affine map of its
argument, all stretched versions of the body too.
"""

from __future__ import annotations

import functools
import itertools
import math

import torch

GOLDEN = (1 + math.sqrt(5)) / 2

# Circumscribed radius of the icosahedron whose volume is that of the unit sphere: V = 5 (3 + √5)/12 a³ with edge a,
# circumscribed radius a √(φ √5)/2.
ICOSAHEDRON_CIRCUMRADIUS = (
    (4 * math.pi / 3 / (5 * (3 + math.sqrt(5)) / 12)) ** (1 / 3) * math.sqrt(GOLDEN * math.sqrt(5)) / 2
)


def sphere(x: torch.Tensor) -> torch.Tensor:
    """Transform of the unit sphere, 3 (sin x − x cos x)/x³ with x = |x|.

    Args:
        x: ``(..., 3)``, momentum transfer times radius.

    Returns:
        ``(...)``.
    """
    length = x.norm(dim=-1)
    # Below 0.3 the difference loses float32's digits; three terms of the series are exact to 1e-8 there.
    small = length < 0.3
    safe = torch.where(small, 1.0, length)
    closed = 3 * (safe.sin() - safe * safe.cos()) / safe**3
    square = length.square()
    return torch.where(small, 1 - square / 10 * (1 - square / 28 * (1 - square / 54)), closed)


def cylinder(x: torch.Tensor) -> torch.Tensor:
    """Transform of the cylinder of radius 1 and half-length 1 along z, 2 J₁(ρ)/ρ · sin z/z.

    Args:
        x: ``(..., 3)``, momentum transfer times radius (x, y) and times half-length (z).

    Returns:
        ``(...)``.
    """
    radial = torch.hypot(x[..., 0], x[..., 1])
    safe = torch.where(radial < 1e-3, 1.0, radial)
    disc = torch.where(radial < 1e-3, 1 - radial.square() / 8, 2 * torch.special.bessel_j1(safe) / safe)
    return disc * torch.sinc(x[..., 2] / math.pi)


def icosahedron_vertices() -> torch.Tensor:
    """The 12 vertices, ``(12, 3)`` float64, of the icosahedron with the unit sphere's volume.

    Three of its two-fold axes lie along x, y and z, so that its transform has the planes x = 0, y = 0, z = 0 as
    mirrors.
    """
    corners = [
        (0.0, s, t * GOLDEN)[-shift:] + (0.0, s, t * GOLDEN)[:-shift] if shift else (0.0, s, t * GOLDEN)
        for shift, s, t in itertools.product(range(3), (-1.0, 1.0), (-1.0, 1.0))
    ]
    vertices = torch.tensor(corners, dtype=torch.float64)
    return vertices * (ICOSAHEDRON_CIRCUMRADIUS / vertices[0].norm())


def icosahedron(x: torch.Tensor) -> torch.Tensor:
    """Transform of the icosahedron with the unit sphere's volume, exact, by two divergence theorems.

    Volume to faces, faces to edges, and each edge is a sinc. Opposite faces are conjugate, so ten of the twenty and
    real numbers suffice. See J. Wuttke, "Numerically stable form factor of any polygon and polyhedron", J. Appl.
    Cryst. 54 (2021), 580-587, also for the two limits below, where numerator and denominator vanish together.

    Args:
        x: ``(..., 3)`` float64, momentum transfer times radius of the sphere of equal volume.

    Returns:
        ``(...)`` float64.
    """
    vertices, faces, edge, second_moment = _icosahedron()
    vertices = vertices.to(x)
    volume, area = 4 * math.pi / 3, math.sqrt(3) / 4 * edge**2
    square = x.square().sum(-1)
    total = torch.zeros_like(square)
    edges: dict[tuple[int, int], torch.Tensor] = {}
    for corners in faces:
        centre = vertices[list(corners)].mean(0)
        inradius = float(centre.norm())
        along = x @ (centre / inradius)
        boundary = torch.zeros_like(total)
        for first, second in itertools.combinations(corners, 2):
            middle, direction = (vertices[first] + vertices[second]) / 2, vertices[second] - vertices[first]
            if (first, second) not in edges:
                edges[first, second] = edge * torch.sinc(x @ (direction / (2 * math.pi))) * (x @ middle).cos()
            outward = middle - centre  # lies in the face, as the momentum transfer's part that counts here does
            boundary += (x @ (outward / outward.norm())) * edges[first, second]
        inplane = square - along.square()
        facing = inplane < 1e-8
        face = torch.where(facing, -area * (inradius * along).sin(), boundary / torch.where(facing, 1.0, inplane))
        total -= 2 * along * face
    near = square < 1e-4
    return torch.where(near, 1 - square * second_moment, total / (volume * torch.where(near, 1.0, square)))


@functools.cache
def _icosahedron() -> tuple[torch.Tensor, list[tuple[int, int, int]], float, float]:
    """Vertices, one of each pair of opposite faces, length of an edge, and ⟨r²⟩/6."""
    vertices = icosahedron_vertices()
    edge = float(torch.cdist(vertices, vertices).flatten().sort().values[12])  # the first twelve are the zeros
    return vertices, _faces(vertices, edge), edge, _mean_square_radius(vertices, edge) / 6


def _faces(vertices: torch.Tensor, edge: float) -> list[tuple[int, int, int]]:
    """One of each pair of opposite triangles, as indices of its corners."""
    touching = (torch.cdist(vertices, vertices) - edge).abs() < 1e-6
    triangles = [
        (a, b, c)
        for a, b, c in itertools.combinations(range(12), 3)
        if touching[a, b] and touching[b, c] and touching[a, c]
    ]
    reference = torch.tensor([0.137, 0.541, 0.83], dtype=vertices.dtype, device=vertices.device)  # on no face's edge
    return [t for t in triangles if float(vertices[list(t)].sum(0) @ reference) > 0]


def _mean_square_radius(vertices: torch.Tensor, edge: float) -> float:
    """⟨r²⟩ over the volume: pyramids from the centre over each face, (3/5) of the face's own mean."""
    a, b, c = _faces(vertices, edge)[0]
    corners = vertices[[a, b, c]]
    # Over a triangle, ⟨|r|²⟩ = (|a|² + |b|² + |c|² + |a + b + c|²)/12.
    mean = (corners.square().sum() + corners.sum(0).square().sum()) / 12
    return float(mean) * 3 / 5
