"""PSDs and particle sizes, beside spi-processing, the program of the paper's authors.

    python -m benchmarks.sizes [--quick]

Both read the same simulated patterns from CXI, fit the same spheres to the same rings, and have two threads each; numba
has compiled beforehand. Errors are against the truth of single hits. In memory means from patterns to sizes without
files. The real frames are those of ../shared/data, where they are.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch

from benchmarks.record import Row, fact_row, interleaved, main, rate_row
from benchmarks.remote import Remote
from spi_lightning.analysis.psd import angular_mean, radial_bins
from spi_lightning.analysis.size import SizeSettings, fit_sizes
from spi_lightning.commands.simulate import simulation_recipe
from spi_lightning.config.compose import composed
from spi_lightning.config.launch import conf_folder
from spi_lightning.config.schema import SimulateConfig
from spi_lightning.cores import available_cores
from spi_lightning.data.simulated_cxi import write_simulated
from spi_lightning.data.simulated_run import gather, produce_parts
from spi_lightning.instrument import Instrument
from spi_lightning.patterns import open_run
from spi_lightning.patterns.export import export_cxi
from spi_lightning.reciprocal import ring_momentum

REAL = Path(__file__).resolve().parents[2] / "shared/data/pr772_amo86615_20_labelled.cxi"
RANGE = (30.0, 120.0)  # diameters that are tried, nm
THREADS = 2
BLOCK = 256  # patterns that are read at once
TARGET = 20.0
IMAGE = "entry_1/image_1"


@dataclass(frozen=True)
class Task:
    """Which sizes are looked for in a file."""

    path: Path
    smallest: float
    largest: float


def rows(quick: bool) -> list[Row]:
    """Speed, memory, agreement and errors on simulated patterns; sizes of the real frames."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = _simulated(folder, quick)
        if REAL.is_file() and not quick:
            found += _real(folder)
        return found


def _simulated(folder: Path, quick: bool) -> list[Row]:
    mine = simulated(folder, *(("tiny", 100) if quick else ("demo", 2000)))
    run = open_run(mine.path)
    copy = folder / "theirs.cxi"  # it adds its results to its file
    export_cxi(run, np.arange(len(run)), copy, program="benchmarks.sizes", command="python -m benchmarks.sizes")
    theirs = Task(copy, mine.smallest, mine.largest)
    n, baseline = len(run), "spi-processing"
    with (
        Remote("benchmarks.sizes:ours", mine, threads=THREADS) as ours_run,
        Remote("benchmarks.sizes:spi_processing", theirs, threads=THREADS) as their_run,
    ):
        before = {"ours": ours_run.peak_memory(), baseline: their_run.peak_memory()}
        seconds = interleaved({"ours": ours_run, baseline: their_run}, 2 if quick else 7)
        sizes = {"ours": ours_run(), baseline: their_run()}
        peaks = {"ours": ours_run.peak_memory(), baseline: their_run.peak_memory()}
    rates = {name: [n / s for s in values] for name, values in seconds.items()}
    what = f"PSDs and sizes of {n} patterns"
    in_file = f"{what} in a file, {THREADS} threads each"
    found = [
        rate_row(in_file, rates["ours"], baseline, rates[baseline], TARGET, "both compare the same 300 curves in full")
    ]
    if not quick:  # numba would have to compile anew
        found.append(_in_memory(what, n, mine, theirs))
    for name, peak in peaks.items():
        note = f"{(peak - before[name]) / 1e9:.2f} GB more than before the first pattern"
        found.append(fact_row(f"PSDs and sizes, peak memory, {name}", f"{peak / 1e9:.2f} GB", note=note))
    return [*found, *_agreement(sizes["ours"], sizes[baseline], mine), *_errors(sizes, mine)]


def _in_memory(what: str, n: int, mine: Task, theirs: Task) -> Row:
    with (
        Remote("benchmarks.sizes:ours_in_memory", mine, threads=THREADS) as ours_run,
        Remote("benchmarks.sizes:spi_processing_in_memory", theirs, threads=THREADS) as their_run,
    ):
        seconds = interleaved({"ours": ours_run, "theirs": their_run}, 7)
    rates, baseline = ([n / s for s in seconds[name]] for name in ("ours", "theirs"))
    return rate_row(f"{what} in memory, {THREADS} threads each", rates, "spi-processing", baseline)


def _agreement(ours: np.ndarray, theirs: np.ndarray, task: Task) -> list[Row]:
    """Differences of sizes, each program with its own momentum transfers and rings."""
    difference = np.abs(ours - theirs)
    step = (task.largest - task.smallest) / (SizeSettings(task.smallest, task.largest).steps - 1)
    return [
        fact_row("sizes, median difference to spi-processing", f"{np.median(difference):.3f} nm"),
        fact_row(
            f"sizes that differ by more than a grid step ({step:.2f} nm)", f"{100 * np.mean(difference > step):.2g} %"
        ),
    ]


def _errors(sizes: dict[str, np.ndarray], task: Task) -> list[Row]:
    with h5py.File(task.path) as file:
        single = file[f"{IMAGE}/truth/single"][()] == 1
        truth = file[f"{IMAGE}/truth/diameter"][:, 0]
    found = []
    for name, values in sizes.items():
        median, most = np.quantile(np.abs(values - truth)[single], [0.5, 0.9])
        text = f"{median:.2f} nm, 90 % below {most:.2f} nm"
        found.append(fact_row(f"error of the size of {single.sum()} single hits, median, {name}", text))
    return found


def _real(folder: Path) -> list[Row]:
    copy = folder / "real.cxi"
    shutil.copyfile(REAL, copy)
    mine, theirs = ours(Task(REAL, *RANGE))(), spi_processing(Task(copy, *RANGE))()
    text = f"{np.median(mine):.1f} nm; spi-processing: {np.median(theirs):.1f} nm"
    return [fact_row(f"median size of {len(mine)} real frames, sphere", text)]


def simulated(folder: Path, name: str, n: int) -> Task:
    """Write a run of ``n`` patterns of ``conf/simulate/NAME.yaml``."""
    overrides = [f"simulate={name}", f"simulate.n_patterns={n}"]
    recipe = simulation_recipe(composed("simulate", conf_folder(), SimulateConfig, overrides))
    parts = produce_parts(
        recipe, folder / "parts", max(1, n // (4 * available_cores())), available_cores(), lambda k: None
    )
    write_simulated(gather(parts), recipe, folder, lambda k: None)
    return Task(folder / "patterns.cxi", *RANGE)


def ours(task: Task) -> Callable[[], np.ndarray]:
    """Diameters, nm, from the file."""
    settings = SizeSettings(task.smallest, task.largest)

    def work() -> np.ndarray:
        run = open_run(task.path)
        mask, bins = torch.from_numpy(run.mask), radial_bins(run.shape, run.geometry.centre)
        psd = torch.cat([angular_mean(torch.from_numpy(block), bins, mask) for _, block in run.blocks(BLOCK)])
        q = ring_momentum(run.geometry.on_detector(run.shape), psd.shape[1])
        return fit_sizes(psd, q, settings).diameter.numpy()

    return work


def ours_in_memory(task: Task) -> Callable[[], None]:
    """PSDs and sizes of patterns that have been read."""
    run, settings = open_run(task.path), SizeSettings(task.smallest, task.largest)
    patterns, mask = torch.from_numpy(run.read(np.arange(len(run)))), torch.from_numpy(run.mask)
    bins = radial_bins(run.shape, run.geometry.centre)
    q = ring_momentum(run.geometry.on_detector(run.shape), int(bins.max()) + 1)

    def work() -> None:
        fit_sizes(angular_mean(patterns, bins, mask), q, settings)

    return work


def spi_processing(task: Task) -> Callable[[], np.ndarray]:
    """Diameters, nm, which spi-processing also writes to the file."""
    import numba
    from spi_processing import particle_size

    numba.set_num_threads(min(THREADS, numba.config.NUMBA_NUM_THREADS))
    path, instrument = str(task.path), _instrument(task)

    def work() -> np.ndarray:
        particle_size.compute_psd_data(path)
        particle_size.estimate_size(
            path,
            instrument.wavelength * 10,
            instrument.distance,
            instrument.pixel_size,
            size_min=task.smallest * 10,
            size_max=task.largest * 10,
        )
        with h5py.File(path) as file:
            return file[f"{IMAGE}/psd/size"][()] / 10

    return work


def spi_processing_in_memory(task: Task) -> Callable[[], None]:
    """Its own steps between reading and writing."""
    import numba
    from spi_processing import particle_size

    numba.set_num_threads(min(THREADS, numba.config.NUMBA_NUM_THREADS))
    instrument = _instrument(task)
    step = instrument.pixel_size / (instrument.wavelength * 10 * instrument.distance)
    with h5py.File(task.path) as file:
        image = file[IMAGE]
        patterns, mask, centre = (image[name][()] for name in ("data", "mask", "image_center"))
    rings = particle_size._max_angle_distance(patterns.shape[1:], centre)
    sizes = (task.smallest * 10, task.largest * 10)

    def work() -> None:
        psd = np.zeros((len(patterns), rings))
        particle_size._compute_psd_array_numba(patterns, mask, centre, rings, psd)
        first = np.argmax(psd.max(axis=0) > 0) + 2
        fit = particle_size._estimate_size_psd_sphere(psd, step, *sizes, first, rings, 5, 300)
        for misfits in fit["fit_diff"]:
            particle_size._get_fit_optimum(misfits)

    return work


def _instrument(task: Task) -> Instrument:
    run = open_run(task.path)
    return run.geometry.on_detector(run.shape)


if __name__ == "__main__":
    main(rows, "sizes")
