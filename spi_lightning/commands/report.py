"""spi-report: one page of all that a run has left."""

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
    """Write ``report.html`` into the folder of a run."""
    from spi_lightning.report.page import write_page

    print(write_page(Path(str(config.run))))
