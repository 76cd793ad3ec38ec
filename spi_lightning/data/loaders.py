"""Training batches as the sampler draws them: made on the network's device, or by worker processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from spi_lightning.augmentation.pipeline import Pipeline
from spi_lightning.data.normalisation import Normalisation
from spi_lightning.data.sampler import Draw, SingleHitSampler
from spi_lightning.data.training_set import TrainingSet

# How many batches are augmented at once. On a GPU, augmentation takes the time to start its operations, whatever the
# number of patterns; on a CPU, a batch should not leave the cache.
GPU_GROUP, CPU_GROUP = 8, 1

Finish = Callable[[torch.Tensor, int], torch.Tensor]  # counts (n, rows, columns) and a seed → what the network sees


class Batch(NamedTuple):
    """What a training step is given.

    Attributes:
        patterns: ``(n, 1, rows, columns)`` float32, normalised and augmented.
        labels: int64 ``(n,)``: 1 single hit, 0 other.
    """

    patterns: torch.Tensor
    labels: torch.Tensor


class ResumableLoader:
    """A data loader that begins late enough, and can go on in the middle of an epoch.

    Lightning asks for the first iterator before it has told the sampler the epoch, and after a resume goes on with that
    one; since this one draws nothing before the first batch is asked for, the sampler knows by then. Lightning keeps
    ``state_dict`` in its checkpoints.

    Attributes:
        sampler: which Lightning tells the epoch.
    """

    def __init__(self, sampler: SingleHitSampler, batches: Callable[[], Iterator[Batch]]) -> None:
        """Hand out batches.

        Args:
            sampler: where the epoch stands.
            batches: makes those from there to the end of the epoch.
        """
        self.sampler, self._batches = sampler, batches
        self._given = 0

    def __len__(self) -> int:
        """Batches of a whole epoch."""
        return len(self.sampler)

    def __iter__(self) -> Iterator[Batch]:
        self._given = self.sampler.start
        for batch in self._batches():
            self._given += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Epoch, and how many of its batches have been handed out."""
        return {"epoch": self.sampler.epoch, "step": self._given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on where :meth:`state_dict` was asked."""
        self.sampler.go_to(state["epoch"], state["step"])
        self._given = self.sampler.start  # for a state that is asked for before the first batch


def finishing(pipeline: Pipeline, normalisation: Normalisation, mask: torch.Tensor) -> Finish:
    """What makes a training batch of counts.

    Args:
        pipeline: augments it.
        normalisation: of the counts.
        mask: ``(rows, columns)`` bool, True = good, on the device of the counts.
    """
    return partial(_finished, pipeline=pipeline, normalisation=normalisation, mask=mask)


def on_device(
    training_set: TrainingSet, sampler: SingleHitSampler, finish: Finish, device: torch.device, group: int | None = None
) -> ResumableLoader:
    """A loader that makes batches on a device, where all counts are: no pattern is looked at by Python.

    Some batches are augmented together. A resume in their middle makes all of them again, so that what is drawn for
    a batch depends on the seeds and the group alone.

    Args:
        training_set: the patterns; their counts are copied to the device.
        sampler: of the same device.
        finish: see :func:`finishing`.
        device: of the network.
        group: batches at once; None for what suits the device.
    """
    group = group or (CPU_GROUP if device.type == "cpu" else GPU_GROUP)
    counts, labels = training_set.on(device), torch.from_numpy(training_set.labels).to(device)

    def batches() -> Iterator[Batch]:
        start = sampler.start
        rows, seeds = sampler.rows_of(sampler.epoch), sampler.seeds_of(sampler.epoch)
        for first in range(start - start % group, len(sampler), group):
            some = rows[first : first + group]
            patterns = finish(counts.of(some.flatten()), seeds[first]).unflatten(0, tuple(some.shape))
            skipped = max(start - first, 0)
            for batch in zip(patterns[skipped:], labels[some][skipped:], strict=True):
                yield Batch(*batch)

    return ResumableLoader(sampler, batches)


def in_workers(
    training_set: TrainingSet, sampler: SingleHitSampler, finish: Finish, workers: int, pin: bool
) -> ResumableLoader:
    """A loader whose batches are made by worker processes on the CPU, each on one thread, as torch's workers compute.

    Args:
        training_set: the patterns.
        sampler: of the CPU.
        finish: see :func:`finishing`.
        workers: processes; 0: the main process makes the batches.
        pin: keep batches where a GPU can fetch them.
    """
    loader: DataLoader[Batch] = DataLoader(
        _Finished(training_set, finish),
        batch_size=None,  # the sampler hands out whole batches
        sampler=sampler,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=pin,
    )
    return ResumableLoader(sampler, partial(iter, loader))


class _Finished(Dataset[Batch]):
    """Whole batches by what the sampler drew."""

    def __init__(self, training_set: TrainingSet, finish: Finish) -> None:
        self._training_set, self._finish = training_set, finish

    def __getitem__(self, draw: Draw) -> Batch:
        patterns = self._finish(self._training_set.tensor(draw.rows), draw.seed)
        return Batch(patterns, torch.from_numpy(self._training_set.labels[draw.rows]))


class LabelledCounts(NamedTuple):
    """What a validation step is given.

    Attributes:
        counts: ``(n, rows, columns)`` photons: uint8, int32 or int64.
        labels: int64 ``(n,)``: 1 single hit, 0 other.
    """

    counts: torch.Tensor
    labels: torch.Tensor


class CountBlocks(Dataset[LabelledCounts]):
    """Patterns in order, some at a time, each once."""

    def __init__(self, training_set: TrainingSet, rows: np.ndarray, size: int) -> None:
        """Cut them into blocks.

        Args:
            training_set: that holds them.
            rows: int64 ``(n,)``, where.
            size: patterns of a block; the last one may have fewer.
        """
        self._training_set = training_set
        self._rows = [rows[start : start + size] for start in range(0, len(rows), size)]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, block: int) -> LabelledCounts:
        rows = self._rows[block]
        return LabelledCounts(self._training_set.tensor(rows), torch.from_numpy(self._training_set.labels[rows]))


def _finished(
    counts: torch.Tensor, seed: int, *, pipeline: Pipeline, normalisation: Normalisation, mask: torch.Tensor
) -> torch.Tensor:
    return pipeline(normalisation(counts)[:, None], mask, normalisation.zero, seed)
