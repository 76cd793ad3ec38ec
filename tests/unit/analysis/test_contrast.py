from __future__ import annotations

import dataclasses
import functools
import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from spi_lightning.analysis.contrast import (
    Contrast,
    FringeSettings,
    bootstrap_contrast,
    expected_spacing,
    fringe_contrast,
)
from spi_lightning.analysis.fringes import fringe_spacing, smoothed_log, turning_points
from spi_lightning.analysis.psd import angular_mean, radial_bins, ring_counts
from spi_lightning.errors import SpiError
from spi_lightning.simulation.form_factors import sphere

SHAPE, CENTRE, Q_PER_PIXEL = (192, 96), (-0.5, 95.5), 4.972e-3  # the paper's
BINS = radial_bins(SHAPE, CENTRE)
MASK = BINS >= 6
COUNTS = ring_counts(BINS, MASK)
Q = torch.arange(len(COUNTS)).double() * Q_PER_PIXEL
BACKGROUND = 3e-4  # of the forward scattering: γ is about 0.6

# Minima and maxima of a sphere's PSD, rings (method.md).
EXTREMA = {
    55.0: ((32.9, 56.5, 79.7), (42.1, 66.5, 90.1)),
    70.0: ((25.8, 44.4, 62.7), (33.1, 52.3, 70.8)),
    84.0: ((21.5, 37.0, 52.2), (27.6, 43.5, 59.0)),
}


def form_factor(x: torch.Tensor) -> torch.Tensor:
    return sphere(torch.nn.functional.pad(x[..., None], (0, 2))).square()


@functools.cache
def sphere_psd(diameter: float, background: float = BACKGROUND) -> torch.Tensor:
    """PSD ``(rings,)`` of a sphere's pattern, pixel by pixel."""
    rows, columns = torch.arange(SHAPE[0]).double(), torch.arange(SHAPE[1]).double()
    radius = torch.hypot(rows[:, None] - CENTRE[1], columns - CENTRE[0])
    return angular_mean(form_factor(radius * Q_PER_PIXEL * diameter / 2) + background, BINS, MASK)


def noisy(psd: torch.Tensor, photons: float, patterns: int, seed: int) -> torch.Tensor:
    """PSDs ``(patterns, rings)`` of patterns of so many photons: a ring's sum is Poisson, as its pixels are."""
    mean = psd.nan_to_num() * COUNTS
    mean = (mean / mean.sum() * photons).expand(patterns, -1)
    return torch.poisson(mean, generator=torch.Generator().manual_seed(seed)) / COUNTS


def one(psd: torch.Tensor, settings: FringeSettings | None = None, spacing: float | None = None) -> Contrast:
    return fringe_contrast(psd[None], settings, spacing)


@pytest.mark.parametrize("given_spacing", [True, False])
@pytest.mark.parametrize("diameter", EXTREMA)
def test_extrema_of_spheres_are_where_they_belong(diameter: float, given_spacing: bool) -> None:
    result = one(sphere_psd(diameter), spacing=expected_spacing(diameter, Q) if given_spacing else None)
    assert result.reasons == ("",)
    for found, expected in zip((result.minima, result.maxima), EXTREMA[diameter], strict=True):
        assert (found[0] - torch.tensor(expected)).abs().max() <= 1


@pytest.mark.parametrize("background", [1e-4, 1e-3])
@pytest.mark.parametrize("diameter", EXTREMA)
def test_contrast_of_a_sphere_with_background_is_that_of_the_closed_form(diameter: float, background: float) -> None:
    x = [torch.tensor(rings, dtype=torch.float64) * Q_PER_PIXEL * diameter / 2 for rings in EXTREMA[diameter]]
    low, high = (form_factor(values) + background for values in x)
    expected = float(((high - low) / (high + low)).mean())
    value = float(one(sphere_psd(diameter, background), FringeSettings(prominence=0.05)).value)
    # Rings one pixel wide and smoothing fill narrow minima: more, the narrower and the deeper.
    assert -0.06 < value - expected < 0
    rings = float(one(sphere_psd(diameter, background), FringeSettings(prominence=0.05, smoothing=0.0)).value)
    assert -0.03 < rings - expected < 0


def test_previous_pairing_takes_the_maxima_before_the_minima() -> None:
    minima, maxima = EXTREMA[70.0]
    result = one(sphere_psd(70.0), FringeSettings(pairs=2, pairing="previous"))
    assert (result.minima[0] - torch.tensor(minima[1:])).abs().max() <= 1  # before the first there is only the beam
    assert (result.maxima[0] - torch.tensor(maxima[:2])).abs().max() <= 1
    curve = smoothed_log(sphere_psd(70.0)[None], 1.0)[0].exp()
    high, low = curve[result.maxima[0]], curve[result.minima[0]]
    assert float(result.value) == pytest.approx(float(((high - low) / (high + low)).mean()), rel=1e-12)
    assert float(result.value) > float(one(sphere_psd(70.0), FringeSettings(pairs=2)).value)


def test_a_bump_next_to_the_beam_is_no_maximum_of_the_first_fringe() -> None:
    psd = sphere_psd(70.0).clone()
    psd[8:11] *= torch.tensor([0.3, 1.0, 0.8], dtype=torch.float64)  # a maximum at ring 9, where the PSD falls anyway
    minima = one(psd, FringeSettings(pairing="previous", pairs=2), expected_spacing(70.0, Q)).minima
    assert (minima[0] - torch.tensor(EXTREMA[70.0][0][1:])).abs().max() <= 1


@settings(max_examples=30, deadline=None)
@given(st.floats(50, 90), st.floats(1e-5, 1e-3), st.floats(1.5, 4), st.floats(1e-6, 1e6))
def test_contrast_is_a_share_that_background_lowers_and_scale_leaves(
    diameter: float, background: float, more: float, scale: float
) -> None:
    psd = sphere_psd(diameter, 0.0)
    psds = torch.stack([psd + background, psd + more * background, scale * (psd + background)])
    clean, dull, scaled = fringe_contrast(psds, FringeSettings(prominence=0.02)).value.tolist()
    assume(not math.isnan(dull))
    assert 0 <= dull < clean <= 1
    assert scaled == pytest.approx(clean, rel=1e-9)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["next", "previous"]))
def test_any_psd_has_a_share_or_a_reason(seed: int, pairing: str) -> None:
    generator = torch.Generator().manual_seed(seed)
    psd = torch.randn(4, 40, generator=generator, dtype=torch.float64).exp()
    psd[torch.rand(4, 40, generator=generator) < 0.2] = math.nan
    psd[torch.rand(4, 40, generator=generator) < 0.1] = 0
    result = fringe_contrast(psd, FringeSettings(pairs=2, pairing=pairing))
    for value, minima, maxima, reason in zip(
        result.value.tolist(), result.minima, result.maxima, result.reasons, strict=True
    ):
        assert math.isnan(value) == bool(reason)
        if not reason:
            assert 0 < value <= 1
            assert bool(((maxima > minima) if pairing == "next" else (maxima < minima)).all())
            assert 0 <= minima[0] < minima[1]


def test_a_batch_is_its_psds_one_by_one() -> None:
    psds = torch.stack([sphere_psd(55.0), sphere_psd(84.0), torch.ones_like(Q), sphere_psd(70.0, 1e-3)])
    spacing = torch.tensor([expected_spacing(55.0, Q), math.nan, 18.0, math.nan])
    batch = fringe_contrast(psds, spacing=spacing)
    for row, (psd, width) in enumerate(zip(psds, spacing.tolist(), strict=True)):
        single = one(psd, spacing=None if math.isnan(width) else width)
        assert torch.allclose(batch.value[row], single.value[0], equal_nan=True)
        assert torch.equal(batch.minima[row], single.minima[0])
        assert batch.reasons[row] == single.reasons[0]


def test_fringes_of_a_hundred_faint_patterns_are_found() -> None:
    for seed in range(10):
        result = one(noisy(sphere_psd(70.0), 2000, 100, seed).mean(0))
        assert result.reasons == ("",)
        assert (result.minima[0] - torch.tensor(EXTREMA[70.0][0])).abs().max() <= 2
        assert float(result.value) == pytest.approx(float(one(sphere_psd(70.0)).value), abs=0.08)


@pytest.mark.parametrize("ring", [26, 33, 38, 45, 52, 71])
def test_one_ring_with_a_hot_pixel_does_not_matter(ring: int) -> None:
    psd = noisy(sphere_psd(70.0), 2000, 1000, 7).mean(0)
    clean = one(psd)
    psd[ring] *= 5
    spoilt = one(psd)
    assert (spoilt.minima - clean.minima).abs().max() <= 1
    assert float(spoilt.value) == pytest.approx(float(clean.value), abs=0.02)


def test_a_gap_of_a_ring_does_not_matter_and_a_lost_fringe_is_named() -> None:
    clean, psd = one(sphere_psd(70.0)), sphere_psd(70.0).clone()
    psd[40] = math.nan
    assert float(one(psd).value) == pytest.approx(float(clean.value), abs=1e-3)
    psd[38:52] = math.nan
    lost = one(psd, spacing=expected_spacing(70.0, Q))
    assert math.isnan(float(lost.value))
    assert lost.reasons[0].startswith("A fringe is missing: minima are 18.1 rings apart")
    assert "between ring 26 and ring 63" in lost.reasons[0]


def test_a_first_fringe_that_should_be_there_is_named() -> None:
    psd = sphere_psd(70.0).clone()
    psd[20:40] = torch.linspace(0, 1, 20).double().mul(math.log(psd[40] / psd[20])).exp() * psd[20]
    lost = one(psd, spacing=expected_spacing(70.0, Q))
    assert "there is none between ring 6 and ring 45" in lost.reasons[0]
    psd[:35] = math.nan  # behind a beamstop as wide as that, the second fringe is the first that can be seen
    assert one(psd, spacing=expected_spacing(70.0, Q)).minima.tolist() == [[45, 63, 81]]


@pytest.mark.parametrize(
    ("psd", "reason"),
    [
        (torch.full((60,), math.nan), "The PSD is empty: no ring has a good pixel."),
        (torch.zeros(60), "The PSD is zero: there are no photons in it."),
        (torch.ones(60), "The PSD has no fringes: it nowhere falls and rises by 0.1 (natural logarithm)."),
        (torch.arange(1.0, 61) ** -4, "The PSD has no fringes: it nowhere falls and rises by 0.1 (natural logarithm)."),
        (torch.ones(2), "The PSD has no fringes: it nowhere falls and rises by 0.1 (natural logarithm)."),
    ],
)
def test_a_psd_without_fringes_says_why(psd: torch.Tensor, reason: str) -> None:
    result = one(psd)
    assert math.isnan(float(result.value))
    assert result.minima.tolist() == [[-1, -1, -1]] == result.maxima.tolist()
    assert result.reasons == (reason,)


def test_too_few_fringes_says_how_many_and_where() -> None:
    result = one(sphere_psd(70.0)[:60])
    assert result.reasons == (
        "There are 2 of 3 pairs of a minimum and the next maximum: the minima are at ring 26, 45, and the last good "
        "ring is 59.",
    )
    assert result.minima.tolist() == [[26, 45, -1]]
    assert math.isnan(float(result.value))
    assert one(sphere_psd(70.0)[:60], FringeSettings(pairs=2)).reasons == ("",)


@pytest.mark.parametrize("diameter", [40.0, 55.0, 70.0, 84.0, 120.0])
def test_the_spacing_is_found_in_the_psd(diameter: float) -> None:
    curve = smoothed_log(sphere_psd(diameter, 1e-4)[None], 1.0)
    assert float(fringe_spacing(curve)) == pytest.approx(expected_spacing(diameter, Q), rel=0.1)


def test_extrema_too_near_go_with_the_least_prominent_pair() -> None:
    ring = torch.arange(80).double()
    wave = -(2 * math.pi * ring / 20).cos()  # minima at 20, 40, 60
    wave[29:32] = torch.tensor([0.8, 0.5, 0.8]).double()  # a notch in a maximum
    marks = turning_points(wave[None], 0.1, torch.tensor([math.nan]), 3)[0]
    assert (marks == -1).nonzero()[:, 0].tolist() == [20, 30, 40, 60]
    marks = turning_points(wave[None], 0.1, torch.tensor([21.0]), 3)[0]
    assert (marks == -1).nonzero()[:, 0].tolist() == [20, 40, 60]
    assert (marks == 1).nonzero()[:, 0].tolist() in ([10, 28, 50, 70], [10, 32, 50, 70])


def test_the_ends_of_a_psd_hold_no_extrema() -> None:
    wave = (2 * math.pi * torch.arange(80).double() / 20).sin()  # maxima at 5, 25 ..., minima at 15, 35 ...
    marks = turning_points(wave[None], 0.1, torch.tensor([20.0]), 3)[0]
    assert marks.nonzero()[:, 0].tolist() == [5, 15, 25, 35, 45, 55, 65, 75]
    marks = turning_points(wave[None], 0.1, torch.tensor([20.0]), 6)[0]
    assert marks.nonzero()[:, 0].tolist() == [15, 25, 35, 45, 55, 65]


def test_expected_spacing_is_the_distance_of_a_spheres_far_minima() -> None:
    assert expected_spacing(70.0, Q) == pytest.approx(2 * math.pi / 70 / Q_PER_PIXEL)
    several = expected_spacing(torch.tensor([55.0, 70.0]), Q)
    assert several.tolist() == pytest.approx([expected_spacing(55.0, Q), expected_spacing(70.0, Q)])


def test_the_bootstrap_interval_covers_the_noiseless_contrast_and_narrows_with_the_patterns() -> None:
    truth = float(one(sphere_psd(70.0)).value)
    spacing = expected_spacing(70.0, Q)
    covered, widths = 0, {100: 0.0, 1600: 0.0}
    for patterns in widths:
        for seed in range(20):
            psds = noisy(sphere_psd(70.0), 20_000, patterns, seed)
            low, high = bootstrap_contrast(psds, spacing=spacing, samples=100, seed=seed)
            covered += low <= truth <= high
            widths[patterns] += (high - low) / 20
    assert covered >= 34  # of 40; 38 are expected
    assert widths[100] / widths[1600] == pytest.approx(4, rel=0.25)


def test_the_bootstrap_does_not_add_what_noise_adds_once_more() -> None:
    truth, plain, middle = float(one(sphere_psd(70.0)).value), 0.0, 0.0
    for seed in range(20):
        psds = noisy(sphere_psd(70.0), 1000, 100, seed)
        low, high = bootstrap_contrast(psds, spacing=expected_spacing(70.0, Q), samples=100, seed=seed)
        plain += float(one(psds.mean(0)).value) / 20
        middle += (low + high) / 40
    assert plain > truth + 0.01
    assert truth < middle < plain


def test_the_bootstrap_repeats_itself_and_the_order_of_patterns_only_changes_the_draws() -> None:
    psds = noisy(sphere_psd(70.0), 20_000, 200, 1)
    assert bootstrap_contrast(psds, samples=100) == bootstrap_contrast(psds, samples=100)
    interval = bootstrap_contrast(psds, samples=400)
    assert bootstrap_contrast(psds.flip(0), samples=400) == pytest.approx(interval, abs=0.01)
    wide, narrow = bootstrap_contrast(psds, samples=400, level=0.99), bootstrap_contrast(psds, samples=400, level=0.5)
    assert wide[0] < interval[0] < narrow[0] < narrow[1] < interval[1] < wide[1]


@pytest.mark.parametrize("psds", [torch.ones(20, 60), torch.zeros(0, 60), torch.full((3, 60), math.nan)])
def test_no_fringes_no_interval(psds: torch.Tensor) -> None:
    assert all(math.isnan(end) for end in bootstrap_contrast(psds, samples=20))


@pytest.mark.parametrize(
    "wrong", [{"pairs": 0}, {"smoothing": -1.0}, {"prominence": 0.0}, {"pairing": "both"}, {"edge": 0}]
)
def test_settings_of_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(SpiError, match=next(iter(wrong))):
        dataclasses.replace(FringeSettings(), **wrong)


def test_a_spacing_of_no_sense_is_refused() -> None:
    with pytest.raises(SpiError, match="spacing"):
        one(sphere_psd(70.0), spacing=0.0)


def test_a_first_fringe_behind_the_beamstop_is_told_unless_asked_otherwise() -> None:
    psd, spacing = sphere_psd(84.0).clone(), expected_spacing(84.0, Q)
    whole = one(psd, spacing=spacing)
    psd[:26] = math.nan  # its first minimum is at ring 21.5
    hidden = one(psd, spacing=spacing)
    later = one(psd, FringeSettings(from_beam=False), spacing)

    assert math.isnan(hidden.value)
    assert "The first one is hidden" in hidden.reasons[0]
    assert later.minima[0, 0] == whole.minima[0, 1]
    assert 0 < float(later.value) < float(whole.value)


@pytest.mark.parametrize("diameter", EXTREMA)
def test_binning_changes_the_contrast_little(diameter: float) -> None:
    """Fringes of half as many rings are smoothed half as much."""
    rows, columns = torch.arange(96).double(), torch.arange(48).double()
    centre = (-0.5, 47.5)  # a binned pixel is two wide, and so is the distance from the beam to the first one's middle
    radius = 2 * torch.hypot(rows[:, None] - centre[1], columns - centre[0])
    bins = radial_bins((96, 48), centre)
    image = form_factor(radius * Q_PER_PIXEL * diameter / 2) + BACKGROUND
    binned = angular_mean(image, bins, bins >= 3)
    spacing = expected_spacing(diameter, Q)

    fine, coarse = one(sphere_psd(diameter), spacing=spacing), one(binned, spacing=spacing / 2)
    assert float(coarse.value) == pytest.approx(float(fine.value), abs=0.1)
    rigid = fringe_contrast(binned[None], FringeSettings(smoothing=2.0), spacing / 2)  # as wide as without binning
    assert float(rigid.value) < float(coarse.value)
