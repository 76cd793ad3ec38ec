"""Handing results to the run folder."""

from __future__ import annotations

from pathlib import Path

import pytorch_lightning as pl
from matplotlib.figure import Figure

from spi_lightning.report.figures import save


def put_figure(trainer: pl.Trainer, name: str, figure: Figure) -> None:
    """Write ``figures/NAME.png`` into the Trainer's folder."""
    path = Path(trainer.default_root_dir) / "figures" / f"{name}.png"
    path.parent.mkdir(exist_ok=True)
    save(figure, path)
