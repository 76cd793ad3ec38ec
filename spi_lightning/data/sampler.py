"""Which patterns make each training batch: drawn with replacement, single hits more often than they come.

Every draw is a function of (seed, fold, epoch, step, place in the batch) alone, so that it is the same on every device,
whatever the number of data loader workers, and after training was interrupted and resumed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Sampler

from spi_lightning.data.seeds import hashed_seed, random_words, shifted
from spi_lightning.errors import SpiError, require

_ROWS, _AUGMENTATION = 1, 2  # what is drawn in an epoch
_FRACTION = 53  # bits that decide between single hits and others


@dataclass(frozen=True)
class SamplerSettings:
    """What the network is shown in an epoch.

    Attributes:
        single_share: chance that a drawn pattern is a single hit; None: every pattern has the same chance.
        batch_size: patterns in a batch, of all devices together.
        batches: in an epoch.
    """

    single_share: float | None = 0.02
    batch_size: int = 64
    batches: int = 50

    def __post_init__(self) -> None:
        fits = self.single_share is None or 0 < self.single_share < 1
        require(fits, "sampler.single_share", self.single_share, "between 0 and 1, or null to draw all patterns alike")
        require(self.batch_size >= 1, "sampler.batch_size", self.batch_size, "1 or more")
        require(self.batches >= 1, "sampler.batches", self.batches, "1 or more")


class Draw(NamedTuple):
    """The patterns of a batch, and how they are augmented.

    Attributes:
        rows: int64 ``(n,)``, rows of the training set, repeats allowed.
        seed: of the augmentation, 63 bits.
    """

    rows: np.ndarray
    seed: int


class SingleHitSampler(Sampler[Draw]):
    """Hands out the batches of one epoch, or of the rest of it.

    Assalauova et al. 2022, section 3.3: samples are drawn with replacement such that a given share of those shown are
    single hits. Under DDP, every rank draws the whole batch and takes its own part, so that all parts together are the
    batch that one process would have had.

    Attributes:
        epoch: from 0 on.
        start: the first batch that is handed out, from 0 on.
    """

    def __init__(
        self,
        rows: np.ndarray,
        labels: np.ndarray,
        settings: SamplerSettings,
        seed: int,
        fold: int,
        rank: int = 0,
        world: int = 1,
        device: str | torch.device = "cpu",
    ) -> None:
        """Draw among some patterns.

        Args:
            rows: of the training set, int64 ``(n,)``: the patterns that may be drawn.
            labels: theirs, ``(n,)``: 1 single hit, 0 other.
            settings: see :class:`SamplerSettings`.
            seed: not negative.
            fold: from 0 on; each fold draws for itself.
            rank: of this process.
            world: number of processes.
            device: on which rows are drawn.

        Raises:
            SpiError: a batch cannot be shared out evenly, or a class to be drawn has no pattern.
        """
        if settings.batch_size % world:
            raise SpiError(
                f"sampler.batch_size is {settings.batch_size}, which {world} devices cannot share evenly. Choose a "
                f"multiple of {world}, or another number of devices."
            )
        singles, others = rows[labels == 1], rows[labels == 0]
        if settings.single_share is not None and not (len(singles) and len(others)):
            raise SpiError(
                f"sampler.single_share is {settings.single_share}, but of the {len(rows)} patterns to draw from "
                f"{len(singles)} are single hits. Label patterns of both kinds, or set sampler.single_share=null."
            )
        self._all, self._singles, self._others = (
            torch.as_tensor(some, device=device) for some in (rows, singles, others)
        )
        self._settings, self._device = settings, device
        self._key = (seed, fold)
        self._rank, self._world = rank, world
        self.epoch, self.start = 0, 0

    def __len__(self) -> int:
        """Batches of a whole epoch."""
        return self._settings.batches

    def __iter__(self) -> Iterator[Draw]:
        rows, seeds = self.rows_of(self.epoch).cpu().numpy(), self.seeds_of(self.epoch)
        for step in range(self.start, len(self)):
            yield Draw(rows[step], seeds[step])

    def set_epoch(self, epoch: int) -> None:
        """Go to the beginning of an epoch; where it is the present one, stay. Lightning calls this before each."""
        if epoch != self.epoch:
            self.go_to(epoch, 0)

    def go_to(self, epoch: int, step: int) -> None:
        """Go on before batch ``step`` of ``epoch``."""
        self.epoch, self.start = (epoch, step) if step < len(self) else (epoch + 1, 0)

    def rows_of(self, epoch: int) -> torch.Tensor:
        """This rank's part of all batches of an epoch: int64 ``(batches, batch_size / world)`` on the device."""
        batches, size = len(self), self._settings.batch_size
        # Hashed: with seed + epoch, one seed's second epoch would show what another seed's first one shows.
        seed = hashed_seed(*self._key, epoch, 0, _ROWS)
        words = random_words(seed, batches * size * 2, self._device).view(batches, size, 2)
        part = size // self._world
        which, place = words[:, self._rank * part : (self._rank + 1) * part].unbind(2)
        place = shifted(place, 1)  # 63 bits: the remainders of a division by 20,000 are alike to 1e-14
        share = self._settings.single_share
        if share is None:
            return self._all[place % len(self._all)]
        # Whole numbers are compared, for a device may round fractions in its own way.
        single = shifted(which, 64 - _FRACTION) < round(share * 2**_FRACTION)
        return torch.where(single, self._singles[place % len(self._singles)], self._others[place % len(self._others)])

    def seeds_of(self, epoch: int) -> list[int]:
        """Seeds of the augmentation of this rank's part of each batch of an epoch."""
        seed = hashed_seed(*self._key, epoch, self._rank, _AUGMENTATION)
        return shifted(random_words(seed, len(self)), 1).tolist()
