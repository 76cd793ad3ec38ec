"""A simulated run as a whole: reproducible pattern by pattern, with the statistics that were asked for."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spi_lightning.errors import SpiError
from spi_lightning.reciprocal import q_magnitude
from spi_lightning.simulation.detector import DEAD, HOT, MISSING, detector_flags, record
from spi_lightning.simulation.experiment import Experiment
from spi_lightning.simulation.expert import expert_labels, expert_scores
from spi_lightning.simulation.particles import DensityMap, draw_size
from spi_lightning.simulation.scenes import Focus
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


def test_a_certain_yes_still_has_its_rank() -> None:
    photons = np.array([50.0, 1e3, 1e4, 1e5])
    scores = expert_scores(np.ones(4), np.full(4, 100.0), 0.1, photons, np.full(4, 0.5))
    assert np.isfinite(scores).all()
    assert (np.diff(scores) > 0).all()
    assert expert_labels(scores, 3).tolist() == [0, 1, 1, 1]


def test_a_quota_of_labels_takes_the_surest_and_says_when_it_cannot() -> None:
    scores = np.array([-np.inf, 2.0, -1.0, 5.0, 0.5])
    assert expert_labels(scores, None).tolist() == [0, 1, 0, 1, 1]
    assert expert_labels(scores, 2).tolist() == [0, 1, 0, 1, 0]
    assert expert_labels(scores, 4).sum() == 4
    with pytest.raises(SpiError, match="only 4 of the 5"):
        expert_labels(scores, 5)


def test_patterns_follow_the_beam(plain, particles, instrument) -> None:
    jittery = dataclasses.replace(
        plain,
        beam=dataclasses.replace(plain.beam, centre_jitter=2.0, transmission=3.0),
        composition={"droplet": dataclasses.replace(plain.composition["single"], particles=("droplet",))},
    )
    patterns = Experiment(jittery, particles, instrument).simulate(range(40))
    bright = patterns.truth["signal"] > 3000
    frames, centres = patterns.frames[bright].astype(float), patterns.truth["centre"][bright]
    assert bright.sum() > 10
    assert np.abs(centres - 31.5).max() > 1.5
    y, x = np.indices((64, 64))
    for frame, (cx, cy) in zip(frames, centres, strict=True):
        core = np.hypot(x - cx, y - cy) < 14  # the middle of the central peak, cut where the truth says it is
        weight = frame * core
        assert abs((weight * x).sum() / weight.sum() - cx) < 0.5
        assert abs((weight * y).sum() / weight.sum() - cy) < 0.5


def test_background_falls_with_q_as_set_and_follows_the_pulse(plain, particles, instrument) -> None:
    only = dataclasses.replace(
        plain,
        composition={"blank": plain.composition["blank"]},
        background=dataclasses.replace(
            plain.background, gas_level=5.0, gas_width=0.08, gas_exponent=1.7, flat_level=0.3, spread=0.4
        ),
    )
    experiment = Experiment(only, particles, instrument)
    scenes = [experiment.source.draw(i) for i in range(200)]
    _, background = experiment.expected_photons(scenes)
    q = q_magnitude(instrument).flatten().numpy()
    shape = 5.0 * np.exp(-((q / 0.08) ** 1.7)) + 0.3
    for scene, row in zip(scenes[:5], background, strict=False):
        assert np.allclose(row.numpy(), scene.background * shape, rtol=1e-4)
    factors = np.array([scene.background for scene in scenes])
    assert abs(np.log(factors).std() - np.hypot(0.4, 0.1)) < 0.08


def test_streaks_lie_along_their_direction(plain, particles, instrument) -> None:
    def lit(angle: float, share: float) -> np.ndarray:
        streaky = dataclasses.replace(
            plain.background, streak_share=share, streak_level=50.0, streak_angle=angle, streak_angle_spread=0.0
        )
        only = dataclasses.replace(plain, composition={"blank": plain.composition["blank"]}, background=streaky)
        return Experiment(only, particles, instrument).simulate(range(40)).frames.sum(0)

    along_rows, along_columns = lit(0.0, 1.0), lit(90.0, 1.0)
    assert along_rows[31:33].sum() > 5 * along_rows[:, 31:33].sum()
    assert along_columns[:, 31:33].sum() > 5 * along_columns[31:33].sum()
    assert lit(0.0, 0.0).sum() == 0
    diagonal = lit(45.0, 1.0)
    assert np.trace(diagonal) > 5 * np.trace(diagonal[::-1])


def test_sorts_that_share_a_map_share_a_transform_that_reaches_far_enough(plain, instrument) -> None:
    axis = np.arange(21) - 10
    density = (np.hypot.outer(axis, np.hypot.outer(axis, axis)) < 8).astype(np.float32)

    def sort(high: float) -> DensityMap:
        return DensityMap("ball.mrc", 16.0, Size("uniform", 0.0, 0.0, high - 1, high), 1e7, 0.0)

    maps = {"ball.mrc": (density, 1.0)}
    alone = Experiment(plain, {"virus": sort(120.0)}, instrument, maps)
    beside = Experiment(plain, {"virus": sort(120.0), "droplet": sort(20.0)}, instrument, maps)
    body = sort(120.0).draw(np.random.default_rng(1))
    scene = dataclasses.replace(
        alone.source.draw(0),
        bodies=(body,),
        quaternions=np.array([[1.0, 0, 0, 0]]),
        positions=np.zeros((1, 3)),
        fluences=np.ones(1),
    )
    first, second = (experiment.expected_photons([scene])[0] for experiment in (alone, beside))
    assert torch.allclose(first, second, rtol=1e-5)
    assert (first > 0).all()


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
        dataclasses.replace(
            settings,
            composition={"single": dataclasses.replace(settings.composition["single"], expert_rate=1.5)},
        )
    with pytest.raises(SpiError, match="at most n_patterns"):
        dataclasses.replace(settings, expert=dataclasses.replace(settings.expert, labelled=25))
