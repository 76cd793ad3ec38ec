"""Scoring a run of any length in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from spi_lightning.inference.ensemble import CPU_BATCH, Ensemble
from spi_lightning.inference.parallel import each_on_one_core
from spi_lightning.patterns.frames import Frames

READ = 256  # patterns that are read at once, fewer where they are large
GPU_BATCH = 512  # patterns that go through a network at once


def score_run(
    ensemble: Ensemble,
    run: Frames,
    indices: np.ndarray | None = None,
    batch: int | None = None,
    advance: Callable[[int], object] = lambda n: None,
) -> Iterator[tuple[int, np.ndarray]]:
    """Score the patterns of a run, or some of them, while a thread reads ahead; a few blocks are in memory at once.

    Args:
        ensemble: see :meth:`Ensemble.probabilities`.
        run: photon counts, prepared as those of the training were.
        indices: ``(n,)`` integers, of the patterns to score; None for all.
        batch: patterns that go through a network at once; None for what suits the device.
        advance: told how many more have been scored.

    Yields:
        Place of the first pattern (in ``indices``, or in the run), and the probabilities ``(k, networks)`` float32.

    Raises:
        SpiError: the patterns have another shape than those of the training, or cannot be read.
    """
    ensemble.check_shape(run.shape)
    on_cpu = ensemble.device.type == "cpu"
    patterns = batch or (CPU_BATCH if on_cpu else GPU_BATCH)
    size = max(READ, patterns)
    blocks = run.blocks(size) if indices is None else _chosen(run, indices, size)

    def scored(part: tuple[int, np.ndarray]) -> tuple[int, np.ndarray]:
        start, counts = part
        return start, ensemble.probabilities(torch.from_numpy(counts), patterns).cpu().numpy()

    parts = _parts(_one_ahead(blocks), patterns)
    for start, models in each_on_one_core(scored, parts, torch.get_num_threads()) if on_cpu else map(scored, parts):
        yield start, models
        advance(len(models))


def _parts(blocks: Iterator[tuple[int, np.ndarray]], size: int) -> Iterator[tuple[int, np.ndarray]]:
    for first, counts in blocks:
        for start in range(0, len(counts), size):
            yield first + start, np.ascontiguousarray(counts[start : start + size])


def _chosen(run: Frames, indices: np.ndarray, size: int) -> Iterator[tuple[int, np.ndarray]]:
    for start in range(0, len(indices), size):
        yield start, run.read(indices[start : start + size])


def _one_ahead(blocks: Iterator[tuple[int, np.ndarray]]) -> Iterator[tuple[int, np.ndarray]]:
    """The same blocks; while one is worked on, the next is read."""
    with ThreadPoolExecutor(1) as reader:
        waiting = reader.submit(next, blocks, None)
        while (block := waiting.result()) is not None:
            waiting = reader.submit(next, blocks, None)
            yield block
