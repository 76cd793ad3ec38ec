"""How fast patterns are simulated, beside a non-uniform FFT of the same particles.

    python -m benchmarks.simulation [--quick]

The baseline takes the same scenes and transforms each particle's density, laid out beforehand on a grid fine enough for
the detector's corner, straight to every pixel with finufft (type 2, tolerance 10⁻³, one thread). Both stop
at the transforms of the particles: the coherent sum, the photon noise and the faults would cost the same.
"""

from __future__ import annotations

import functools
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import finufft
import numpy as np
import torch
from scipy.spatial import ConvexHull

from benchmarks.record import Row, fact_row, interleaved, main, rate_row
from spi_lightning.commands.simulate import simulation_recipe
from spi_lightning.config.compose import composed
from spi_lightning.config.launch import conf_folder
from spi_lightning.config.schema import SimulateConfig
from spi_lightning.cores import available_cores
from spi_lightning.data.simulated_run import Recipe, produce_parts
from spi_lightning.orientation.rotations import rotation_matrices
from spi_lightning.reciprocal import momentum_transfer, pixel_positions
from spi_lightning.simulation.body import Body
from spi_lightning.simulation.experiment import Experiment
from spi_lightning.simulation.form_factors import icosahedron_vertices
from spi_lightning.simulation.scattering import _amplitudes, collate
from spi_lightning.simulation.scenes import Scene

VOXEL = 2.5  # nm; half a period of the highest momentum transfer is 4.6 nm


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        recipe: of conf/simulate.
        patterns: whose particles are transformed.
        run: patterns of a whole run.
        repeats: of the transforms.
        whole_runs: repeats of these.
    """

    recipe: str
    patterns: int
    run: int
    repeats: int
    whole_runs: int


def rows(quick: bool) -> list[Row]:
    """Transforms against finufft, and whole runs on one process and on all cores."""
    sizes = Sizes("tiny", 8, 20, 1, 1) if quick else Sizes("paper", 128, 3000, 5, 3)
    overrides = [f"simulate={sizes.recipe}", f"simulate.n_patterns={sizes.run}"]
    config = composed("simulate", conf_folder(), SimulateConfig, overrides)
    recipe = simulation_recipe(config)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        start = time.perf_counter()
        experiment = recipe.experiment()
        setup = fact_row("set-up of a simulation", f"{time.perf_counter() - start:.2f} s")
        return [*transforms(experiment, sizes), setup, *whole_runs(recipe, sizes)]
    finally:
        torch.set_num_threads(before)


def transforms(experiment: Experiment, sizes: Sizes) -> list[Row]:
    """Transforms of the particles of some patterns: a table of ours against finufft."""
    scenes = [experiment.source.draw(i) for i in range(sizes.patterns)]
    scenes = [s for s in scenes if s.bodies and all(b.shape == "icosahedron" for b in s.bodies)]
    positions = pixel_positions(experiment.instrument)[torch.from_numpy(experiment.recording)]
    q = momentum_transfer(positions, experiment.instrument.wavelength).T.float().contiguous()
    bodies = sum(len(scene.bodies) for scene in scenes)

    def ours() -> list[torch.Tensor]:
        return [_amplitudes(collate([s], torch.device("cpu")), q[None], experiment._volumes)[0] for s in scenes]

    densities = [[_density(body) for body in scene.bodies] for scene in scenes]  # a gift to the baseline: not timed

    def theirs() -> list[np.ndarray]:
        return [_direct(scene, q.numpy(), grids) for scene, grids in zip(scenes, densities, strict=True)]

    mine, reference = torch.cat(ours()).numpy(), np.concatenate(theirs())
    scale = np.abs(reference).max(1, keepdims=True)
    error = float(np.sqrt(np.mean(((mine - reference) / scale) ** 2)))
    seconds = interleaved({"ours": ours, "finufft": theirs}, sizes.repeats)
    speed = {name: [bodies / s for s in values] for name, values in seconds.items()}
    agreement = f"{error:.1e} of the largest value (root mean square), {bodies} particles in {len(scenes)} patterns"
    return [
        rate_row("particle transforms, finufft, 1 thread", speed["finufft"]),
        rate_row("particle transforms, ours, 1 thread", speed["ours"], "finufft", speed["finufft"]),
        fact_row("particle transforms, difference to finufft", agreement),
    ]


def whole_runs(recipe: Recipe, sizes: Sizes) -> list[Row]:
    """The whole of spi-simulate's work up to its parts, on 1 process and on all cores."""
    cores = available_cores()
    n = sizes.run

    def produce(workers: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            produce_parts(recipe, Path(folder) / "parts", max(1, n // (4 * cores)), workers, lambda k: None)

    seconds = interleaved({"one": lambda: produce(1), "all": lambda: produce(cores)}, sizes.whole_runs)
    one, all_cores = ([n / s for s in seconds[name]] for name in ("one", "all"))
    what = f"patterns of simulate={sizes.recipe}, {n} with set-up"
    return [
        rate_row(f"{what}, 1 process", one),
        rate_row(f"{what}, {cores} processes", all_cores, "1 process", one),
    ]


def _direct(scene: Scene, q: np.ndarray, grids: list[tuple[np.ndarray, float]]) -> np.ndarray:
    """√Φ F(q) of every particle of a scene, by finufft from its density, ``(particles, pixels)``."""
    rotations = rotation_matrices(torch.from_numpy(scene.quaternions)).numpy()
    out = []
    for body, rotation, fluence, (density, cell) in zip(scene.bodies, rotations, scene.fluences, grids, strict=True):
        seen = (body.stretch.T @ rotation.T @ q).astype(np.float64) * cell
        field = finufft.nufft3d2(*seen, density.astype(np.complex128), isign=1, eps=1e-3, nthreads=1).real
        field *= np.sinc(seen / (2 * np.pi)).prod(0) * np.exp(-((q**2).sum(0)) * body.roughness**2 / 2)
        out.append(np.sqrt(fluence) * field)
    return np.stack(out)


@functools.cache
def _faces() -> np.ndarray:
    """Planes of the unit icosahedron's faces, ``(20, 4)``: normal, and minus the distance."""
    return np.unique(ConvexHull(icosahedron_vertices().numpy()).equations.round(9), axis=0)


def _density(body: Body) -> tuple[np.ndarray, float]:
    """Electrons in the cells of a grid over the unit body, each shell smoothed over a cell, and the cell's side."""
    faces = _faces()
    cell = VOXEL / (body.diameter / 2)
    half = int(np.ceil(1.2 / cell)) + 1
    axis = np.arange(-half, half) * cell
    x, y, z = np.meshgrid(axis, axis, axis, indexing="ij", copy=False)
    outside = np.max([a * x + b * y + c * z for a, b, c, _ in faces], axis=0)
    inradius = -faces[0, 3]
    total = np.zeros(x.shape)
    for scale, electrons in body.shells:
        if scale > 0:
            filled = np.clip(0.5 + (inradius * scale - outside) / cell, 0, 1)
            total += electrons * filled / filled.sum()
    return total, cell


if __name__ == "__main__":
    main(rows, "simulation")
