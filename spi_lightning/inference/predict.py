"""Scoring a run of any length in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch

from spi_lightning.inference.engine import Engine, on_device
from spi_lightning.inference.ensemble import Ensemble
from spi_lightning.memory import keep_heap
from spi_lightning.patterns.frames import Frames

READ = 256  # patterns that are read at once, fewer where they are large
TOGETHER = 256  # patterns that are scored in full at once after a preview, for each network to have some for each core
ROUNDING = 1e-5  # of a mean probability in float32, amply
HELD = 1 << 16  # patterns whose scores are held back at most

Part = tuple[int, np.ndarray]  # the first pattern's place, and counts


class Preview(Protocol):
    """A cheaper look at every pattern, after which only some have to be scored in full.

    Attributes:
        tally: what was counted so far, a frozen dataclass of plain numbers; those of parts of a run can be added.
    """

    tally: Any

    def look(self, counts: torch.Tensor) -> torch.Tensor:
        """Counts ``(n, rows, columns)`` → probabilities ``(n, networks)`` float32, NaN for a network left out."""

    def unsettled(self, models: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Which patterns with such probabilities, at these places of the run, to score in full: bool ``(n,)``."""

    def settled(self, before: np.ndarray, after: np.ndarray) -> None:
        """Told what scoring in full has changed, both ``(n, networks)``."""

    @property
    def enough(self) -> float | None:
        """Probability that matters: of a pattern that cannot reach it, no more networks are asked; None: ask all."""

    def facts(self, patterns: int) -> dict[str, float | int]:
        """What to tell the user of the tally, once so many patterns are scored."""


def score_run(
    ensemble: Ensemble,
    run: Frames,
    indices: np.ndarray | None = None,
    batch: int | None = None,
    advance: Callable[[int], object] = lambda n: None,
    preview: Preview | None = None,
    span: tuple[int, int] | None = None,
    engine: Engine | None = None,
) -> Iterator[tuple[int, np.ndarray]]:
    """Score the patterns of a run, or some of them, while a thread reads ahead; a few blocks are in memory at once.

    Args:
        ensemble: see :meth:`Ensemble.probabilities`, with which the scores agree to 1e-4.
        run: photon counts, prepared as those of the training were.
        indices: ``(n,)`` integers, of the patterns to score; None for all.
        batch: patterns that go through a network at once; None for what suits the device.
        advance: told how many more have been looked at.
        preview: a cheaper look, after which only some patterns are scored in full; None to score all so.
        span: the first pattern to score and the end of them, where there are no ``indices``; None for the whole run.
        engine: the ensemble made ready before, for a run that is scored in many spans.

    Yields:
        Place of the first pattern (in ``indices``, or in the run), and the probabilities ``(k, networks)`` float32: of
        patterns that were not scored in full, as the preview gave them, or NaN for networks that were not asked.

    Raises:
        SpiError: the patterns have another shape than those of the training, or cannot be read.
    """
    ensemble.check_shape(run.shape)
    engine = engine or Engine(ensemble)
    if engine.device.type == "cpu":
        keep_heap()
    patterns = batch or engine.batch
    size = max(READ, patterns)
    blocks = run.blocks(size, *(span or ())) if indices is None else _chosen(run, indices, size)
    parts = _parts(_one_ahead(blocks), patterns)
    if preview is None:
        for start, _, models in _scored(engine.probabilities, parts, engine):
            advance(len(models))
            yield start, models
        return
    held = _Held(engine, preview, patterns, max(TOGETHER, patterns))
    for start, counts, models in _scored(preview.look, parts, engine):
        advance(len(models))
        places = np.arange(start, start + len(models))
        held.add(start, counts, models, places if indices is None else indices[places])
        if held.is_full:
            yield from held.emptied()
    yield from held.emptied()


class _Held:
    """What a preview has scored, until enough of it waits to be scored in full for that to be fast."""

    def __init__(self, engine: Engine, preview: Preview, batch: int, enough: int):
        self._engine, self._preview, self._batch, self._enough = engine, preview, batch, enough
        self._done: list[tuple[int, np.ndarray]] = []
        self._waiting: list[tuple[np.ndarray, int]] = []  # counts of a pattern, and its place among the done ones
        self._places = 0

    def add(self, start: int, counts: np.ndarray, models: np.ndarray, places: np.ndarray) -> None:
        for row in self._preview.unsettled(models, places).nonzero()[0].tolist():
            self._waiting.append((counts[row].copy(), self._places + row))  # a copy: the block may go
        self._done.append((start, models))
        self._places += len(models)

    @property
    def is_full(self) -> bool:
        return len(self._waiting) >= self._enough or self._places >= HELD

    def emptied(self) -> Iterator[tuple[int, np.ndarray]]:
        """Score what waits, and hand out all that was held."""
        if self._waiting:
            counts = np.stack([pattern for pattern, _ in self._waiting])
            places = [place for _, place in self._waiting]
            exact = self._in_full(counts)
            everything = np.concatenate([models for _, models in self._done])
            self._preview.settled(everything[places], exact)
            everything[places] = exact
            ends = np.cumsum([len(models) for _, models in self._done])[:-1]
            starts = [start for start, _ in self._done]
            self._done = list(zip(starts, np.split(everything, ends), strict=True))
        yield from self._done
        self._done, self._waiting, self._places = [], [], 0

    def _in_full(self, counts: np.ndarray) -> np.ndarray:
        """Probabilities ``(n, networks)``, NaN from where on a pattern could no longer reach what is enough."""
        engine, enough = self._engine, self._preview.enough
        if enough is None:
            return _all(engine.probabilities, counts, self._batch, engine)
        found = np.full((len(counts), len(engine)), np.nan, np.float32)
        possible = np.arange(len(counts))
        for member in range(len(engine)):
            one = partial(engine.probabilities, networks=slice(member, member + 1))
            found[possible, member] = _all(one, counts[possible], self._batch, engine)[:, 0]
            said, silent = found[possible, : member + 1].sum(axis=1, dtype=np.float64), len(engine) - member - 1
            possible = possible[(said + silent) / len(engine) >= enough - ROUNDING]
        return found


def _all(
    function: Callable[[torch.Tensor], torch.Tensor], counts: np.ndarray, batch: int, engine: Engine
) -> np.ndarray:
    parts = [models for _, _, models in _scored(function, _parts(iter([(0, counts)]), batch), engine)]
    return np.concatenate(parts) if parts else np.empty((0, 1), np.float32)


def _scored(
    function: Callable[[torch.Tensor], torch.Tensor], parts: Iterator[Part], engine: Engine
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    def applied(part: Part) -> tuple[int, np.ndarray, np.ndarray]:
        start, counts = part
        return start, counts, function(torch.from_numpy(counts)).cpu().numpy()

    return on_device(applied, parts, engine.device)


def _parts(blocks: Iterator[Part], size: int) -> Iterator[Part]:
    for first, counts in blocks:
        for start in range(0, len(counts), size):
            yield first + start, np.ascontiguousarray(counts[start : start + size])


def _chosen(run: Frames, indices: np.ndarray, size: int) -> Iterator[Part]:
    for start in range(0, len(indices), size):
        yield start, run.read(indices[start : start + size])


def _one_ahead(blocks: Iterator[Part]) -> Iterator[Part]:
    """The same blocks; while one is worked on, the next is read."""
    with ThreadPoolExecutor(1) as reader:
        waiting = reader.submit(next, blocks, None)
        while (block := waiting.result()) is not None:
            waiting = reader.submit(next, blocks, None)
            yield block
