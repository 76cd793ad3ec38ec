"""A simulated run as a whole: reproducible pattern by pattern, with the statistics that were asked for."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from spi_lightning.errors import SpiError
from spi_lightning.simulation.detector import DEAD, HOT, MISSING, detector_flags, record
from spi_lightning.simulation.experiment import Experiment
from spi_lightning.simulation.expert import expert_labels, expert_scores
from spi_lightning.simulation.particles import draw_size
from spi_lightning.simulation.scenes import Focus, touching_positions
from spi_lightning.simulation.settings import Simulation, Size


@pytest.fixture
def experiment(settings, particles, instrument) -> Experiment:
    return Experiment(settings, particles, instrument)


def test_a_pattern_depends_on_seed_and_index_alone(experiment, settings, particles, instrument) -> None:
    together = experiment.simulate(range(24))
    order = np.random.default_rng(0).permutation(24)
    shuffled = experiment.simulate(order)
    another = Experiment(settings, particles, instrument)
    for i in range(24):
        alone = another.simulate([i])
        place = int(np.flatnonzero(order == i)[0])
        assert np.array_equal(alone.frames[0], together.frames[i])
        assert np.array_equal(shuffled.frames[place], together.frames[i])
        assert alone.scores[0] == together.scores[i]
        for name, values in together.truth.items():
            assert np.array_equal(alone.truth[name][0], values[i], equal_nan=True), name


def test_other_seeds_give_other_patterns(settings, particles, instrument) -> None:
    other = Experiment(dataclasses.replace(settings, seed=4), particles, instrument).simulate(range(8))
    mine = Experiment(settings, particles, instrument).simulate(range(8))
    assert not np.array_equal(other.frames, mine.frames)


def test_truth_describes_the_patterns(experiment, settings) -> None:
    patterns = experiment.simulate(range(200))
    truth = patterns.truth
    names = list(settings.composition)
    for i, name in enumerate(names):
        of_kind = truth["ingredient"] == i
        assert 25 <= of_kind.sum() <= 75  # equal shares of 200: 50 ± 6
        low, high = settings.composition[name].count
        assert ((truth["n_particles"][of_kind] >= low) & (truth["n_particles"][of_kind] <= high)).all()
    assert np.array_equal(truth["single"] == 1, truth["ingredient"] == 0)
    present = np.arange(4) < truth["n_particles"][:, None]
    for name in ("diameter", "fluence"):
        assert np.array_equal(np.isfinite(truth[name]), present)
    assert np.allclose(np.linalg.norm(truth["quaternion"][present], axis=1), 1, atol=1e-6)
    assert (truth["signal"][truth["n_particles"] == 0] == 0).all()
    # Recorded photons are the expected ones, dead and hot pixels aside.
    good = experiment.flags == 0
    expected = truth["signal"] + truth["background"]
    recorded = patterns.frames[:, good].sum(1)
    assert abs(np.median(recorded / expected) - 1) < 0.05


def test_weak_hits_are_the_many_and_none_is_weaker_than_the_hit_finder_allows(experiment, settings) -> None:
    truth = experiment.simulate(range(300)).truth
    alone = truth["signal"][truth["ingredient"] == 0]
    assert np.median(alone) < 0.5 * (alone.min() + alone.max())
    assert alone.min() > 0.6 * settings.least_photons  # an estimate: the shape's detail and the gaps are not in it


def test_bad_pixels_read_what_broken_pixels_read(experiment) -> None:
    frames = experiment.simulate(range(40)).frames
    flags = experiment.flags
    assert (frames[:, (flags & (MISSING | DEAD)) > 0] == 0).all()
    assert frames[:, (flags & HOT) > 0].mean() > 20
    assert {DEAD, HOT, MISSING} <= set(np.unique(flags).tolist())


def test_mask_misses_as_many_hot_pixels_as_asked(settings) -> None:
    flags, state = detector_flags(settings.detector, (31.5, 31.5), seed=1)
    missed = flags != state
    assert missed.sum() == 2
    assert (flags[missed] == 0).all()
    assert (state[missed] == HOT).all()


def test_counts_are_poisson(settings) -> None:
    perfect = dataclasses.replace(settings.detector, adu_per_photon=None, saturation=None)
    rates = torch.tensor([0.05, 0.7, 4.0, 60.0]).repeat(500)
    none = torch.zeros(2000, dtype=torch.bool)
    counts = record(rates.expand(40, -1), range(40), perfect, none, none).double().reshape(40, 500, 4)
    flat = counts.reshape(-1, 4)
    n = len(flat)
    for column, rate in zip(flat.T, (0.05, 0.7, 4.0, 60.0), strict=True):
        assert abs(column.mean() - rate) < 5 * (rate / n) ** 0.5
        # The variance of a Poisson variance estimate: (μ + 2μ²)/n.
        assert abs(column.var() - rate) < 5 * ((rate + 2 * rate**2) / n) ** 0.5


def test_saturation_cuts_and_read_out_adds_noise(settings) -> None:
    none = torch.zeros(4000, dtype=torch.bool)
    cut = dataclasses.replace(settings.detector, saturation=50)
    assert record(torch.full((1, 4000), 90.0), [1], cut, none, none).max() == 50
    raw = dataclasses.replace(settings.detector, adu_per_photon=7.8, adu_noise=1.4)
    adu = record(torch.zeros(1, 4000), [1], raw, none, none)
    assert adu.dtype == torch.float32
    assert abs(float(adu.std()) - 1.4) < 0.1
    bright = record(torch.full((1, 4000), 100.0), [1], raw, none, none)
    assert abs(float(bright.mean()) - 780) < 10


def test_focus_holds_the_pulse_energy_and_can_be_read_backwards(settings) -> None:
    focus = Focus(settings.beam, 1700.0)
    r = np.linspace(0, 40_000, 400_001)
    photons = np.trapezoid(focus.fluence(r) * 2 * np.pi * r, r)
    assert photons == pytest.approx(2e-3 * 0.03 / (1700.0 * 1.602176634e-19), rel=1e-4)
    for distance in (10.0, 500.0, 2000.0, 6000.0):
        assert focus.distance_of(float(focus.fluence(distance))) == pytest.approx(distance, abs=5)
    assert focus.distance_of(2 * float(focus.fluence(0.0))) == 0.0


@given(st.lists(st.floats(5, 200), min_size=1, max_size=7), st.integers(0, 2**32 - 1))
@hypothesis_settings(deadline=None)
def test_touching_spheres_touch(diameters: list[float], seed: int) -> None:
    places = touching_positions(diameters, np.random.default_rng(seed))
    radii = np.array(diameters) / 2
    for i in range(1, len(radii)):
        gaps = np.linalg.norm(places[:i] - places[i], axis=1) - radii[:i] - radii[i]
        assert np.abs(gaps).min() < 1e-6 * radii.max()


@given(st.sampled_from(["normal", "lognormal", "uniform"]), st.integers(0, 2**32 - 1))
def test_sizes_stay_within_their_limits(distribution: str, seed: int) -> None:
    size = Size(distribution, 60.0, 0.4 if distribution == "lognormal" else 12.0, 40.0, 90.0, 0.3, 0.8)
    assert 40.0 <= draw_size(size, np.random.default_rng(seed)) <= 90.0


def test_expert_says_yes_as_often_as_asked_and_misses_weak_ones() -> None:
    uniform = np.random.default_rng(1).random(40_000)
    photons = np.repeat([100.0, 1000.0, 10_000.0, 1e6], 10_000)
    scores = expert_scores(np.full(40_000, 0.8), np.full(40_000, 1000.0), 0.2, photons, uniform)
    yes = (scores.reshape(4, -1) > 0).mean(1)
    assert yes[0] < 0.002
    assert abs(yes[1] - 0.4) < 0.02
    assert abs(yes[3] - 0.8) < 0.02
    assert np.isneginf(expert_scores(np.zeros(2), np.ones(2), 0.2, np.array([0.0, 5.0]), np.array([0.1, 0.9]))).all()


def test_a_quota_of_labels_takes_the_surest_and_says_when_it_cannot() -> None:
    scores = np.array([-np.inf, 2.0, -1.0, 5.0, 0.5])
    assert expert_labels(scores, None).tolist() == [0, 1, 0, 1, 1]
    assert expert_labels(scores, 2).tolist() == [0, 1, 0, 1, 0]
    assert expert_labels(scores, 4).sum() == 4
    with pytest.raises(SpiError, match="only 4 of the 5"):
        expert_labels(scores, 5)


def test_particles_too_small_for_the_hit_finder_are_told(settings, particles, instrument) -> None:
    blind = dataclasses.replace(settings, least_photons=1e12)
    with pytest.raises(SpiError, match=r"simulate\.composition\.\w+: in \d+ draws .* Lower simulate\.least_photons"):
        Experiment(blind, particles, instrument).simulate(range(4))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_patterns": 0}, "n_patterns"),
        ({"least_photons": -1.0}, "least_photons"),
        ({"particles": {"virus": {}, "droplet": {}}}, "names 'rod', but simulate.particles has no such sort"),
        ({"composition": {}}, "sum of the shares"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: Simulation, change: dict, message: str) -> None:
    with pytest.raises(SpiError, match=message):
        dataclasses.replace(settings, **change)


def test_nested_settings_are_checked_too(settings: Simulation) -> None:
    with pytest.raises(SpiError, match=r"beam\.focus"):
        dataclasses.replace(settings.beam, focus=0.0)
    with pytest.raises(SpiError, match=r"detector\.shadows"):
        dataclasses.replace(settings.detector, shadows=((0, 99, 0, 5),))
    with pytest.raises(SpiError, match="expert_rate"):
        dataclasses.replace(settings.composition["single"], expert_rate=1.5)
