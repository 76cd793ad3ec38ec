"""Produce a simulated run in parts, on several processes, and gather the parts into one file.

A part is a range of patterns in a file of its own, written under a temporary name and renamed. A killed run goes on
after the parts that are whole; since pattern i depends on (seed, i) alone, the result is the same.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import torch

import spi_lightning
from spi_lightning.data.density_maps import read_density_map
from spi_lightning.errors import SpiError
from spi_lightning.instrument import Instrument
from spi_lightning.patterns.hdf5 import open_h5
from spi_lightning.provenance import current_commit
from spi_lightning.simulation.body import Particle
from spi_lightning.simulation.experiment import Experiment, Patterns
from spi_lightning.simulation.particles import DensityMap
from spi_lightning.simulation.settings import Simulation

# Patterns computed together. On a CPU a few, so that they stay in its cache; on a GPU many, to keep it busy.
AT_ONCE = {"cpu": 16, "cuda": 256}


@dataclass(frozen=True)
class Recipe:
    """All that a process needs to compute any pattern of a simulated run."""

    settings: Simulation
    particles: Mapping[str, Particle]
    instrument: Instrument
    device: str

    def experiment(self) -> Experiment:
        """Set up the experiment; reads the density maps that particles name.

        Raises:
            SpiError: a map cannot be read.
        """
        maps, particles = {}, dict(self.particles)
        for name, particle in self.particles.items():
            if isinstance(particle, DensityMap):
                density, voxel = maps[particle.path] = read_density_map(particle.path)
                if particle.electrons is None:
                    particles[name] = replace(particle, electrons=float(density.sum(dtype=np.float64)) * voxel**3)
        return Experiment(self.settings, particles, self.instrument, maps, self.device)

    def key(self) -> str:
        """Hash of everything that a pattern depends on besides its index."""
        settings = asdict(self.settings)
        del settings["n_patterns"], settings["expert"]["labelled"]  # these concern the run as a whole
        program = (spi_lightning.__version__, current_commit())  # another version may round, or draw, otherwise
        described = json.dumps([settings, asdict(self.instrument), self.device, program])
        digest = hashlib.sha256(described.encode())
        for particle in self.particles.values():
            if isinstance(particle, DensityMap):
                density, _ = read_density_map(particle.path)
                digest.update(density.tobytes())
        return digest.hexdigest()


def produce_parts(recipe: Recipe, folder: Path, size: int, workers: int, advance: Callable[[int], None]) -> list[Path]:
    """Compute all patterns that are not there yet.

    Args:
        recipe: of the run.
        folder: for the parts; those of an interrupted run are kept.
        size: patterns in a part.
        workers: processes on a CPU; 1 computes in this one, as a GPU always does.
        advance: told the number of patterns that have become ready.

    Returns:
        The parts, in order.

    Raises:
        SpiError: the folder holds parts of a run with other settings, or the recipe cannot be followed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    key, total = recipe.key(), recipe.settings.n_patterns
    ranges = [(start, min(start + size, total)) for start in range(0, total, size)]
    parts = [folder / f"part-{start:08d}-{stop:08d}.h5" for start, stop in ranges]
    missing = []
    for part, (start, stop) in zip(parts, ranges, strict=True):
        if part.exists():
            _refuse_other(part, key)
            advance(stop - start)
        else:
            missing.append((part, start, stop))
    if recipe.device != "cpu" or workers == 1 or len(missing) < 2:
        with one_thread():
            experiment = recipe.experiment() if missing else None
            for part, start, stop in missing:
                assert experiment is not None
                _write_part(part, _simulate(experiment, start, stop), key)
                advance(stop - start)
        return parts
    with ProcessPoolExecutor(
        min(workers, len(missing)), mp_context=get_context("spawn"), initializer=_prepare_worker, initargs=(recipe,)
    ) as pool:
        jobs = {pool.submit(_work, part, start, stop, key): stop - start for part, start, stop in missing}
        try:
            for job in as_completed(jobs):
                job.result()
                advance(jobs[job])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return parts


@dataclass(frozen=True)
class Gathered:
    """What is known of a whole run from its parts, frames aside.

    Attributes:
        parts: files that hold the frames.
        truth: per-pattern arrays over the run.
        scores: ``(n_patterns,)``, of the expert.
        largest: highest value in any frame.
    """

    parts: list[Path]
    truth: dict[str, np.ndarray]
    scores: np.ndarray
    largest: float

    def frames(self) -> Iterator[np.ndarray]:
        """The frames, ``(n, rows, columns)`` at a time, one part after the other."""
        for part in self.parts:
            with _open_part(part) as file:
                yield file["frames"][()]


def gather(parts: list[Path]) -> Gathered:
    """Collect everything but the frames."""
    truths, scores, largest = [], [], 0.0
    for part in parts:
        with _open_part(part) as file:
            truths.append({name: dataset[()] for name, dataset in file["truth"].items()})
            scores.append(file["scores"][()])
            largest = max(largest, float(file.attrs["largest"]))
    truth = {name: np.concatenate([t[name] for t in truths]) for name in truths[0]}
    return Gathered(parts, truth, np.concatenate(scores), largest)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: how work is cut among several decides how a pixel's value is rounded."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _simulate(experiment: Experiment, start: int, stop: int) -> Patterns:
    at_once = AT_ONCE[experiment.device.type]
    blocks = [experiment.simulate(range(i, min(i + at_once, stop))) for i in range(start, stop, at_once)]
    return Patterns(
        frames=np.concatenate([block.frames for block in blocks]),
        truth={name: np.concatenate([block.truth[name] for block in blocks]) for name in blocks[0].truth},
        scores=np.concatenate([block.scores for block in blocks]),
    )


def _write_part(path: Path, patterns: Patterns, key: str) -> None:
    temporary = path.with_suffix(f".partial-{os.getpid()}")
    try:
        with h5py.File(temporary, "w") as file:
            file.attrs.update(key=key, largest=float(patterns.frames.max()))
            n, rows, columns = patterns.frames.shape
            file.create_dataset(
                "frames", data=patterns.frames, chunks=(min(16, n), rows, columns), **hdf5plugin.Bitshuffle(cname="lz4")
            )
            file["scores"] = patterns.scores
            for name, values in patterns.truth.items():
                file[f"truth/{name}"] = values
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _open_part(part: Path) -> h5py.File:
    try:
        return open_h5(part)
    except SpiError as error:
        raise SpiError(f"{error} Or remove it, and start again: it is made anew.") from None


def _refuse_other(part: Path, key: str) -> None:
    with _open_part(part) as file:
        if file.attrs.get("key") != key:
            raise SpiError(
                f"{part.parent} holds parts of a simulation with other settings, or from another version of this "
                "program. Give another run=FOLDER, or remove that folder to start anew."
            )


_recipe: Recipe | None = None


def _prepare_worker(recipe: Recipe) -> None:
    global _recipe
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _recipe = recipe


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever."""
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


@functools.cache
def _own_experiment() -> Experiment:
    # Not in the initializer: an error there breaks the pool, an error here reaches the user.
    assert _recipe is not None
    return _recipe.experiment()


def _work(part: Path, start: int, stop: int, key: str) -> None:
    _write_part(part, _simulate(_own_experiment(), start, stop), key)
