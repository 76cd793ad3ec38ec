"""Finding the fringes of power spectral densities: smoothing, distance of neighbouring minima, turning points.

A curve is the smoothed natural logarithm of a PSD over its rings, ``(B, rings)`` float64, NaN at gaps.
"""

from __future__ import annotations

import math

import torch

_AROUND = 5  # rings to either side that a spike is compared with
_SPIKE = 8
_PERIODS = 96
_SHORTEST = 6.0  # rings: shorter fringes are not resolved once smoothed
_CELLS_AT_ONCE = 1 << 22


def smoothed_log(psd: torch.Tensor, width: float) -> torch.Tensor:
    """Logarithm of a PSD, without single wrong rings, smoothed.

    A ring that stands above the cubic through its four neighbours by eight times what is usual around it is a spike,
    such as a hot pixel makes, and is put on that cubic; a hole may be a sharp minimum and is left. Then comes the
    mean weighted by a Gaussian over the rings that are there, of the curve and once more of what it left over, which
    is added ("twicing": J. W. Tukey, Exploratory Data Analysis, 1977): extrema keep their height to third order in
    the width. A ring without photons counts as half of the lowest one with some.

    Args:
        psd: ``(B, rings)`` float64; rings that are not finite are gaps.
        width: standard deviation of the Gaussian, rings; 0 for none.

    Returns:
        ``(B, rings)`` float64, NaN at gaps and throughout for a PSD without a positive ring.
    """
    there = psd.isfinite()
    lowest = torch.where(there & (psd > 0), psd, math.inf).amin(1, keepdim=True)
    curve = _without_spikes(torch.where(there & lowest.isfinite(), psd.clamp(min=lowest / 2).log(), torch.nan))
    if width == 0:
        return curve
    there = curve.isfinite()
    ring = torch.arange(curve.shape[1], dtype=curve.dtype, device=curve.device)
    kernel = (-0.5 * ((ring[:, None] - ring) / width).square()).exp()
    total = there.to(curve.dtype) @ kernel
    smooth = torch.where(there, curve, 0.0) @ kernel / total
    return torch.where(there, smooth + torch.where(there, curve - smooth, 0.0) @ kernel / total, torch.nan)


def _without_spikes(curve: torch.Tensor) -> torch.Tensor:
    left2, left, right, right2 = (_shifted(curve, by) for by in (-2, -1, 1, 2))
    off = curve - (4 * (left + right) - left2 - right2) / 6  # NaN next to gaps
    size = off.abs()
    around = torch.nn.functional.pad(size, (_AROUND, _AROUND), value=math.nan).unfold(1, 2 * _AROUND + 1, 1)
    usual = around.nanmedian(2).values
    # A spike puts its neighbours off, too, but less.
    largest = torch.stack([_shifted(size, by).nan_to_num() for by in range(-2, 3)]).amax(0)
    return torch.where((off > _SPIKE * usual) & (size >= largest), curve - off, curve)


def _shifted(values: torch.Tensor, by: int) -> torch.Tensor:
    """Values of the rings that are ``by`` further out; NaN beyond the ends."""
    pad = torch.nn.functional.pad(values, (abs(by), abs(by)), value=math.nan)
    return pad[:, abs(by) + by : abs(by) + by + values.shape[1]]


def fringe_spacing(curve: torch.Tensor) -> torch.Tensor:
    """Distance of neighbouring minima, from the curve alone: its best period.

    The period whose sine and cosine, fitted by least squares together with a trend in the ring's logarithm, its
    square and the ring (a power law with a bend), leave the least: a Lomb-Scargle periodogram with a floating trend
    (Zechmeister & Kürster 2009, Astron. Astrophys. 496, 577). Gaps take no part.

    Args:
        curve: ``(B, rings)`` float64, as :func:`smoothed_log` gives it.

    Returns:
        ``(B,)`` float64, rings, between 6 and a third of the rings; NaN for a curve of fewer than 18 good rings.
    """
    n_rings = curve.shape[1]
    spacing = curve.new_full((len(curve),), math.nan)
    if n_rings < 3 * _SHORTEST:
        return spacing
    ring = torch.arange(n_rings, dtype=curve.dtype, device=curve.device)
    steps = torch.linspace(0, 1, _PERIODS, dtype=curve.dtype, device=curve.device)
    periods = _SHORTEST * (n_rings / 3 / _SHORTEST) ** steps
    phase = 2 * math.pi * ring / periods[:, None]
    slow = torch.stack([torch.ones_like(ring), (ring + 1).log(), (ring + 1).log().square(), ring / n_rings])
    basis = torch.cat([slow.expand(_PERIODS, -1, -1), phase.cos()[:, None], phase.sin()[:, None]], 1)
    products = (basis[:, :, None] * basis[:, None]).flatten(0, 2)
    for start in range(0, len(curve), at_once := max(1, _CELLS_AT_ONCE // len(products))):
        part = curve[start : start + at_once]
        there = part.isfinite()
        values = torch.where(there, part, 0.0)
        normal = (there.to(part.dtype) @ products.T).reshape(-1, _PERIODS, 6, 6)
        right = (values @ basis.flatten(0, 1).T).reshape(-1, _PERIODS, 6, 1)
        ridge = 1e-9 * torch.eye(6, dtype=part.dtype, device=part.device)
        explained = (torch.linalg.solve(normal + ridge, right) * right).sum((-2, -1))
        enough = there.sum(1) >= 3 * _SHORTEST
        spacing[start : start + at_once] = torch.where(enough, periods[explained.argmax(1)], torch.nan)
    return spacing


def turning_points(curve: torch.Tensor, prominence: float, spacing: torch.Tensor, edge: int) -> torch.Tensor:
    """Minima and maxima of each curve, by turns.

    A turning point with hysteresis: a maximum is settled once the curve has fallen by the prominence below it, a
    minimum once it has risen by that above it. Then, as long as two minima or two maxima are nearer than half of the
    spacing, of the pairs of neighbouring extrema that would part them the one with the least difference is dropped.

    Args:
        curve: ``(B, rings)`` float64, as :func:`smoothed_log` gives it.
        prominence: least fall and rise.
        spacing: ``(B,)``, distance of neighbouring minima, rings; where NaN, none is too near.
        edge: good rings at either end that are no extrema.

    Returns:
        ``(B, rings)`` int8: 1 at maxima, -1 at minima, 0 elsewhere.
    """
    marks = _hysteresis(curve, prominence)
    there = curve.isfinite().to(torch.int64)
    inside = (there.cumsum(1) > edge) & (there.flip(1).cumsum(1).flip(1) > edge)
    return _thinned(torch.where(inside, marks, 0), curve, spacing)


def _hysteresis(curve: torch.Tensor, prominence: float) -> torch.Tensor:
    batch, n_rings = curve.shape
    marks = torch.zeros(batch, n_rings, dtype=torch.int8, device=curve.device)
    high, low = curve.new_full((batch,), -math.inf), curve.new_full((batch,), math.inf)
    high_at = torch.zeros(batch, dtype=torch.int64, device=curve.device)
    low_at, last = high_at.clone(), high_at.clone()  # last: 1 after a maximum, -1 after a minimum
    for ring in range(n_rings):
        value = curve[:, ring]  # every comparison with NaN is false: gaps change nothing
        higher, lower = value > high, value < low
        high, high_at = torch.where(higher, value, high), high_at.masked_fill(higher, ring)
        low, low_at = torch.where(lower, value, low), low_at.masked_fill(lower, ring)
        fallen = (last != 1) & (value < high - prominence)
        risen = (last != -1) & (value > low + prominence) & ~fallen
        marks.scatter_add_(1, high_at[:, None], fallen.to(torch.int8)[:, None])
        marks.scatter_add_(1, low_at[:, None], -risen.to(torch.int8)[:, None])
        last = last.masked_fill(fallen, 1).masked_fill(risen, -1)
        low, low_at = torch.where(fallen, value, low), low_at.masked_fill(fallen, ring)
        high, high_at = torch.where(risen, value, high), high_at.masked_fill(risen, ring)
    return marks


def _thinned(marks: torch.Tensor, curve: torch.Tensor, spacing: torch.Tensor) -> torch.Tensor:
    """Marks without the least prominent of those that are too near to their own kind."""
    n_rings = curve.shape[1]
    ring = torch.arange(n_rings, device=curve.device)
    marks = marks.clone()
    while True:
        places = torch.where(marks != 0, ring, n_rings).sort(1).values  # of the extrema, by ring; then n_rings
        heights = curve.gather(1, places.clamp(max=n_rings - 1))
        near = (places[:, 2:] - places[:, :-2] < spacing[:, None] / 2) & (places[:, 2:] < n_rings)
        if not bool(near.any()):
            return marks
        between = (heights[:, 1:] - heights[:, :-1]).abs()
        pair = torch.full_like(between, math.inf)  # its pairs of neighbours that part two too near
        pair[:, :-1] = torch.where(near, between[:, :-1], math.inf)
        pair[:, 1:] = torch.where(near, torch.minimum(pair[:, 1:], between[:, 1:]), pair[:, 1:])
        least = pair.argmin(1, keepdim=True)
        dropped = near.any(1, keepdim=True)
        for place in (places.gather(1, least), places.gather(1, least + 1)):
            kept = marks.gather(1, place.clamp(max=n_rings - 1))
            marks.scatter_(1, place.clamp(max=n_rings - 1), torch.where(dropped, 0, kept))
