"""Telling tracked runs how a fold's training goes."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl

from spi_lightning.tracking.session import Runs


class Curves(pl.Callback):
    """Tell the loss and the learning rate of a batch every so many iterations, and the metrics of each epoch.

    A callback, not a Logger of Lightning's, which a failure of its library would take down with it.
    """

    def __init__(self, runs: Runs, every: int):
        super().__init__()
        self.runs, self.every = runs, every
        self._rate, self._validated = 0.0, False

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Go on where the checkpoint stands."""
        self.runs.go_on_from(trainer.global_step)

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Nothing is known of this epoch's validation yet."""
        self._validated = False

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Note the learning rate, which has changed by the end of an epoch's last batch."""
        self._rate = trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Tell of this batch, if it is its turn; the others must not wait for the device."""
        if trainer.global_step % self.every == 0:
            values = {"train/batch_loss": float(outputs["loss"]), "train/learning_rate": self._rate}
            self.runs.log(values, trainer.global_step, trainer.current_epoch)

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Note that there are new values; Lightning goes on to show the old ones in later epochs."""
        self._validated = True

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Tell what was logged in this epoch."""
        logged = {name: float(value) for name, value in trainer.logged_metrics.items()}
        new = {name: value for name, value in logged.items() if self._validated or name.startswith("train/")}
        self.runs.log(new, trainer.global_step, trainer.current_epoch)

    def on_save_checkpoint(self, trainer: pl.Trainer, module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """A training that goes on from here does not tell again what was before."""
        self.runs.flush()
