"""A labelled run in memory, in which every pattern can be told by its counts."""

from __future__ import annotations

import numpy as np

from spi_lightning.data.splits import Splits, SplitSettings, make_splits
from spi_lightning.data.training_set import TrainingSet, load_training_set
from tests.unit.patterns.fake_run import FakeRun

SHAPE = (4, 3)


def labelled_run(labels: np.ndarray | list[int], *, brightest: int = 0, dtype: type = np.uint16) -> FakeRun:
    """Pattern i holds i // 200 in its first pixel, i % 200 in its second; the last pixel is masked."""
    labels = np.asarray(labels, dtype=np.int8)
    frames = np.zeros((len(labels), *SHAPE), dtype)
    frames[:, 0, 0], frames[:, 0, 1] = np.divmod(np.arange(len(labels)), 200)
    frames[-1, 1, 1] = brightest
    mask = np.ones(SHAPE, bool)
    mask[-1, -1] = False
    run = FakeRun(frames, mask)
    run.labels = labels
    return run


def shuffled_labels(singles: int, others: int, unknown: int = 0, seed: int = 0) -> np.ndarray:
    labels = np.repeat(np.array([1, 0, -1], np.int8), [singles, others, unknown])
    return np.random.default_rng(seed).permutation(labels)


def loaded(labels: np.ndarray, settings: SplitSettings) -> tuple[FakeRun, Splits, TrainingSet]:
    run = labelled_run(labels)
    splits = make_splits(run, settings)
    return run, splits, load_training_set(run, splits, lambda _: None)
