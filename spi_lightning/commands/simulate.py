"""spi-simulate: a whole single-particle imaging experiment, with the truth about every pattern."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from spi_lightning.config.launch import launch

if TYPE_CHECKING:
    from spi_lightning.config.schema import SimulateConfig
    from spi_lightning.config.scope import Job
    from spi_lightning.data.simulated_run import Recipe


def main() -> None:
    """Entry point of the console script."""
    launch("simulate", _schema, simulate, resumable=True)


def _schema() -> type[SimulateConfig]:
    from spi_lightning.config.schema import SimulateConfig

    return SimulateConfig


def simulation_recipe(config: SimulateConfig) -> Recipe:
    """What the config describes, ready to be computed.

    Raises:
        SpiError: the config names what is not there: a device, a class, a value of the instrument.
    """
    from spi_lightning.config.targets import instantiate
    from spi_lightning.data.device import choose_device
    from spi_lightning.data.simulated_run import Recipe
    from spi_lightning.instrument import Geometry

    settings = config.simulate
    particles = {name: instantiate(block, f"simulate.particles.{name}") for name, block in settings.particles.items()}
    geometry = config.instrument.filled_from(Geometry(centre=settings.detector.centre))
    instrument = geometry.on_detector(settings.detector.shape)
    return Recipe(settings, particles, instrument, choose_device(config.device))


def simulate(config: SimulateConfig, job: Job) -> None:
    """Simulate the run that ``config`` describes into ``job.folder/patterns.cxi``."""
    recipe = simulation_recipe(config)

    from spi_lightning.data.simulated_cxi import write_simulated
    from spi_lightning.data.simulated_run import discard_parts, gather, produce_parts
    from spi_lightning.progress import progress

    patterns, output = config.simulate.n_patterns, config.output
    parts_folder = job.folder / "parts"
    with progress("Simulating", patterns) as advance:
        parts = produce_parts(recipe, parts_folder, output.batch, config.workers or os.cpu_count() or 1, advance)
    with progress("Writing", patterns) as advance:
        summary = write_simulated(gather(parts), recipe, job.folder, advance, output.compression, output.dragonfly)
    discard_parts(parts_folder)
    job.record(summary)
    for name, fact in summary.items():
        print(f"{name:>24}  {fact}")
