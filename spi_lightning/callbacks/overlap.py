"""How selections overlap."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytorch_lightning as pl

from spi_lightning.callbacks.results import put_figure
from spi_lightning.callbacks.stage import stage_of
from spi_lightning.errors import require
from spi_lightning.report.overlap import shared, write_overlap
from spi_lightning.report.selection_figures import overlap_figure


@dataclass(eq=False)
class Overlap(pl.Callback):
    """Count the patterns that selections share, and their intersection over union (Table 5 of the paper).

    Attributes:
        joint: groups of three selections or more whose common patterns are counted besides.
    """

    joint: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        for names in self.joint:
            require(len(set(names)) > 2, "joint", list(names), "groups of three or more different selections")

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the table and draw it."""
        stage = stage_of(pl_module)
        findings = stage.findings
        if len(findings.selections) < 2:
            return
        folder = Path(trainer.default_root_dir) / "tables"
        folder.mkdir(exist_ok=True)
        known = []
        for names in self.joint:
            if absent := [name for name in names if name not in findings.selections]:
                findings.notes.append(f"callbacks.overlap.joint: there is no selection '{absent[0]}'; left out.")
            else:
                known.append(names)
        write_overlap(folder, shared(findings.selections, len(findings.ids), known, stage.paper))
        put_figure(trainer, "overlap", overlap_figure(findings))
