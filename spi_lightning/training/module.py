"""The LightningModule: a network, its loss and how it is optimised."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Protocol

import pytorch_lightning as pl
import torch
from torch import nn
from torchmetrics import MetricCollection
from torchmetrics.classification import (
    BinaryAUROC,
    BinaryAveragePrecision,
    BinaryF1Score,
    BinaryPrecision,
    BinaryRecall,
)

from spi_lightning.data.loaders import Batch, LabelledCounts
from spi_lightning.data.normalisation import Normalisation
from spi_lightning.inference.engine import logits_of
from spi_lightning.inference.folding import folded
from spi_lightning.training.compilation import compiled
from spi_lightning.training.devices import share_buffers, share_of_weights

MONITORED = "val/average_precision"  # does not depend on a threshold, nor on how many of the patterns are single hits


class Schedule(Protocol):
    """Learning rate over the epochs; see :mod:`~spi_lightning.training.schedules`."""

    def factor(self, epoch: int, epochs: int) -> float:
        """Factor on the learning rate in this epoch, counted from 0."""


class SingleHitModule(pl.LightningModule):
    """Trains a network to tell single hits from other patterns."""

    def __init__(
        self,
        network: nn.Module,
        loss: nn.Module,
        optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer],
        schedule: Schedule,
        epochs: int,
        normalisation: Normalisation,
        compile_for: str | None = None,
    ):
        """Put the parts together.

        Args:
            network: normalised patterns ``(n, 1, rows, columns)`` → logits ``(n, 2)``.
            loss: logits and int64 labels ``(n,)`` → scalar.
            optimizer: makes one for given parameters.
            schedule: learning rate over the epochs.
            epochs: at whose end the schedule ends.
            normalisation: of validation patterns; training patterns come normalised.
            compile_for: the device for which to compile the network's training; None to leave it as it is.

        """
        super().__init__()
        # Channels-last is how convolutions are fastest on a CPU as on a GPU; results agree to rounding.
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.loss = loss
        self.make_optimizer, self.schedule, self.epochs = optimizer, schedule, epochs
        self.normalisation = normalisation
        # A function beside the network: a second module would put its weights into checkpoints under another name.
        self._trained = network.__call__ if compile_for is None else compiled(network, compile_for)
        self._validated: list[tuple[torch.Tensor, torch.Tensor]] = []
        kinds = {
            "precision": BinaryPrecision,
            "recall": BinaryRecall,
            "f1": BinaryF1Score,
            "average_precision": BinaryAveragePrecision,
            "auroc": BinaryAUROC,
        }
        self.metrics = MetricCollection(
            # Every device sees the whole fold: collected from all of them, patterns would count several times.
            {name: kind(sync_on_compute=False) for name, kind in kinds.items()},
            prefix="val/",
        )

    def forward(self, patterns: torch.Tensor) -> torch.Tensor:
        """Normalised patterns ``(n, 1, rows, columns)`` → logits ``(n, 2)``."""
        return self._trained(patterns.contiguous(memory_format=torch.channels_last))

    def on_train_epoch_start(self) -> None:
        """Begin the mean loss of the epoch."""
        self._losses, self._steps = torch.zeros((), device=self.device), 0

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """Loss of a batch."""
        loss = self.loss(self(batch.patterns), batch.labels)
        if self.trainer.world_size > 1:
            loss = loss * share_of_weights(self.loss, batch.labels)
        self._losses.add_(loss.detach())
        self._steps += 1
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Log the mean loss with the last batch of the epoch; with each, it would take as long as a small network."""
        if self.trainer.is_last_batch:
            mean = self._losses / self._steps
            self.log("train/loss", mean, on_step=False, on_epoch=True, batch_size=1, sync_dist=True)

    def on_validation_epoch_start(self) -> None:
        """Make the network's fast form for prediction."""
        if self.trainer.world_size > 1:
            share_buffers(self.network)
        self._logits_of = partial(logits_of, folded(self.network), normalisation=self.normalisation)

    def validation_step(self, batch: LabelledCounts, batch_idx: int) -> None:
        """Logits of some patterns of the validation fold, without mirroring, in the precision of predictions."""
        with torch.autocast(self.device.type, enabled=False):
            self._validated.append((self._logits_of(batch.counts), batch.labels))

    def on_validation_epoch_end(self) -> None:
        """Loss and metrics of the whole fold, computed once."""
        logits, labels = (torch.cat(parts) for parts in zip(*self._validated, strict=True))
        self._validated.clear()
        del self._logits_of
        # Probabilities in float32, always: torchmetrics takes numbers outside [0, 1] for logits, batch by batch.
        self.metrics.update(logits.softmax(1)[:, 1], labels)
        self.log_dict({"val/loss": self.loss(logits, labels), **self.metrics.compute()}, sync_dist=True)
        self.metrics.reset()

    def configure_optimizers(self) -> Any:
        """The optimizer, and its schedule by epoch."""
        optimizer = self.make_optimizer(self.network.parameters())
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "epoch"}}

    def _factor(self, epoch: int) -> float:
        return self.schedule.factor(epoch, self.epochs)
