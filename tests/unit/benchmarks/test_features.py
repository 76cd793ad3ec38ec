from __future__ import annotations

import functools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from benchmarks.feature_baseline import KINDS, Kind, best_threshold, judged, out_of_fold_scores
from benchmarks.features import FEATURES, Plan, asymmetry, features, mirror_pairs, plan
from spi_lightning.errors import SpiError
from spi_lightning.instrument import Instrument
from spi_lightning.reciprocal import q_magnitude

FULL = Instrument(shape=(96, 96), photon_energy=1569.0, distance=0.581, pixel_size=0.0008, centre=(47.5, 47.5))
HALF = Instrument(shape=(192, 96), photon_energy=1700.0, distance=0.13, pixel_size=75e-6, centre=(-0.5, 95.5))
WIDE = Instrument(shape=(96, 192), photon_energy=1700.0, distance=0.13, pixel_size=75e-6, centre=(95.5, 95.5))
PLANES = pytest.mark.parametrize("instrument", [FULL, HALF, WIDE], ids=["full", "left", "lower"])


def mask_of(instrument: Instrument, gap: float = 8.0) -> torch.Tensor:
    y, x = np.indices(instrument.shape)
    return torch.from_numpy(np.hypot(x - instrument.centre[0], y - instrument.centre[1]) > gap)


def spheres(instrument: Instrument, diameters: list[float], photons: float = 1e6) -> torch.Tensor:
    """Noise-free patterns of spheres with so many photons each, written out in closed form."""
    x = q_magnitude(instrument) * torch.tensor(diameters)[:, None, None] / 2
    shape = (3 * (x.sin() - x * x.cos()) / x**3).square() * mask_of(instrument)
    return (shape * photons / shape.sum((1, 2), keepdim=True)).float()


@functools.cache
def plan_of_full() -> Plan:
    return plan(FULL, mask_of(FULL))


def by_name(counts: torch.Tensor, laid_out: Plan) -> dict[str, torch.Tensor]:
    return dict(zip(FEATURES, features(counts, laid_out).unbind(1), strict=True))


@PLANES
def test_spheres_are_known_by_their_size_fringes_and_roundness(instrument: Instrument) -> None:
    diameters = [45.0, 58.0, 66.0, 80.0, 95.0]
    laid_out = plan(instrument, mask_of(instrument))
    found = by_name(spheres(instrument, diameters), laid_out)
    step = float(laid_out.sizes[1] - laid_out.sizes[0])
    assert np.allclose(found["size"], diameters, atol=step)
    assert (found["log misfit"] < math.log(0.1)).all()
    assert (found["fidelity"] > 2).all()
    assert (found["fringe contrast"] > 0.35).all()
    assert np.allclose(found["log photons"], math.log(1e6), atol=1e-4)
    # Symmetric to the last photon: far below the variance of photon noise.
    assert (found["log asymmetry"].nan_to_num(-99.0) < -6).all()


@PLANES
def test_photon_noise_alone_has_the_expected_variances(instrument: Instrument) -> None:
    flat = torch.poisson(torch.full((8, *instrument.shape), 3.0), generator=torch.Generator().manual_seed(0))
    mask = mask_of(instrument)
    found = by_name(flat * mask, plan(instrument, mask))
    assert (found["fringe contrast"].nan_to_num().abs() < 0.1).all()
    for name in FEATURES[5:]:
        assert np.allclose(found[name], 0.0, atol=0.15), name


def test_what_is_not_round_or_symmetric_shows() -> None:
    laid_out = plan(FULL, mask_of(FULL))
    round_one = spheres(FULL, [60.0], 1e5)
    angle = torch.atan2(torch.arange(96)[:, None] - 47.5, torch.arange(96)[None, :] - 47.5)
    elliptic, shifted = (by_name(round_one * (1 + torch.cos(k * angle)), laid_out) for k in (2, 1))
    plain = by_name(round_one, laid_out)
    for name in FEATURES[6:]:
        assert elliptic[name] > plain[name] + 1
    assert elliptic["log asymmetry"].nan_to_num(-99.0) < -6  # cos 2φ keeps Friedel's law
    assert shifted["log asymmetry"] > 3  # cos φ breaks it


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(1.0, 50.0), st.sampled_from([(1,), (2,), (1, 2)]))
def test_features_do_not_depend_on_brightness_mirroring_or_masked_pixels(
    seed: int, factor: float, axes: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(seed)
    mask = mask_of(FULL)
    counts = torch.from_numpy(rng.poisson(spheres(FULL, [55.0, 75.0], 2e4))).float()
    laid_out = plan_of_full()
    plain = features(counts, laid_out)
    assert torch.allclose(features(counts.flip(axes), laid_out), plain, atol=1e-5)
    dirty = torch.where(mask, counts, 1000.0)
    assert torch.equal(features(dirty, laid_out), plain)
    brighter = features(factor * counts, laid_out)
    shape_only = [FEATURES.index(name) for name in ("size", "log misfit", "fidelity", "fringe contrast")]
    assert torch.allclose(brighter[:, shape_only], plain[:, shape_only], rtol=1e-4, atol=1e-5)
    assert torch.allclose(brighter[:, 0] - plain[:, 0], torch.tensor(math.log(factor)).double(), atol=1e-4)


def test_an_empty_pattern_has_only_a_brightness() -> None:
    found = features(torch.zeros(1, *FULL.shape), plan(FULL, mask_of(FULL)))
    assert found[0, 0] == 0
    assert found[0, 1:].isnan().all()


def test_pairs_are_friedels_in_a_full_plane_and_mirrored_ones_in_a_half_plane() -> None:
    mask = torch.ones(5, 5, dtype=torch.bool)
    mask[0, 1] = False
    one, other = mirror_pairs((2.0, 2.0), mask)
    assert ((one + other) == 24).all()  # (r, c) and (4 − r, 4 − c)
    assert len(one) == 11  # 24 pixels beside the middle, less the masked one and its partner, in pairs
    half = torch.ones(6, 4, dtype=torch.bool)
    one, other = mirror_pairs((-0.5, 2.5), half)
    assert (one % 4 == other % 4).all()
    assert (one // 4 + other // 4 == 5).all()
    assert len(one) == 12
    lying = mirror_pairs((2.5, -0.5), half.T)
    assert len(lying[0]) == 12
    assert (lying[0] // 6 == lying[1] // 6).all()


def test_asymmetry_in_closed_form() -> None:
    pairs = torch.tensor([[0, 1], [3, 2]])
    counts = torch.tensor([[[4.0, 1.0], [3.0, 2.0]]])
    assert asymmetry(counts, pairs).tolist() == pytest.approx([(2**2 + 2**2) / 10])


def test_a_crop_with_too_few_rings_is_refused() -> None:
    small = Instrument(shape=(16, 16), photon_energy=1569.0, distance=0.581, pixel_size=0.0008, centre=(7.5, 7.5))
    with pytest.raises(SpiError, match="rings around the beam"):
        plan(small, torch.ones(16, 16, dtype=torch.bool))


@pytest.mark.parametrize("kind", KINDS)
def test_no_pattern_is_scored_by_a_classifier_that_saw_its_label(kind: Kind) -> None:
    rng = np.random.default_rng(0)
    labels = (np.arange(120) % 3 == 0).astype(np.int8)
    table = rng.normal(labels[:, None], 1.0, (120, 4))
    table[rng.random(table.shape) < 0.1] = np.nan
    table[:, 3] = np.nan  # as in a crop without fringes
    folds = np.array_split(rng.permutation(120), 4)
    scores = out_of_fold_scores(table, labels, folds, kind)
    assert scores.dtype == np.float32
    assert metrics.roc_auc_score(labels, scores) > 0.7
    lying = labels.copy()
    lying[folds[1]] = 1 - lying[folds[1]]
    again = out_of_fold_scores(table, lying, folds, kind)
    assert np.array_equal(again[folds[1]], scores[folds[1]])
    assert not np.array_equal(again[folds[0]], scores[folds[0]])


def test_a_record_has_the_values_of_scikit_learn_within_their_intervals() -> None:
    rng = np.random.default_rng(0)
    labels = (np.arange(100) < 30).astype(np.int8)
    scores = np.clip(rng.normal(0.3 + 0.3 * labels, 0.2), 0, 1).astype(np.float32)
    threshold = best_threshold(scores, labels)
    record = judged("test", "ours", "labels", scores, labels, threshold)
    assert record["f1"] == pytest.approx(max(metrics.f1_score(labels, scores >= cut) for cut in scores))
    assert record["auroc"] == pytest.approx(metrics.roc_auc_score(labels, scores))
    assert record["predicted"] == (scores >= threshold).sum()
    assert record["singles"] == 30
    for name in ("f1", "auroc", "average_precision", "precision", "recall"):
        assert float(record[f"{name} low"]) < float(record[name]) < float(record[f"{name} high"])
