"""How well the size of a particle is known from its pattern: the error against the photons that it scattered.

    python docs/figures/make_size_error.py [--out FOLDER] [--patterns N]

Spheres and icosahedral viruses of 55 to 84 nm in the paper's geometry, simulated by the settings of conf/simulate, each
brought to every number of photons on the good pixels; the background, some 500 photons more, stays as it is. Prints the
table as CSV, and writes size_error.png.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from spi_lightning.analysis.psd import angular_mean, radial_bins
from spi_lightning.analysis.size import SizeSettings, fit_sizes
from spi_lightning.commands.simulate import simulation_recipe
from spi_lightning.config.compose import composed
from spi_lightning.config.launch import conf_folder
from spi_lightning.config.schema import SimulateConfig
from spi_lightning.reciprocal import ring_momentum
from spi_lightning.report.figures import save

RANGE = (55.0, 84.0)  # nm, what the paper keeps
PHOTONS = (100, 200, 300, 500, 1000, 2000, 3000, 5000, 10000)
SETTINGS = SizeSettings(smallest=30.0, largest=120.0)
COMMON = (
    "simulate=demo",
    "simulate.particles.virus.diameter.distribution=uniform",
    f"simulate.particles.virus.diameter.low={RANGE[0]}",
    f"simulate.particles.virus.diameter.high={RANGE[1]}",
    *(f"simulate.composition.{name}.share=0" for name in ("aggregate", "coincident", "dirty", "off_size")),
    *(f"simulate.composition.{name}.share=0" for name in ("droplet", "rod", "blank")),
)
SPHERE = (*COMMON, "particle@simulate.particles.virus=sphere")
VIRUS = (*COMMON, "simulate.particles.virus.diameter.broad_share=0")
DARK = (
    "simulate.beam.centre_jitter=0",
    "simulate.background.gas_level=0",
    "simulate.background.flat_level=0",
    "simulate.background.streak_share=0",
)
CASES = {
    "sphere, no background, steady beam": ((*SPHERE, *DARK), "#2e8b57"),
    "sphere": (SPHERE, "#1f4e9c"),
    "virus": (VIRUS, "#c0392b"),
}


@dataclass(frozen=True)
class Expected:
    """What patterns of one particle each have in common with all their repetitions.

    Attributes:
        signal: photons from the particle on the recording pixels, ``(n, pixels)``, to any scale.
        background: photons from elsewhere, ``(n, pixels)``.
        diameters: ``(n,)``, nm.
        recording: ``(rows, columns)`` bool.
        mask: ``(rows, columns)`` bool, True where good.
        bins: ring of each pixel, ``(rows, columns)``.
        q: of each ring, nm⁻¹.
    """

    signal: torch.Tensor
    background: torch.Tensor
    diameters: np.ndarray
    recording: torch.Tensor
    mask: torch.Tensor
    bins: torch.Tensor
    q: torch.Tensor

    def errors(self, photons: float, generator: torch.Generator) -> np.ndarray:
        """|found − true| diameters, ``(n,)``, nm, of patterns to which the particle gives so many photons."""
        seen = self.signal[:, self.mask[self.recording]].sum(1, keepdim=True)
        rates = self.signal * (photons / seen) + self.background
        frames = torch.zeros(len(rates), *self.mask.shape)
        frames[:, self.recording] = torch.poisson(rates, generator=generator)
        found = fit_sizes(angular_mean(frames, self.bins, self.mask), self.q, SETTINGS)
        return np.abs(found.diameter.numpy() - self.diameters)


def expected(overrides: tuple[str, ...], patterns: int) -> Expected:
    """Simulate, up to the photon noise."""
    experiment = simulation_recipe(composed("simulate", conf_folder(), SimulateConfig, list(overrides))).experiment()
    signals, backgrounds, diameters = [], [], []
    for start in range(0, patterns, 16):
        scenes = [experiment.source.draw(index) for index in range(start, min(start + 16, patterns))]
        signal, background = experiment.expected_photons(scenes)
        signals.append(signal)
        backgrounds.append(background)
        diameters += [scene.bodies[0].diameter for scene in scenes]
    bins = radial_bins(experiment.instrument.shape, experiment.instrument.centre)
    return Expected(
        torch.cat(signals),
        torch.cat(backgrounds),
        np.array(diameters),
        torch.from_numpy(experiment.recording),
        torch.from_numpy(experiment.flags == 0),
        bins,
        ring_momentum(experiment.instrument, int(bins.max()) + 1),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--patterns", type=int, default=512)
    arguments = parser.parse_args()
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axis = figure.subplots()
    print("particle,photons,median error (nm),90 % of errors below (nm)")
    for name, (overrides, colour) in CASES.items():
        model, generator = expected(overrides, arguments.patterns), torch.Generator().manual_seed(1)
        table = np.array([np.quantile(model.errors(n, generator), [0.5, 0.9]) for n in PHOTONS])
        for n, (median, most) in zip(PHOTONS, table, strict=True):
            print(f'"{name}",{n},{median:.2f},{most:.2f}')
        axis.loglog(PHOTONS, table[:, 0], "o-", color=colour, label=f"{name}: median", markersize=4)
        axis.loglog(PHOTONS, table[:, 1], "s--", color=colour, label="90 % are below", markersize=4)
    axis.axhline(0.5, color="#8a8a8a", linewidth=0.8, linestyle=":")
    axis.set(xlabel="photons scattered by the particle", ylabel="error of the diameter (nm)")
    axis.set_yticks([0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50], ["0.1", "0.2", "0.5", "1", "2", "5", "10", "20", "50"])
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    save(figure, arguments.out / "size_error.png")


if __name__ == "__main__":
    main()
