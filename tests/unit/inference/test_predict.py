from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from spi_lightning.errors import SpiError
from spi_lightning.inference.predict import READ, score_run
from tests.unit.inference.small import small_ensemble
from tests.unit.patterns.fake_run import FakeRun, photons


def together(parts: Iterator[tuple[int, np.ndarray]]) -> np.ndarray:
    """All scores; the parts have to follow each other."""
    found, done = [], 0
    for start, models in parts:
        assert start == done
        done += len(models)
        found.append(models)
    return np.concatenate(found)


@pytest.mark.parametrize("batch", [None, 7, 1000])
def test_a_run_is_scored_as_all_its_patterns_at_once(batch: int | None) -> None:
    ensemble, run = small_ensemble(2), FakeRun(photons(READ + 30))
    told: list[int] = []
    found = together(score_run(ensemble, run, batch=batch, advance=told.append))
    expected = ensemble.probabilities(torch.from_numpy(run.frames), 50).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert sum(told) == len(run)


def test_some_patterns_in_the_order_asked_for() -> None:
    ensemble, run = small_ensemble(2), FakeRun(photons(READ + 30))
    indices = np.random.default_rng(0).permutation(len(run))[: READ + 5]
    found = together(score_run(ensemble, run, indices))
    np.testing.assert_allclose(found, together(score_run(ensemble, run))[indices], atol=1e-6)
    assert not list(score_run(ensemble, run, np.array([], np.int64)))


class EndlessRun(FakeRun):
    """Several hundred blocks, made when they are read; counts how many are in memory at once."""

    def __init__(self) -> None:
        super().__init__(photons(4))
        self.alive = self.most_alive = self.made = 0
        self.lock = threading.Lock()

    def __len__(self) -> int:
        return 300 * 4

    def blocks(self, size: int = 512, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, np.ndarray]]:
        def gone() -> None:
            with self.lock:
                self.alive -= 1

        for first in range(0, len(self), 4):
            block = self.frames.copy()
            with self.lock:
                self.alive += 1
                self.made += 1
                self.most_alive = max(self.most_alive, self.alive)
            weakref.finalize(block, gone)
            yield first, block
            del block


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_memory_does_not_grow_with_the_run(one_thread: None) -> None:
    run = EndlessRun()
    found = together(score_run(small_ensemble(1), run))
    assert len(found) == len(run)
    assert run.made == 300
    assert run.most_alive <= 4  # one is worked on, one waits, one has been read ahead, one is being made


def test_reading_goes_on_while_scores_are_used(one_thread: None) -> None:
    run = EndlessRun()
    parts = score_run(small_ensemble(1), run)
    next(parts)
    for _ in range(200):
        if run.made == 3:
            break
        threading.Event().wait(0.01)
    assert run.made == 3  # one is worked on, one waits, and one has been read ahead
    parts.close()


def test_another_shape_is_refused_before_anything_is_read() -> None:
    run = FakeRun(photons(4, (16, 16)))
    with pytest.raises(SpiError, match=r"trained on patterns of 24 x 30 .* these are 16 x 16"):
        next(score_run(small_ensemble(), run))
    assert run.most_at_once == 0


def test_a_frame_that_cannot_be_read_is_told() -> None:
    class Damaged(FakeRun):
        def read(self, indices: np.ndarray) -> np.ndarray:
            if indices[-1] > 300:
                raise SpiError("row 301 cannot be read")
            return super().read(indices)

    parts = score_run(small_ensemble(1), Damaged(photons(400)))
    with pytest.raises(SpiError, match="row 301"):
        list(parts)
