"""spi-select: selections of a run that was scored, without scoring it anew."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from spi_lightning.config.launch import Rerun, launch

if TYPE_CHECKING:
    from spi_lightning.config.scope import Job
    from spi_lightning.config.select_schema import SelectConfig


def main() -> None:
    """Entry point of the console script."""
    launch("select", _schema, select, Rerun(repeatable=True))


def _schema() -> type[SelectConfig]:
    from spi_lightning.config.select_schema import SelectConfig

    return SelectConfig


def select(config: SelectConfig, job: Job) -> None:
    """Make the selections that ``config`` names of the run ``config.run``, and write them for other programs."""
    from spi_lightning.commands.downstream import analyse
    from spi_lightning.commands.scored import scored_run
    from spi_lightning.config.scope import sole_job
    from spi_lightning.report.page import write_page
    from spi_lightning.selection.export import export_selections

    folder = Path(str(config.run))
    with sole_job(folder):
        scored = scored_run(folder, config.data.path, config.ensemble)
        if config.export.emc:  # told before the work, not after
            scored.run.geometry.on_detector(scored.run.shape)
        facts = analyse(folder, scored, config, config.device)
        files = export_selections(
            job.folder, scored.findings, scored.run, config.export.csv, config.export.cxi, config.export.emc
        )
        job.record({"data": scored.run.fingerprint(), "scores": scored.source, **facts})
        files += [folder / "selection.h5", write_page(folder)]
    for file in files:
        print(f"{file.name:>24}  {file}")
