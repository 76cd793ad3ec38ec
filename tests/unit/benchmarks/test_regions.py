from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from benchmarks import profiles, regions
from benchmarks.regions import Clock, Event, exclusive, watched
from spi_lightning.augmentation.batched import BatchedPipeline
from spi_lightning.data.normalisation import Normalisation


def test_a_region_within_another_is_not_counted_twice() -> None:
    events = [
        Event(1, 0.0, "outer"),
        Event(1, 1.0, "inner"),
        Event(2, 1.5, "elsewhere"),
        Event(1, 3.0, None),
        Event(1, 4.0, "inner"),
        Event(1, 4.5, None),
        Event(1, 6.0, None),
        Event(2, 9.0, None),
    ]
    assert exclusive(events, 0.0, 10.0) == {"outer": 3.5, "inner": 2.5, "elsewhere": 7.5}
    assert exclusive(events, 2.0, 4.25) == {"outer": 1.0, "inner": 1.25, "elsewhere": 2.25}


def test_what_is_watched_is_noted_and_left_as_it_was() -> None:
    before = Normalisation.__call__, BatchedPipeline.__call__, torch.autograd.backward
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    clock = Clock()

    def closure() -> torch.Tensor:
        patterns = Normalisation("none", 1.0, 2.0)(torch.ones(3, 1, 8, 8))
        augmented = BatchedPipeline()(patterns, torch.ones(8, 8, dtype=torch.bool), -0.5, 1)
        loss = network(augmented).sum()
        loss.backward()
        return loss

    start = time.perf_counter()
    with watched(clock):
        optimizer.step(closure=closure)
    after = len(clock.events)
    optimizer.step(closure=closure)
    assert len(clock.events) == after
    assert (Normalisation.__call__, BatchedPipeline.__call__, torch.autograd.backward) == before
    names = [event.name for event in clock.events if event.name is not None]
    assert names == [
        *(regions.OPTIMISER, regions.REST, regions.NORMALISING, regions.AUGMENTING),
        *(regions.FORWARD, regions.BACKWARD),  # one forward: of the network, not of each layer
    ]
    assert len(clock.steps) == 1
    found = clock.seconds(start, clock.steps[0])
    assert min(found.values()) > 0
    assert sum(found.values()) <= clock.steps[0] - start


@pytest.mark.slow
def test_profiles_of_training_and_prediction(tmp_path: Path) -> None:
    training, prediction = profiles.training(True)(), profiles.prediction(True)()
    assert {*regions.NETWORK, regions.OPTIMISER, regions.AUGMENTING, regions.NORMALISING} <= training.seconds.keys()
    assert {regions.FORWARD, regions.NORMALISING, regions.READING} <= prediction.seconds.keys()
    for found, unit in ((training, "step"), (prediction, "pattern")):
        shares = profiles.share_table(found, unit)
        parts = {str(line["region"]): float(str(line["share"]).removesuffix(" %")) for line in shares}
        outside = parts.pop("all but the network")
        parts.pop("reading, in a thread of its own", None)
        assert sum(parts.values()) == pytest.approx(100, abs=1)
        assert 0 < outside < 100
        assert outside == pytest.approx(100 - sum(parts.get(name, 0.0) for name in regions.NETWORK), abs=0.5)
        assert any("conv" in str(line["operation"]) and "network" in str(line["region"]) for line in found.operations)
        profiles.write("trial", shares, found.operations, tmp_path)
        assert "| region | share |" in (tmp_path / "profile_trial.md").read_text()
