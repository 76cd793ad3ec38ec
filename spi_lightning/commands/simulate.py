"""spi-simulate: a whole single-particle imaging experiment, with the truth about every pattern."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spi_lightning.config.launch import Rerun, launch

if TYPE_CHECKING:
    from spi_lightning.config.schema import SimulateConfig
    from spi_lightning.config.scope import Job
    from spi_lightning.data.simulated_run import Recipe


# An interrupted simulation may go on with these changed: they matter only when its parts are put together.
MAY_CHANGE = ("simulate.n_patterns", "simulate.expert.labelled", "output")


def main() -> None:
    """Entry point of the console script."""
    launch("simulate", _schema, simulate, Rerun(resumable=True, may_change=MAY_CHANGE))


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
    particles = {
        name: instantiate(block, f"simulate.particles.{name}", "particle") for name, block in settings.particles.items()
    }
    geometry = config.instrument.filled_from(Geometry(centre=settings.detector.centre))
    instrument = geometry.on_detector(settings.detector.shape)
    return Recipe(settings, particles, instrument, choose_device(config.device))


def simulate(config: SimulateConfig, job: Job) -> None:
    """Simulate the run that ``config`` describes into ``job.folder/patterns.cxi``."""
    recipe = simulation_recipe(config)

    from spi_lightning.cores import available_cores
    from spi_lightning.data.simulated_cxi import write_simulated
    from spi_lightning.data.simulated_run import gather, produce_parts
    from spi_lightning.progress import progress

    patterns, output = config.simulate.n_patterns, config.output
    parts_folder = job.folder / "parts"
    job.remove_when_complete(parts_folder)
    workers = config.workers or available_cores()
    with progress("Simulating", patterns) as advance:
        parts = produce_parts(recipe, parts_folder, output.batch, workers, advance)
    with progress("Writing", patterns) as advance:
        summary = write_simulated(gather(parts), recipe, job.folder, advance, output.compression, output.dragonfly)
    job.record(summary)
    for name, fact in summary.items():
        print(f"{name:>24}  {fact}")
