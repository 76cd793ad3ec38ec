"""spi-simulate: a whole single-particle imaging experiment, with the truth about every pattern."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from spi_lightning.config.launch import launch

if TYPE_CHECKING:
    from spi_lightning.config.schema import SimulateConfig
    from spi_lightning.config.scope import Job


def main() -> None:
    """Entry point of the console script."""
    launch("simulate", _schema, simulate)


def _schema() -> type[SimulateConfig]:
    from spi_lightning.config.schema import SimulateConfig

    return SimulateConfig


def simulate(config: SimulateConfig, job: Job) -> None:
    """Simulate the run that ``config`` describes into ``job.folder/patterns.cxi``."""
    from spi_lightning.config.targets import instantiate

    settings = config.simulate
    particles = {name: instantiate(block, f"simulate.particles.{name}") for name, block in settings.particles.items()}

    from spi_lightning.data.device import choose_device
    from spi_lightning.data.simulated_cxi import write_simulated
    from spi_lightning.data.simulated_run import Recipe, discard_parts, gather, produce_parts
    from spi_lightning.instrument import Geometry
    from spi_lightning.progress import progress

    geometry = config.instrument.filled_from(Geometry(centre=settings.detector.centre))
    instrument = geometry.on_detector(settings.detector.shape)
    recipe = Recipe(settings, particles, instrument, choose_device(config.device))
    parts_folder = job.folder / "parts"
    workers = config.workers or os.cpu_count() or 1
    with progress("Simulating", settings.n_patterns) as advance:
        parts = produce_parts(recipe, parts_folder, config.output.batch, workers, advance)
    with progress("Writing", settings.n_patterns) as advance:
        output = config.output
        summary = write_simulated(gather(parts), recipe, job.folder, advance, output.compression, output.dragonfly)
    discard_parts(parts_folder)
    for name, fact in summary.items():
        job.record(name, fact)
        print(f"{name:>24}  {fact}")
