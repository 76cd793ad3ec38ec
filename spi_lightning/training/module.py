"""The LightningModule: a network, its loss and how it is optimised."""

from __future__ import annotations

from collections.abc import Callable, Iterable
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

from spi_lightning.data.datamodule import Batch

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
    ):
        """Put the parts together.

        Args:
            network: normalised patterns ``(n, 1, rows, columns)`` → logits ``(n, 2)``.
            loss: logits and int64 labels ``(n,)`` → scalar.
            optimizer: makes one for given parameters.
            schedule: learning rate over the epochs.
            epochs: at whose end the schedule ends.
        """
        super().__init__()
        # Channels-last is how convolutions are fastest on a CPU as on a GPU; results agree to rounding.
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.loss = loss
        self.make_optimizer, self.schedule, self.epochs = optimizer, schedule, epochs
        self.metrics = MetricCollection(
            {
                "precision": BinaryPrecision(),
                "recall": BinaryRecall(),
                "f1": BinaryF1Score(),
                "average_precision": BinaryAveragePrecision(),
                "auroc": BinaryAUROC(),
            },
            prefix="val/",
        )

    def forward(self, patterns: torch.Tensor) -> torch.Tensor:
        """Normalised patterns ``(n, 1, rows, columns)`` → logits ``(n, 2)``."""
        return self.network(patterns.contiguous(memory_format=torch.channels_last))

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """Loss of a batch; its mean over the epoch is logged."""
        loss = self.loss(self(batch.patterns), batch.labels)
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=len(batch.labels), sync_dist=True)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Loss and metrics of the validation fold, without mirroring."""
        logits = self(batch.patterns)
        size = len(batch.labels)
        self.log("val/loss", self.loss(logits, batch.labels), on_epoch=True, batch_size=size, sync_dist=True)
        # Probabilities in float32, always: torchmetrics takes numbers outside [0, 1] for logits, batch by batch.
        self.metrics.update(logits.float().softmax(1)[:, 1], batch.labels)

    def on_validation_epoch_end(self) -> None:
        """Metrics of the epoch, computed once."""
        self.log_dict(self.metrics.compute(), sync_dist=True)
        self.metrics.reset()

    def configure_optimizers(self) -> Any:
        """The optimizer, and its schedule by epoch."""
        optimizer = self.make_optimizer(self.network.parameters())
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "epoch"}}

    def _factor(self, epoch: int) -> float:
        return self.schedule.factor(epoch, self.epochs)
