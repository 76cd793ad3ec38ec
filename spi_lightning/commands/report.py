"""spi-report: one page of all that a run, or a sweep, has left."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from spi_lightning.config.launch import Rerun, launch

if TYPE_CHECKING:
    from spi_lightning.config.scope import Job
    from spi_lightning.config.select_schema import ReportConfig


def main() -> None:
    """Entry point of the console script."""
    launch("report", _schema, report, Rerun(repeatable=True))


def _schema() -> type[ReportConfig]:
    from spi_lightning.config.select_schema import ReportConfig

    return ReportConfig


def report(config: ReportConfig, job: Job) -> None:
    """Write ``report.html`` into the folder of a run, or of a sweep, with its tables."""
    from spi_lightning.config.sweep import RECORD

    folder = Path(str(config.run))
    if (folder / RECORD).is_file():
        from spi_lightning.report.sweep import write_sweep

        print(write_sweep(folder, config.metric))
        return
    from spi_lightning.report.page import write_page

    print(write_page(folder))
