import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spi_lightning.errors import SpiError
from spi_lightning.inference import predict
from spi_lightning.inference.cascade import Cascade, CascadeSettings, CascadeTally
from spi_lightning.inference.first_looks import FLOOR, MOST, FirstLooks, candidates, choose_bound
from spi_lightning.inference.low_precision import LowPrecision
from spi_lightning.inference.predict import score_run
from tests.unit.inference.small import small_ensemble
from tests.unit.patterns.fake_run import FakeRun, photons

RUN = FakeRun(photons(300))


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits))


def looks(logits: np.ndarray, full: float = 0.9, networks: int = 1) -> FirstLooks:
    owners = np.arange(len(logits)) % networks
    return FirstLooks(tuple(logits.tolist()), (full,) * len(logits), tuple(owners.tolist()), FLOOR)


class TestBound:
    @pytest.mark.parametrize(("mean", "sd", "networks"), [(2.0, 1.5, 1), (8.0, 2.5, 5), (0.0, 1.0, 5)])
    def test_no_more_than_the_allowed_share_is_missed(self, mean: float, sd: float, networks: int) -> None:
        """Of normal logits whose mean each network has for itself, with the confidence that is claimed."""
        rng = np.random.default_rng(1)
        kept = 0
        for _ in range(400):
            means = mean + rng.normal(0, 0.5, networks)
            drawn = rng.normal(means[np.arange(100) % networks], sd)
            bound = choose_bound(looks(drawn, 1.0, networks), 1.0, missed=0.01)
            below = 0.5 * math.erfc((means[0] - math.log(bound / (1 - bound))) / sd / math.sqrt(2))
            kept += below <= 0.01
        assert 0.93 <= kept / 400 <= 1.0

    def test_it_matches_the_tables(self) -> None:
        """Natrella 1963, table A-7: factor 2.396 for n = 20, 95 % confidence, 95 % of the population."""
        logits = np.linspace(0.0, 2.0, 20)
        wanted = logits.mean() - 2.396 * logits.std(ddof=1)
        assert wanted < logits.min()
        assert choose_bound(looks(logits), 0.8, missed=0.05) == pytest.approx(float(sigmoid(wanted)), rel=1e-3)

    def test_none_of_those_seen_lies_below(self) -> None:
        logits = np.append(np.full(50, 3.0) + np.linspace(0, 0.1, 50), -4.0)
        assert choose_bound(looks(logits), 0.9, missed=0.5) <= sigmoid(np.array(-4.0)) + 1e-12

    def test_it_is_of_the_network_that_looks(self) -> None:
        two = FirstLooks((-1.0, 0.0, 1.0) * 10 + (9.0, 10.0, 11.0) * 10, (1.0,) * 60, (0,) * 30 + (1,) * 30, FLOOR)
        first, second = choose_bound(two, 1.0), choose_bound(two, 1.0, network=1)
        assert math.log(second / (1 - second)) - math.log(first / (1 - first)) == pytest.approx(10.0)

    def test_a_network_with_few_of_its_own_is_like_the_lowest_other(self) -> None:
        three = FirstLooks(
            (5.0,) + (-1.0, 0.0, 1.0) * 10 + (2.0, 3.0, 4.0) * 10, (1.0,) * 61, (0,) + (1,) * 30 + (2,) * 30, FLOOR
        )
        assert choose_bound(three, 1.0) == choose_bound(three, 1.0, network=1) < choose_bound(three, 1.0, network=2)

    def test_only_patterns_that_reach_the_threshold_count(self) -> None:
        low, high = np.linspace(-6, -5, 30), np.linspace(2, 3, 30)
        both = FirstLooks(tuple(np.append(low, high).tolist()), (0.2,) * 30 + (0.9,) * 30, (0,) * 60, FLOOR)
        assert choose_bound(both, 0.9) == choose_bound(looks(high), 0.9)
        assert choose_bound(both, 0.1) < choose_bound(both, 0.9)

    @settings(deadline=None, max_examples=30)
    @given(st.lists(st.floats(-1000, 1000), min_size=10, max_size=40), st.floats(0.06, 1.0))
    def test_it_is_never_above_the_threshold(self, logits: list[float], threshold: float) -> None:
        assert 0 <= choose_bound(looks(np.array(logits), 1.0), threshold) <= threshold

    def test_what_cannot_be_told_is_refused(self) -> None:
        with pytest.raises(SpiError, match=r"needs 5 patterns.*of 0\.95.*there are 0 .*cascade\.enabled=false"):
            choose_bound(looks(np.zeros(20)), 0.95)
        with pytest.raises(SpiError, match=r"needs 5 patterns.*there are 20 for all networks together"):
            choose_bound(looks(np.zeros(20), networks=10), 0.8)
        with pytest.raises(SpiError, match=r"threshold of 0\.05 or more; it is 0\.01"):
            choose_bound(looks(np.zeros(20)), 0.01)
        with pytest.raises(SpiError, match=r"3 numbers.*2, as many as first"):
            FirstLooks((0.1, 0.2), (0.1, 0.2, 0.3), (0, 0), FLOOR)
        with pytest.raises(SpiError, match="finite logits"):
            FirstLooks((0.1, float("nan")), (0.1, 0.2), (0, 0), FLOOR)
        with pytest.raises(SpiError, match="probabilities, from 0 to 1"):
            FirstLooks((0.1, 7.0), (0.1, 1.2), (0, 0), FLOOR)


class TestCandidates:
    def test_labelled_single_hits_and_whatever_scored_high(self) -> None:
        unseen = np.array([0.0, 0.9, 0.04, 0.06, 0.01])
        for threshold, floor in ((0.1, FLOOR), (0.6, 0.15)):
            places, found = candidates(unseen, np.array([0, 0, 0, 0, 1]), threshold)
            assert places.tolist() == [1, 3, 4] if floor == FLOOR else [1, 4]
            assert found == pytest.approx(floor)

    def test_of_many_a_fair_sample(self) -> None:
        unseen = np.linspace(0.1, 0.9, 3 * MOST)
        places, _ = candidates(unseen, np.zeros(len(unseen), int), 0.4)
        assert len(np.unique(places)) == MOST
        assert abs(unseen[places].mean() - 0.5) < 0.02
        assert (candidates(unseen, np.zeros(len(unseen), int), 0.4)[0] == places).all()


class TestCascade:
    def scored(self, bound: float, audit: float = 0.0) -> tuple[Cascade, np.ndarray, np.ndarray, np.ndarray]:
        """The cascade; its scores; those of the whole ensemble; the first looks."""
        ensemble = small_ensemble(3, threshold=0.5)
        cascade = Cascade(ensemble, bound, audit)
        parts = list(score_run(ensemble, RUN, preview=cascade))
        assert [start for start, _ in parts] == np.cumsum([0, *(len(models) for _, models in parts)])[:-1].tolist()
        found = np.concatenate([models for _, models in parts])
        full = np.concatenate([models for _, models in score_run(ensemble, RUN)])
        first = dataclasses.replace(ensemble, networks=ensemble.networks[:1], mirrors=("none",))
        looked = np.concatenate([models for _, models in score_run(first, RUN)])[:, 0]
        return cascade, found, full, looked

    def test_what_reaches_the_bound_has_the_scores_of_the_ensemble(self) -> None:
        bound = float(np.median(self.scored(0.0)[3]))
        cascade, found, full, first = self.scored(bound)
        possible = first >= bound
        assert 100 < possible.sum() < 200
        np.testing.assert_allclose(found[possible], full[possible], atol=1e-6)
        np.testing.assert_allclose(found[~possible, 0], first[~possible], atol=1e-6)
        assert np.isnan(found[~possible, 1:]).all()
        assert cascade.tally == CascadeTally(int((~possible).sum()), 0, 0)

    @pytest.mark.parametrize("place", [0.5, 0.9, 0.99])
    def test_networks_are_asked_as_long_as_the_threshold_can_be_reached(self, place: float) -> None:
        """With a threshold that some of the patterns could reach by one more network, and one that some do reach."""
        ensemble = small_ensemble(3)
        full = np.concatenate([models for _, models in score_run(ensemble, RUN)])
        for threshold in (float(np.quantile(full[:, 0] + 2, place)) / 3, float(np.quantile(full.mean(1), place))):
            ensemble = small_ensemble(3, threshold=threshold)
            parts = list(score_run(ensemble, RUN, preview=Cascade(ensemble, 0.0)))
            found = np.concatenate([models for _, models in parts])
            asked = np.isfinite(found)
            np.testing.assert_allclose(found[asked], full[asked], atol=1e-6)
            for network in (1, 2):
                reachable = (full[:, :network].sum(1, dtype=np.float64) + 3 - network) / 3
                sure = np.abs(reachable - threshold) > 1e-4
                assert (asked[:, network] == (reachable >= threshold))[sure].all()
            whole = asked.all(axis=1)
            assert (found[whole].mean(1, dtype=np.float64) >= threshold).sum() == (
                full.mean(1, dtype=np.float64) >= threshold
            ).sum()
            assert (np.nanmean(found[~whole], axis=1) < threshold).all() if (~whole).any() else threshold < 0.6

    def test_the_ends(self) -> None:
        _, found, full, _ = self.scored(0.0)
        np.testing.assert_allclose(found, full, atol=1e-6)
        cascade, found, _, first = self.scored(1.0)
        np.testing.assert_allclose(found[:, 0], first, atol=1e-6)
        assert cascade.tally.left_out == len(RUN)

    def test_an_audit_finds_what_was_missed(self) -> None:
        cascade, found, full, _ = self.scored(1.0, audit=0.5)
        audited = ~np.isnan(found[:, 1])
        assert 100 < audited.sum() == cascade.tally.audited < 200
        np.testing.assert_allclose(found[audited], full[audited], atol=1e-6)
        selected = full.mean(1) >= 0.5
        assert cascade.tally.missed == (selected & audited).sum() > 0
        said = cascade.facts(len(RUN))
        assert (said["needed more than a first look"], said["share"]) == (0, 0.0)
        assert (said["audited"], said["wrongly left out"]) == (cascade.tally.audited, cascade.tally.missed)

    def test_what_is_audited_does_not_depend_on_how_a_run_is_cut(self) -> None:
        ensemble = small_ensemble(2)
        whole = Cascade(ensemble, 1.0, 0.2)
        found = np.concatenate([models for _, models in score_run(ensemble, RUN, preview=whole)])
        audited = ~np.isnan(found[:, 1])
        tallies = CascadeTally()
        for span in ((0, 7), (7, 130), (130, 300)):
            part = Cascade(ensemble, 1.0, 0.2)
            models = np.concatenate([models for _, models in score_run(ensemble, RUN, preview=part, span=span)])
            assert (~np.isnan(models[:, 1]) == audited[slice(*span)]).all()
            tallies += part.tally
        assert tallies == whole.tally
        some = np.random.default_rng(0).permutation(300)[:50]
        part = Cascade(ensemble, 1.0, 0.2)
        models = np.concatenate([models for _, models in score_run(ensemble, RUN, some, preview=part)])
        assert (~np.isnan(models[:, 1]) == audited[some]).all()
        assert 35 < audited.sum() < 85  # 60 are expected, 7 more or less
        drawn = Cascade(ensemble, 1.0)._drawn(np.arange(20_000))
        assert 0 <= drawn.min() < 0.001
        assert 0.999 < drawn.max() < 1
        assert abs(np.corrcoef(drawn[:-1], drawn[1:])[0, 1]) < 0.03

    def test_less_precise_looks_are_given_room(self) -> None:
        ensemble = small_ensemble(2)
        bounds = [Cascade(ensemble, 0.3, precision=name).bound for name in ("float32", "float16", "bfloat16")]
        assert bounds[0] == pytest.approx(0.3)
        assert bounds[0] > bounds[1] > bounds[2] > 0.15
        assert Cascade(ensemble, 1.0, precision="bfloat16").bound == 1.0

    def test_what_overflows_is_scored_in_full(self) -> None:
        bright = FakeRun(np.full((3, 24, 30), 150_000, np.uint32))
        ensemble = small_ensemble(2)
        full = np.concatenate([models for _, models in score_run(ensemble, bright)])
        for preview in (Cascade(ensemble, 0.9, precision="float16"), LowPrecision(ensemble, "float16")):
            assert np.isnan(preview.look(torch.from_numpy(bright.frames)).numpy()[:, 0]).any()
            found = np.concatenate([models for _, models in score_run(ensemble, bright, preview=preview)])
            np.testing.assert_allclose(found, full, atol=1e-6)

    def test_scores_are_not_held_back_for_long(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(predict, "HELD", 50)
        ensemble = small_ensemble(2)
        held = predict._Held(predict.Engine(ensemble), Cascade(ensemble, 1.0), 8, 1000)
        while not held.is_full:
            held.add(held._places, RUN.frames[:8], np.zeros((8, 2), np.float32), np.arange(8))
        assert len(list(held.emptied())) == 7

    def test_settings(self) -> None:
        with pytest.raises(SpiError, match=r"cascade\.missed"):
            CascadeSettings(missed=0.0)
        with pytest.raises(SpiError, match=r"cascade\.audit"):
            CascadeSettings(audit=1.5)
