"""What takes the time in training and in prediction: the next step is to be chosen, not guessed.

    python -m benchmarks.profiles [--quick] [--results FOLDER]

writes ``profile_training.md`` and ``profile_prediction.md``: the share of each region of a training step, of
:func:`~spi_lightning.training.fold.train_fold`, and of the prediction from a file by
:func:`~spi_lightning.inference.predict.score_run`; and which operations of torch take most. The regions are timed
without torch's profiler, which makes small operations slower, in a first run; the operations come from a second one.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch._C._profiler import _ExperimentalConfig
from torch.profiler import ProfilerActivity, profile

from benchmarks import regions
from benchmarks.paper_faithful import NORMALISATION, new_networks, normalised_patterns, pattern_counts
from benchmarks.record import RESULTS, Cells, described, folder_of, hardware, load_at_start, markdown, parser, show
from benchmarks.regions import Clock, watched
from benchmarks.remote import Remote
from spi_lightning.commands.parts import open_patterns, trained_on, training_recipe
from spi_lightning.config.compose import composed
from spi_lightning.config.launch import conf_folder
from spi_lightning.config.train_schema import TrainConfig
from spi_lightning.data.device import choose_device
from spi_lightning.data.splits import make_splits
from spi_lightning.data.training_set import load_training_set
from spi_lightning.inference.ensemble import Ensemble, ready
from spi_lightning.inference.predict import score_run
from spi_lightning.memory import keep_heap
from spi_lightning.patterns.export_cxi import write_cxi
from spi_lightning.provenance import provenance, write_text
from spi_lightning.training.fold import train_fold

SHAPE, QUICK_SHAPE = (192, 96), (48, 24)
WARM_UP = 3  # steps before the first that is looked at
TOP = 20  # operations in the table
SMALL: dict[str, Any] = {"filters": [4, 8], "blocks": [1, 1], "strides": [[1, 1], [2, 2]]}  # network of a quick run


@dataclass(frozen=True)
class Watched:
    """What a run showed.

    Attributes:
        seconds: of each region, all threads together.
        wall: seconds of the run.
        threads: that computed side by side.
        units: steps or patterns.
        operations: lines of a table.
    """

    seconds: Mapping[str, float]
    wall: float
    threads: int
    units: int
    operations: list[Cells]


def main() -> None:
    """Profile both by the command line."""
    arguments = parser(__doc__).parse_args()
    load_at_start()
    folder = folder_of(arguments)
    for name, unit in (("training", "step"), ("prediction", "pattern")):
        with Remote(f"benchmarks.profiles:{name}", arguments.quick) as run:
            found = run()
        shares = share_table(found, unit)
        for table in (shares, found.operations):
            show(table)
        if folder is not None:
            write(name, shares, found.operations, folder)


def share_table(found: Watched, unit: str) -> list[Cells]:
    """Share and time of each region, and of all that is not the network."""
    capacity = found.wall * found.threads
    # What is read ahead in a thread of its own takes nothing from those that compute, unless they wait for it.
    seconds = {name: value for name, value in found.seconds.items() if name not in (regions.READING, regions.REST)}
    seconds[regions.REST] = capacity - sum(seconds.values())
    inside = sum(seconds.get(name, 0.0) for name in regions.NETWORK)
    lines = sorted(seconds.items(), key=lambda item: -item[1])
    lines.append(("all but the network", capacity - inside))
    if regions.READING in found.seconds:
        lines.append(("reading, in a thread of its own", found.seconds[regions.READING]))
    column = f"ms a {unit} and core"
    return [
        {"region": name, "share": f"{100 * value / capacity:.1f} %", column: f"{1e3 * value / found.units:.3g}"}
        for name, value in lines
    ]


def write(name: str, shares: list[Cells], operations: list[Cells], folder: Path = RESULTS) -> None:
    """Write both tables as ``profile_NAME.md``."""
    origin = {**provenance(), "hardware": hardware()}
    folder.mkdir(parents=True, exist_ok=True)
    parts = (f"# Profile of {name}", described(origin), markdown(shares), "Operations of torch:", markdown(operations))
    write_text(folder / f"profile_{name}.md", "\n\n".join(part.rstrip("\n") for part in parts) + "\n")


def training(quick: bool) -> Callable[[], Watched]:
    """Prepare the profile of a fold's training, as spi-train does it."""
    return partial(_training, quick)


def prediction(quick: bool) -> Callable[[], Watched]:
    """Prepare the profile of the prediction from a file, as spi-predict does it."""
    return partial(_prediction, quick)


def _training(quick: bool) -> Watched:
    steps = WARM_UP + (2 if quick else 8)
    with _patterns_on_disk(quick, f"sampler.batches={steps}", "trainer.epochs=1", "trainer.validate_every=1") as config:
        run = open_patterns(config)
        splits = make_splits(run, config.split)
        training_set = load_training_set(run, splits, lambda n: None)
        recipe = training_recipe(config, NORMALISATION)

        def train(clock: Clock) -> None:
            with tempfile.TemporaryDirectory() as folder, watched(clock):
                train_fold(recipe, training_set, splits, 0, Path(folder))

        clock = Clock()
        train(clock)
        start, end = clock.steps[WARM_UP - 1], clock.steps[-1]
        profiler = _profiler()
        on_step = {WARM_UP: profiler.start, steps: profiler.stop}
        train(Clock(lambda number: on_step.get(number, lambda: None)()))
    seconds = clock.seconds(start, end)
    return Watched(seconds, end - start, 1, steps - WARM_UP, _operations(profiler, steps - WARM_UP))


def _prediction(quick: bool) -> Watched:
    keep_heap()
    with _patterns_on_disk(quick) as config:
        run = open_patterns(config)
        networks = new_networks(2 if quick else 5, normalised_patterns(64, run.shape), architecture=_network(config))
        ensemble = Ensemble(
            networks=tuple(ready(network, choose_device(config.device)) for network in networks),
            architecture=config.model,
            normalisation=NORMALISATION,
            mirrors=config.ensemble.mirrors,
            threshold=0.5,
            chosen_by=config.ensemble.threshold,
            trained_on=trained_on(config, run, make_splits(run, config.split)),
            description={},
        )

        def predict(clock: Clock) -> None:
            with watched(clock):
                for _ in score_run(ensemble, _Read(run, clock)):
                    pass

        predict(Clock())  # warm up
        clock = Clock()
        start = time.perf_counter()
        predict(clock)
        end = time.perf_counter()
        with _profiler() as profiler:
            predict(Clock())
    computing = {event.thread for event in clock.events if event.name == regions.FORWARD}
    threads = min(len(computing), torch.get_num_threads())
    return Watched(clock.seconds(start, end), end - start, threads, len(run), _operations(profiler, len(run)))


class _Read:
    """A run whose reading is a region."""

    def __init__(self, run: Any, clock: Clock):
        self._run, self._clock = run, clock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._run, name)

    def __len__(self) -> int:
        return len(self._run)

    def read(self, indices: np.ndarray | Sequence[int]) -> np.ndarray:
        with self._clock.region(regions.READING):
            return self._run.read(indices)

    def blocks(self, *args: Any) -> Iterator[tuple[int, np.ndarray]]:
        blocks = self._run.blocks(*args)
        step = self._clock.wrapped(partial(next, blocks, None), regions.READING)
        while (block := step()) is not None:
            yield block


@contextmanager
def _patterns_on_disk(quick: bool, *overrides: str) -> Iterator[TrainConfig]:
    """The config of a training on labelled patterns, which are in a gzip file as in the field."""
    n, shape = (60, QUICK_SHAPE) if quick else (128, SHAPE)
    labels = (np.arange(n) % 5 == 0).astype(np.int8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "patterns.cxi"
        write_cxi(path, [pattern_counts(n, shape)], n, shape=shape, dtype=np.uint16, labels=labels)
        small = [f"model.{name}={value}" for name, value in SMALL.items()] if quick else []
        size = [*small, "sampler.batch_size=8"] if quick else []
        given = [f"data.path={path}", "split=small", f"run={folder}", "logger=none", *size, *overrides]
        yield composed("train", conf_folder(), TrainConfig, given)


def _network(config: TrainConfig) -> dict[str, Any]:
    return {name: value for name, value in config.model.items() if name != "_target_"}


def _profiler() -> profile:
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
    return profile(activities=activities, experimental_config=_ExperimentalConfig(profile_all_threads=True))


def _operations(profiler: profile, units: int) -> list[Cells]:
    """The operations that take most time themselves, each with the region that it belongs to."""
    on_gpu = torch.cuda.is_available()
    times: Counter[tuple[str, str]] = Counter()
    calls: Counter[tuple[str, str]] = Counter()
    for event in profiler.events() or []:
        if event.name.startswith(regions.PREFIX) or event.is_user_annotation:
            continue  # Python's own time: in the table of regions
        key = event.name, _region_of(event)
        times[key] += event.self_device_time_total if on_gpu else event.self_cpu_time_total
        calls[key] += 1
    total = sum(times.values())
    return [
        {
            "operation": name,
            "region": region,
            "share": f"{100 * microseconds / total:.1f} %",
            "ms each": f"{microseconds / 1e3 / units:.3g}",
            "calls each": f"{calls[name, region] / units:.3g}",
        }
        for (name, region), microseconds in times.most_common(TOP)
    ]


def _region_of(event: Any) -> str:
    while event is not None:
        if event.name.startswith(regions.PREFIX):
            return str(event.name.removeprefix(regions.PREFIX))
        if event.name.startswith("autograd::engine"):  # on a GPU in a thread of its own
            return regions.BACKWARD
        event = event.cpu_parent
    return regions.REST


if __name__ == "__main__":
    main()
