from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
import torch

from benchmarks import paper_faithful
from benchmarks.augmentation import all_on, configured
from benchmarks.paper_faithful import (
    NORMALISATION,
    SINGLE_SHARE,
    full_ensemble,
    new_networks,
    normalised_patterns,
    one_model,
    pattern_counts,
    training_step,
)
from spi_lightning.augmentation.settings import Transform, Transforms
from spi_lightning.inference.ensemble import ready
from spi_lightning.inference.mirroring import MIRRORS
from tests.unit.inference.small import small_ensemble

SMALL: dict[str, Any] = {"filters": [4, 8], "blocks": [1, 1], "strides": [[1, 1], [2, 2]]}
SHAPE = (24, 30)


@pytest.mark.parametrize("how", ["state dicts", "seed"])
def test_probabilities_are_those_of_the_ensemble(how: str) -> None:
    counts = pattern_counts(70, SHAPE)  # more than a batch
    patterns = NORMALISATION(torch.from_numpy(counts.astype(np.int32))).numpy()
    if how == "seed":
        networks = new_networks(3, patterns, 4, SMALL)
        ensemble = small_ensemble(networks=tuple(ready(network) for network in networks))
        found = full_ensemble(patterns, 3, 4, architecture=SMALL)()
    else:
        ensemble = small_ensemble()
        states = [network.state_dict() for network in ensemble.networks]
        found = full_ensemble(patterns, states, architecture=SMALL)()
    expected = ensemble.probabilities(torch.from_numpy(counts.astype(np.int32))).numpy()
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert found.std(0).min() > 1e-3  # patterns differ, or the comparison would say nothing


def test_one_model_is_the_first_of_the_seed_without_mirroring() -> None:
    patterns = normalised_patterns(5, SHAPE)
    alone = one_model(patterns, 4, architecture=SMALL)()
    np.testing.assert_array_equal(alone, full_ensemble(patterns, 1, 4, "cpu", SMALL, ("none",))())
    mirrored = full_ensemble(patterns, 1, 4, "cpu", SMALL, MIRRORS)()
    assert np.abs(alone - mirrored).max() > 1e-4


def test_patterns_are_as_bright_as_the_papers() -> None:
    counts = pattern_counts(300, (48, 24))
    assert counts.dtype == np.uint16
    assert counts.mean() == pytest.approx(NORMALISATION.mean, rel=0.1)
    assert counts[:, 20:28].mean() > 3 * counts[:, :8].mean()
    np.testing.assert_allclose(normalised_patterns(300, (48, 24)).min(), NORMALISATION.zero, rtol=1e-6)


def test_training_steps_change_the_network_and_the_workers_augment_unalike(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[torch.Tensor] = []
    labels: list[torch.Tensor] = []
    plain = paper_faithful.cross_entropy

    def watching(logits: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
        labels.append(given)
        return plain(logits, given)

    monkeypatch.setattr(paper_faithful, "cross_entropy", watching)
    monkeypatch.setattr(
        paper_faithful.PreActResNet,
        "forward",
        lambda self, patterns: shown.append(patterns) or self.head(self.features(patterns).mean((2, 3))),
    )
    work = training_step((16, 16), 8, 4, n_patterns=50, architecture=SMALL)
    losses = [work(), work()]
    assert all(np.isfinite(losses))
    assert losses[0] != losses[1]
    assert [tuple(some.shape) for some in shown] == [(8, 1, 16, 16)] * 8
    assert len({some.numpy().tobytes() for some in torch.cat(shown)}) > 60  # of 64, drawn from 50 patterns
    assert sum(int(given.sum()) for given in labels) < 64 * (SINGLE_SHARE + 0.1)


def test_the_augmentation_that_is_timed_is_the_configured_one() -> None:
    assert configured() == Transforms()
    always = all_on(configured())
    assert always.rotation.degrees == Transforms().rotation.degrees
    found = {name: getattr(always, name).probability for name in get_args(Transform)}
    assert set(found.values()) == {1.0}
    assert always.gamma.inverted_probability == 1.0
