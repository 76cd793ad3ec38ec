"""EM classification beside spi-em-class, the program of the paper's authors, on one simulated run.

    python -m benchmarks.em [--quick] [--results FOLDER]

Both begin from the same images with equal settings: Friedel symmetry, log(1 + photons), soft assignment. Each runs in a
process of its own, on all cores; neither's reading of the file is timed. Theirs is compiled beforehand. The real frames
are those of ../shared/data, where they are.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from benchmarks import record
from benchmarks.record import Row, fact_row, rate_row
from benchmarks.remote import Remote
from spi_lightning.analysis.class_choice import ChoiceSettings, choose_classes, measure_classes
from spi_lightning.analysis.consensus import adjusted_rand_index
from spi_lightning.analysis.contrast import FringeSettings, fringe_contrast
from spi_lightning.analysis.em import Classification, classify
from spi_lightning.analysis.em_images import EMPixels, em_pixels
from spi_lightning.analysis.em_settings import EMSettings
from spi_lightning.analysis.psd import angular_mean, radial_bins
from spi_lightning.analysis.size import SizeSettings
from spi_lightning.commands.simulate import simulation_recipe
from spi_lightning.config.compose import composed
from spi_lightning.config.launch import conf_folder
from spi_lightning.config.schema import SimulateConfig
from spi_lightning.instrument import Geometry
from spi_lightning.patterns import open_run
from spi_lightning.patterns.export_cxi import write_cxi

TARGET = 50.0
THEIRS = "spi-em-class"
REAL = Path(__file__).resolve().parents[2] / "shared/data/pr772_amo86615_20_labelled.cxi"
SINGLE, LABELS = "entry_1/image_1/truth/single", "entry_1/image_1/labels"
Q_PER_PIXEL = 4.972e-3  # nm⁻¹, of the simulated run
REAL_Q_PER_PIXEL = 2 * np.pi / 0.79 * 0.6e-3 / 0.581  # nm⁻¹
COMPOSITION = ("simulate.least_photons=2000", "simulate.composition.single.share=100", "simulate.expert.labelled=null")


@dataclass(frozen=True)
class Task:
    """What is classified, and how.

    Attributes:
        patterns: of the run.
        classes: and
        rotations: in half a turn.
        ring: first and last distance from the beam, pixels.
        iterations: of both programs.
    """

    patterns: int
    classes: int
    rotations: int
    ring: tuple[int, int]
    iterations: int

    def settings(self) -> EMSettings:
        """As theirs: every photon counts twice in their likelihood, and no class is revived."""
        return EMSettings(self.classes, self.rotations, beta=2.0, iterations=self.iterations, tolerance=0.0, revivals=0)


def rows(quick: bool) -> list[Row]:
    """Rows of the table: speed and memory as the paper's settings have it, and agreement on a smaller task."""
    speed = Task(24, 2, 8, (13, 40), 2) if quick else Task(2000, 20, 100, (13, 60), 2)
    agreement = Task(24, 2, 8, (13, 40), 2) if quick else Task(500, 8, 36, (13, 45), 12)
    with tempfile.TemporaryDirectory() as folder:
        path = simulated(Path(folder) / "patterns.cxi", max(speed.patterns, agreement.patterns))
        found = [*_speed(path, speed), *_agreement(path, agreement)]
        if REAL.is_file() and not quick:
            found += _real(Path(folder))
        return found


def simulated(path: Path, n: int) -> Path:
    """The paper's experiment, with so many single hits that there is something to sort."""
    overrides = ["simulate=paper", f"simulate.n_patterns={n}", *COMPOSITION]
    experiment = simulation_recipe(composed("simulate", conf_folder(), SimulateConfig, overrides)).experiment()
    parts = [experiment.simulate(range(i, min(i + 50, n))) for i in range(0, n, 50)]
    frames = np.concatenate([part.frames for part in parts]).clip(0, 65535)
    single = np.concatenate([part.truth["single"] for part in parts])
    write_cxi(
        path,
        [frames.astype(np.uint16)],
        n_frames=n,
        shape=frames.shape[1:],
        dtype=np.uint16,
        mask=experiment.flags == 0,
        geometry=Geometry(centre=experiment.instrument.centre),
        extra={"truth/single": single},
    )
    return path


def loaded(path: Path, task: Task) -> tuple[torch.Tensor, EMPixels]:
    """Counts of the pixels that take part."""
    run = open_run(path)
    assert run.geometry.centre is not None
    pixels = em_pixels(torch.from_numpy(run.mask), run.geometry.centre, *task.ring)
    frames = torch.from_numpy(run.read(np.arange(task.patterns)).astype(np.uint16))
    return frames.flatten(1)[:, pixels.index], pixels


def first_images(path: Path, task: Task) -> torch.Tensor:
    """From which both begin: a small variation around 1."""
    side = loaded(path, task)[1].side
    random = np.random.default_rng(0).random((task.classes, side, side))
    return torch.from_numpy(0.99 + 0.005 * (random + random[:, ::-1, ::-1]))


def ours(path: Path, task: Task) -> Callable[[], dict[str, Any]]:
    """For a process of its own: seconds of each iteration, the first with all preparations; and classes."""
    counts, pixels = loaded(path, task)
    start = first_images(path, task)

    def work() -> dict[str, Any]:
        times = [time.perf_counter()]
        found = classify(counts, pixels, task.settings(), start, advance=lambda _: times.append(time.perf_counter()))
        sorted_into = {"classes": found.classes.numpy(), "rotations": found.rotations.numpy()}
        return {"seconds": np.diff(times)[: task.iterations].tolist(), **sorted_into}

    return work


def theirs(path: Path, task: Task) -> Callable[[], dict[str, Any]]:
    """For a process of its own: the same by spi-em-class."""
    classifier = _classifier(path, task, path.with_suffix(".h5"))
    with h5py.File(path) as file:
        few = {name: file[f"entry_1/image_1/{name}"][:3] for name in ("data", "image_center")}
        few["mask"] = file["entry_1/image_1/mask"][()]
    small = path.with_name("few.cxi")
    with h5py.File(small, "w") as file:
        for name, values in few.items():
            file[f"entry_1/image_1/{name}"] = values
    with _quiet():
        _classifier(small, Task(3, 1, 2, task.ring, 1), path.with_name("few.h5")).run_iteration()  # compiles it
    start = first_images(path, task).numpy()

    def work() -> dict[str, Any]:
        classifier.model[:] = start
        seconds = []
        for _ in range(task.iterations):
            begin = time.perf_counter()
            with _quiet():
                classifier.run_iteration()
            seconds.append(time.perf_counter() - begin)
        best = classifier.prob_vals
        return {"seconds": seconds, "classes": best.max(1).argmax(0), "rotations": best.max(0).argmax(0)}

    return work


def _quiet() -> contextlib.AbstractContextManager[object]:
    stack = contextlib.ExitStack()
    stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
    stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
    return stack


def _classifier(path: Path, task: Task, at: Path) -> Any:
    import spi_em_class

    at.unlink(missing_ok=True)
    recipe = {
        "best_proba": False,
        "binning": 1,
        "cxi_file": str(path),
        "friedel": True,
        "logscale": True,
        "num_class": task.classes,
        "num_rot": task.rotations,
        "q_min": task.ring[0],
        "q_max": task.ring[1],
    }
    with _quiet():
        spi_em_class.config.save_config(str(at), recipe)
        return spi_em_class.Classifier(str(at))


def _part(path: Path, task: Task) -> Path:
    """A file with the first patterns alone: theirs takes all that are there."""
    part = path.with_name(f"first_{task.patterns}.cxi")
    run = open_run(path)
    with h5py.File(path) as file:
        single = file[SINGLE][: task.patterns]
    write_cxi(
        part,
        [run.read(np.arange(task.patterns))],
        n_frames=task.patterns,
        shape=run.shape,
        dtype=np.uint16,
        mask=run.mask,
        geometry=run.geometry,
        extra={"truth/single": single},
    )
    return part


def _speed(path: Path, task: Task) -> list[Row]:
    part = _part(path, task)
    what = f"{task.patterns:,} patterns, {task.classes} classes, {task.rotations} rotations"
    with Remote("benchmarks.em:ours", part, task) as run:
        before = run.peak_memory()
        # Before and after theirs, whose minutes may see another load of the machine.
        mine = [run()["seconds"], run()["seconds"]]
        with Remote("benchmarks.em:theirs", part, task) as other:
            their_before = other.peak_memory()
            baseline = other()["seconds"]
            their_memory = other.peak_memory()
        mine.append(run()["seconds"])
        memory = run.peak_memory()
    found = []
    for number, (name, target) in enumerate({"first, with all preparations of ours": None, "second": TARGET}.items()):
        rates = [task.patterns / seconds[number] for seconds in mine]
        found.append(
            rate_row(
                f"EM, iterations ({name}), {what}",
                rates,
                THEIRS,
                [task.patterns / baseline[number]],
                target,
                note=f"{statistics.median(s[number] for s in mine):.2f} s against {baseline[number]:.1f} s",
            )
        )
    note = (
        f"{THEIRS}: {their_memory / 1e9:.2f} GB; before they began {before / 1e9:.2f} and {their_before / 1e9:.2f} GB"
    )
    return [*found, fact_row(f"EM, peak memory, {what}", f"{memory / 1e9:.2f} GB", note=note)]


def _agreement(path: Path, task: Task) -> list[Row]:
    part = _part(path, task)
    with h5py.File(part) as file:
        single = file[SINGLE][()] == 1
    return _beside(part, task, single, Q_PER_PIXEL, f"{task.patterns} simulated patterns")


def _real(folder: Path) -> list[Row]:
    task, path = Task(20, 4, 36, (8, 45), 12), folder / "real.cxi"
    shutil.copyfile(REAL, path)
    with h5py.File(path) as file:
        single = file[LABELS][()] == 1
    return _beside(path, task, single, REAL_Q_PER_PIXEL, f"{task.patterns} real frames")


def _beside(path: Path, task: Task, single: np.ndarray, q_per_pixel: float, which: str) -> list[Row]:
    """How the classes of both programs agree with each other, and with what is a single hit."""
    found: list[dict[str, torch.Tensor]] = []
    for program in ("ours", "theirs"):
        with Remote(f"benchmarks.em:{program}", path, task) as run:
            told = run()
            found.append({name: torch.from_numpy(told[name]) for name in ("classes", "rotations")})
    what = f"{which}, {task.classes} classes, {task.iterations} iterations from the same start"
    index = adjusted_rand_index(found[0]["classes"], found[1]["classes"])
    truth = torch.from_numpy(single.astype(np.int64))
    of_truth = [adjusted_rand_index(own["classes"], truth) for own in found]
    contrasts, purities = zip(*(_chosen(path, task, single, q_per_pixel, **own) for own in found), strict=True)
    return [
        fact_row(f"EM, adjusted Rand index of ours and {THEIRS}, {what}", f"{index:.3f}", "≥ 0.95", index >= 0.95),
        fact_row(
            f"EM, adjusted Rand index with single hits and others, {what}",
            f"{of_truth[0]:.3f}",
            f"≥ that of {THEIRS}",
            of_truth[0] >= of_truth[1] - 0.02,
            note=f"{THEIRS}: {of_truth[1]:.3f}; single hits are in several classes",
        ),
        fact_row(
            f"EM, contrast of the classes that callbacks.em chooses, {what}",
            contrasts[0],
            note=f"{THEIRS}: {contrasts[1]}; single hits among them {purities[0]}, {purities[1]}",
        ),
    ]


def _chosen(
    path: Path, task: Task, single: np.ndarray, q_per_pixel: float, classes: torch.Tensor, rotations: torch.Tensor
) -> tuple[str, str]:
    """Contrast of all patterns and of those in the classes of single hits; and how many of the latter are some."""
    counts, pixels = loaded(path, task)
    nothing = torch.zeros(task.classes, 1, 1)
    own = torch.zeros(len(classes))
    sorted_into = Classification(nothing, nothing, classes, rotations, own, own, own, [], True)
    fringes, size = FringeSettings(pairs=1, edge=1), SizeSettings(20.0, 140.0)
    measures = measure_classes(
        sorted_into, counts, pixels, q_per_pixel, task.settings(), ChoiceSettings(), fringes, size
    )
    kept = choose_classes(measures, ChoiceSettings())[classes].numpy()
    run = open_run(path)
    assert run.geometry.centre is not None
    frames, mask = torch.from_numpy(run.read(np.arange(task.patterns)).astype(np.float32)), torch.from_numpy(run.mask)
    psds = angular_mean(frames, radial_bins(run.shape, run.geometry.centre), mask)
    told = []
    for some in (np.ones_like(kept), kept):
        value = float(fringe_contrast(psds[some].mean(0)[None], fringes).value[0]) if some.any() else np.nan
        told.append("no fringes" if np.isnan(value) else f"{value:.2f}")
    return f"{told[0]} → {told[1]}", f"{single.mean():.2f} → {single[kept].mean() if kept.any() else 0:.2f}"


if __name__ == "__main__":
    record.main(rows, "em")
