"""spi-inspect: what is in these files?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spi_lightning.config.launch import launch

if TYPE_CHECKING:
    from spi_lightning.config.schema import InspectConfig
    from spi_lightning.config.scope import Job


def main() -> None:
    """Entry point of the console script."""
    launch("inspect", _schema, inspect)


def _schema() -> type[InspectConfig]:
    from spi_lightning.config.schema import InspectConfig

    return InspectConfig


def inspect(config: InspectConfig, job: Job) -> None:
    """Print what the files hold; write ``summary.json`` and the figures into ``job.folder``."""
    from spi_lightning.errors import SpiError
    from spi_lightning.patterns import open_run
    from spi_lightning.patterns.prepare import prepare
    from spi_lightning.patterns.settings import PrepareSettings
    from spi_lightning.provenance import write_json
    from spi_lightning.report.inspection import look_at, print_facts

    data = config.data
    run = open_run(data.path, dataset=data.dataset, detector=data.detector, mask_bits=data.mask_bits)
    job.record({"data": {"path": data.path, "fingerprint": run.fingerprint()}})
    try:
        facts = look_at(run, prepare(run, data.prepare, config.instrument), job.folder, config.patterns)
    except SpiError as error:
        if data.prepare != PrepareSettings():
            raise
        # Raw frames, say. Whoever just asks what is in a file is still told, and shown, what is there.
        run.geometry = config.instrument.filled_from(run.geometry)
        facts = look_at(run, run, job.folder, config.patterns)
        facts["not prepared"] = str(error)
    write_json(job.folder / "summary.json", facts)
    job.record(facts)
    print_facts(facts)
