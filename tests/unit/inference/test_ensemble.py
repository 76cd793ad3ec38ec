from __future__ import annotations

import dataclasses

import pytest
import torch

from spi_lightning.errors import SpiError
from spi_lightning.inference.ensemble import ready
from spi_lightning.inference.mirroring import MIRRORS
from tests.unit.inference.small import small_ensemble
from tests.unit.patterns.fake_run import photons


def test_by_definition() -> None:
    """Softmax of every network on every view of the normalised pattern, one at a time and in float64."""
    ensemble = small_ensemble(2)
    counts = photons(5)
    found = ensemble.probabilities(torch.from_numpy(counts))
    flips = {"none": (), "rows": (1,), "columns": (2,), "both": (1, 2)}
    for member, network in enumerate(small_ensemble(2).networks):
        network = network.double()
        for i, pattern in enumerate(counts):
            seen = (torch.from_numpy(pattern.astype(float))[None] - 0.342) / 2.336
            views = [network(seen.flip(flips[mirror])[None]).softmax(1)[0, 1] for mirror in MIRRORS]
            assert float(found[i, member]) == pytest.approx(float(sum(views)) / 4, abs=2e-6)
    assert found.dtype == torch.float32
    assert (found[:, 0] != found[:, 1]).all()


@pytest.mark.parametrize("batch", [1, 3, 8, 100])
def test_scores_do_not_depend_on_the_batch(batch: int) -> None:
    ensemble, counts = small_ensemble(), torch.from_numpy(photons(20))
    torch.testing.assert_close(ensemble.probabilities(counts, batch), ensemble.probabilities(counts, 20))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "int64", "float32"])
def test_counts_may_be_of_any_number_type(dtype: str) -> None:
    ensemble, counts = small_ensemble(), photons(4)
    expected = ensemble.probabilities(torch.from_numpy(counts))
    assert torch.equal(ensemble.probabilities(torch.from_numpy(counts.astype(dtype))), expected)


def test_no_pattern_gives_no_score() -> None:
    assert small_ensemble(3).probabilities(torch.zeros(0, 24, 30)).shape == (0, 3)


def test_patterns_of_another_shape_are_refused() -> None:
    ensemble = small_ensemble(shape=(192, 96))
    with pytest.raises(SpiError, match=r"trained on patterns of 192 x 96 .* these are 24 x 30"):
        ensemble.probabilities(torch.zeros(2, 24, 30))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"networks": ()}, "number of networks is 0"),
        ({"mirrors": ()}, "mirrors is"),
        ({"mirrors": ("rows", "rows")}, "mirrors is"),
        ({"threshold": 1.01}, "threshold is 1.01"),
        ({"threshold": float("nan")}, "threshold is nan"),
    ],
)
def test_what_is_no_ensemble(changes: dict, message: str) -> None:
    with pytest.raises(SpiError, match=message):
        small_ensemble(**changes)


def test_ready_networks_neither_train_nor_keep_gradients() -> None:
    network = ready(small_ensemble(1).networks[0].train().requires_grad_(True))
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
def test_the_gpu_agrees_with_the_cpu() -> None:
    ensemble, counts = small_ensemble(), torch.from_numpy(photons(20))
    expected = ensemble.probabilities(counts)
    there = dataclasses.replace(ensemble, networks=tuple(ready(network, "cuda") for network in ensemble.networks))
    assert there.device.type == "cuda"
    torch.testing.assert_close(there.probabilities(counts, 16).cpu(), expected, atol=2e-3, rtol=0)
