from __future__ import annotations

import numpy as np
import pytest
import torch

from spi_lightning.data.normalisation import fitted
from spi_lightning.data.splits import SplitSettings, make_splits
from spi_lightning.data.training_set import load_training_set
from tests.unit.data.labelled import labelled_run, loaded, shuffled_labels

SCHEME = SplitSettings(singles=10, others=40, folds=2)


def test_it_holds_the_training_patterns_and_nothing_else() -> None:
    labels = shuffled_labels(30, 500, 20)
    run, splits, held = loaded(labels, SCHEME)
    assert len(held) == 50
    np.testing.assert_array_equal(held.indices, splits.training)
    np.testing.assert_array_equal(held.counts, run.frames[splits.training])
    np.testing.assert_array_equal(held.labels, labels[splits.training])
    np.testing.assert_array_equal(held.mask, run.mask)
    for fold in range(2):
        rows = held.rows(splits.train_of(fold))
        np.testing.assert_array_equal(held.indices[rows], splits.train_of(fold))
    with pytest.raises(KeyError, match=str(splits.test[0])):
        held.rows(np.array([splits.training[0], splits.test[0]]))
    with pytest.raises(KeyError):
        held.rows(np.array([splits.training[-1] + 1000]))


@pytest.mark.parametrize(
    ("brightest", "held_as", "given_as"),
    [
        (200, np.uint8, torch.uint8),
        (255, np.uint8, torch.uint8),
        (256, np.uint16, torch.int32),
        (65_535, np.uint16, torch.int32),
        (70_000, np.uint32, torch.int64),
        (2**32 - 1, np.uint32, torch.int64),
    ],
)
def test_counts_are_as_small_as_they_can_be_and_exact(brightest: int, held_as: type, given_as: torch.dtype) -> None:
    labels = [0, 1] * 700  # more than one block
    run = labelled_run(labels, brightest=brightest, dtype=np.uint32)
    splits = make_splits(run, SplitSettings(None, None, 0.0))
    told: list[int] = []
    held = load_training_set(run, splits, told.append)
    assert held.counts.dtype == held_as
    assert (sum(told), len(told)) == (1400, 3)
    np.testing.assert_array_equal(held.counts, run.frames)
    rows = np.array([1399, 3, 3])
    counts = held.tensor(rows)
    assert counts.dtype == given_as
    np.testing.assert_array_equal(counts.numpy(), run.frames[rows])
    on_cpu = held.on("cpu")
    assert on_cpu.bits.data_ptr() == held.counts.ctypes.data  # not a copy
    gathered = on_cpu.of(torch.from_numpy(rows))
    assert gathered.dtype == given_as
    assert torch.equal(gathered, counts)


def test_its_blocks_fit_the_normalisation() -> None:
    run, splits, held = loaded(shuffled_labels(30, 500), SCHEME)
    values = run.frames[splits.training].astype(np.float64)
    normalisation = fitted(held.blocks(7))
    assert normalisation.mean == pytest.approx(values.mean())
    assert normalisation.sd == pytest.approx(values.std())


def test_frames_that_are_no_counts_are_refused() -> None:
    run = labelled_run(shuffled_labels(30, 500), dtype=np.float32)
    with pytest.raises(ValueError, match="unsigned"):
        load_training_set(run, make_splits(run, SCHEME), lambda _: None)
