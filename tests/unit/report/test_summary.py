from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spi_lightning.report.summary import contact_choice, count_statistics


class Frames:
    """A run in memory, as far as statistics ask for one."""

    def __init__(self, frames: np.ndarray, mask: np.ndarray):
        self.frames, self.mask, self.shape = frames, mask, frames.shape[1:]

    def __len__(self) -> int:
        return len(self.frames)

    def blocks(self, size: int) -> Iterator[tuple[int, np.ndarray]]:
        for start in range(0, len(self.frames), 7):  # smaller than asked for, as at the end of chunks
            yield start, self.frames[start : start + 7]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32])
def test_statistics_are_those_of_the_whole_run_at_once(dtype: type) -> None:
    rng = np.random.default_rng(0)
    frames = rng.poisson(3.0, (40, 9, 11)).astype(dtype)
    frames[3, 2, 2] = 251
    mask = rng.random((9, 11)) > 0.2
    mask[2, 2] = True
    seen = []
    counts = count_statistics(Frames(frames, mask), seen.append)
    zeroed = np.where(mask, frames, 0).astype(np.float64)
    assert counts.mean == pytest.approx(zeroed.mean())
    assert counts.deviation == pytest.approx(zeroed.std())
    assert (counts.lowest, counts.highest) == (frames[:, mask].min(), 251)
    assert counts.zeros == pytest.approx((frames[:, mask] == 0).mean())
    assert np.allclose(counts.totals, zeroed.sum((1, 2)))
    assert np.allclose(counts.mean_pattern[mask], zeroed.mean(0)[mask])
    assert np.isnan(counts.mean_pattern[~mask]).all()
    assert sum(seen) == 40


def test_values_that_are_not_finite_are_counted_and_left_out() -> None:
    frames = np.ones((2, 3, 3), np.float32)
    frames[0, 0, 0], frames[1, 1, 1] = np.nan, -np.inf
    counts = count_statistics(Frames(frames, np.ones((3, 3), bool)))
    assert counts.not_finite == 2
    assert counts.totals.tolist() == [8.0, 8.0]
    assert (counts.lowest, counts.highest) == (0.0, 1.0)


@given(st.integers(1, 60), st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_a_contact_sheet_shows_each_pattern_once_and_single_hits_first(n: int, how_many: int, seed: int) -> None:
    labels = np.random.default_rng(seed).integers(-1, 2, n)
    chosen = contact_choice(n, labels, how_many)
    assert len(set(chosen.tolist())) == len(chosen) == min(n, how_many)
    singles = labels[chosen] == 1
    assert not (np.diff(singles.astype(int)) > 0).any()
    if (labels == 1).sum() >= 1 and how_many >= 2:
        assert singles.any()
    assert contact_choice(n, None, how_many).tolist() == sorted(contact_choice(n, None, how_many).tolist())
