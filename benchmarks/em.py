"""EM classification beside spi-em-class, the program of the paper's authors, on one simulated run.

    python -m benchmarks.em [--quick] [--results FOLDER]

Both begin from the same images with equal settings: Friedel symmetry, log(1 + photons), soft assignment. Each runs in a
process of its own, on all cores; neither's reading of the file is timed. Theirs is compiled beforehand.
"""

from __future__ import annotations

import contextlib
import io
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
from spi_lightning.analysis.consensus import adjusted_rand_index
from spi_lightning.analysis.em import classify
from spi_lightning.analysis.em_images import EMPixels, em_pixels
from spi_lightning.analysis.em_settings import EMSettings
from spi_lightning.commands.simulate import simulation_recipe
from spi_lightning.config.compose import composed
from spi_lightning.config.launch import conf_folder
from spi_lightning.config.schema import SimulateConfig
from spi_lightning.instrument import Geometry
from spi_lightning.patterns import open_run
from spi_lightning.patterns.export_cxi import write_cxi

TARGET = 50.0
THEIRS = "spi-em-class"
KIND = "entry_1/image_1/truth/kind"
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
        return [*_speed(path, speed), *_agreement(path, agreement)]


def simulated(path: Path, n: int) -> Path:
    """The paper's experiment, with so many single hits that there is something to sort."""
    overrides = ["simulate=paper", f"simulate.n_patterns={n}", *COMPOSITION]
    experiment = simulation_recipe(composed("simulate", conf_folder(), SimulateConfig, overrides)).experiment()
    parts = [experiment.simulate(range(i, min(i + 50, n))) for i in range(0, n, 50)]
    frames = np.concatenate([part.frames for part in parts]).clip(0, 65535)
    kinds = np.concatenate([part.truth["ingredient"] for part in parts])
    write_cxi(
        path,
        [frames.astype(np.uint16)],
        n_frames=n,
        shape=frames.shape[1:],
        dtype=np.uint16,
        mask=experiment.flags == 0,
        geometry=Geometry(centre=experiment.instrument.centre),
        extra={"truth/kind": kinds},
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
        return {"seconds": np.diff(times)[: task.iterations].tolist(), "classes": found.classes.numpy()}

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
        return {"seconds": seconds, "classes": classifier.prob_vals.max(1).argmax(0)}

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
        kinds = file[KIND][: task.patterns]
    write_cxi(
        part,
        [run.read(np.arange(task.patterns))],
        n_frames=task.patterns,
        shape=run.shape,
        dtype=np.uint16,
        mask=run.mask,
        geometry=run.geometry,
        extra={"truth/kind": kinds},
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
    classes = []
    for program in ("ours", "theirs"):
        with Remote(f"benchmarks.em:{program}", part, task) as run:
            classes.append(torch.from_numpy(run()["classes"]))
    with h5py.File(part) as file:
        kinds = torch.from_numpy(file[KIND][()].astype(np.int64))
    index = adjusted_rand_index(*classes)
    what = f"{task.patterns} patterns, {task.classes} classes, {task.iterations} iterations from the same start"
    of_truth = [adjusted_rand_index(own, kinds) for own in classes]
    return [
        fact_row(f"EM, adjusted Rand index of ours and {THEIRS}, {what}", f"{index:.3f}", "≥ 0.95", index >= 0.95),
        fact_row(
            f"EM, adjusted Rand index with the kinds of particles, {what}",
            f"{of_truth[0]:.3f}",
            f"≥ that of {THEIRS}",
            of_truth[0] >= of_truth[1] - 0.02,
            note=f"{THEIRS}: {of_truth[1]:.3f}; one kind has patterns of several sizes and shapes",
        ),
    ]


if __name__ == "__main__":
    record.main(rows, "em")
