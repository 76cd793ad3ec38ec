"""Handing results to the run folder and to every logger of the Trainer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import pytorch_lightning as pl
from matplotlib.figure import Figure
from pytorch_lightning.loggers import MLFlowLogger, TensorBoardLogger, WandbLogger

from spi_lightning.report.figures import save


def put_figure(trainer: pl.Trainer, name: str, figure: Figure) -> None:
    """Write ``figures/NAME.png`` into the Trainer's folder, and show it to every logger that takes pictures."""
    path = Path(trainer.default_root_dir) / "figures" / f"{name}.png"
    path.parent.mkdir(exist_ok=True)
    save(figure, path)
    for logger in trainer.loggers:
        match logger:
            case WandbLogger():
                logger.log_image(key=name, images=[str(path)])
            case MLFlowLogger():
                logger.experiment.log_artifact(logger.run_id, str(path), "figures")
            case TensorBoardLogger():
                logger.experiment.add_figure(name, figure, close=False)


def put_scalars(trainer: pl.Trainer, values: Mapping[str, float]) -> None:
    """Tell every logger numbers by name; those that are not finite are left out."""
    finite = {name: float(value) for name, value in values.items() if math.isfinite(value)}
    for logger in trainer.loggers:
        logger.log_metrics(finite)
        logger.save()  # some keep them until the end of a training, which there is none of here
