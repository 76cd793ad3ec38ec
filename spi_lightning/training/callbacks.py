"""What happens beside the training of a fold: a progress bar, a history that survives a kill, seeds."""

from __future__ import annotations

import csv
import io
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from spi_lightning.data.seeds import hashed_seed
from spi_lightning.progress import progress
from spi_lightning.provenance import write_text


class FoldProgress(pl.Callback):
    """One progress bar over all iterations of a fold."""

    def __init__(self, description: str):
        super().__init__()
        self.description = description
        self._stack = ExitStack()

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Show the bar, where it stands after a resume."""
        total = int(trainer.estimated_stepping_batches)
        self._advance = self._stack.enter_context(progress(self.description, total, "iterations"))
        self._advance(trainer.global_step)

    def on_train_batch_end(self, *_: Any) -> None:
        """One iteration more."""
        self._advance(1)

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Leave the bar as it is."""
        self._stack.close()

    def on_exception(self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException) -> None:
        """Leave the terminal in order."""
        self._stack.close()


class History(pl.Callback):
    """Metrics of every validated epoch, kept in the checkpoint and written to ``history.csv``.

    Lightning's CSVLogger starts a new file when a run resumes; this goes on in the old one.
    """

    def __init__(self, path: Path):
        super().__init__()
        self.path = path
        self.rows: list[dict[str, float]] = []
        self._rate, self._validated = 0.0, False

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Note the learning rate, which has changed by the end of the epoch."""
        self._rate, self._validated = trainer.optimizers[0].param_groups[0]["lr"], False

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Note that there are new values; Lightning goes on to show the old ones in later epochs."""
        self._validated = True

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Add what was logged in this epoch, if it was validated."""
        if not self._validated:
            return
        values = {name: float(value) for name, value in trainer.logged_metrics.items()}
        self.rows.append({"epoch": trainer.current_epoch, "lr": self._rate, **values})
        if trainer.is_global_zero:
            text = io.StringIO()
            writer = csv.DictWriter(text, list(self.rows[0]))
            writer.writeheader()
            writer.writerows(self.rows)
            write_text(self.path, text.getvalue())

    def state_dict(self) -> dict[str, Any]:
        """What the checkpoint keeps."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.rows = list(state_dict["rows"])


class EpochSeed(pl.Callback):
    """Seed torch anew in every epoch, so that what draws from it (dropout) does the same after a resume."""

    def __init__(self, seed: int, fold: int):
        super().__init__()
        self.seed, self.fold = seed, fold

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Seed by fold, epoch and rank."""
        torch.manual_seed(hashed_seed(self.seed, self.fold, trainer.current_epoch, trainer.global_rank + 1))
