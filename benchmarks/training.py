"""How fast a network is trained, beside the paper's pipeline, and what a step is made of.

    python -m benchmarks.training [--quick]

What is timed is what spi-train runs: Lightning, the data module, the batched augmentation, glibc told to keep its heap.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from benchmarks import regions
from benchmarks.paper_faithful import BATCH, NORMALISATION, pattern_counts
from benchmarks.record import Row, fact_row, interleaved, main, rate_row, share_row
from benchmarks.regions import Clock, watched
from benchmarks.remote import Remote
from spi_lightning.commands.parts import training_recipe
from spi_lightning.config.compose import composed
from spi_lightning.config.launch import conf_folder
from spi_lightning.config.train_schema import TrainConfig
from spi_lightning.data.device import choose_device
from spi_lightning.data.loaders import Batch
from spi_lightning.data.splits import Splits, SplitSettings
from spi_lightning.data.training_set import TrainingSet
from spi_lightning.errors import SpiError
from spi_lightning.progress import progress_told_to
from spi_lightning.training.compilation import check_compiler
from spi_lightning.training.fold import Fit, run, set_up

Shape = tuple[int, int]

WARM_UP = 2  # steps of a training before the first that is looked at
DISTINCT = 2000  # patterns that are simulated; a larger training set repeats them
MAKING = (regions.GATHERING, regions.NORMALISING, regions.AUGMENTING, regions.MOVING)
LEARNING = (*regions.NETWORK, regions.OPTIMISER)
ITERATIONS = 50_000  # of a fold, in the paper
WATCHED = "watched"
HERE = "benchmarks.training"


@dataclass(frozen=True)
class Steps:
    """A training without its first steps.

    Attributes:
        per_second: steps.
        start: seconds until the end of the first step, with all that comes before.
        making: share of the time in which batches are drawn, gathered, normalised and augmented.
        outside: share that is neither this, nor network, loss, gradient or optimiser.
    """

    per_second: float
    start: float
    making: float
    outside: float


def rows(quick: bool) -> list[Row]:
    """Steps a second, shares of a step, Lightning's microseconds, memory."""
    device = choose_device("auto")
    on_cpu = device == "cpu"
    if quick:
        shape, network, batch, steps, repeats, held = (48, 24), "tiny_cnn", 8, 6, 1, 100
        watched_too, threads = [(shape, network, steps)], 1  # several wait for each other on a machine that is not idle
    else:
        shape, network, batch, repeats, held = (192, 96), "preact_resnet", BATCH, 5, 20_000
        steps, threads = (8 if on_cpu else 200), None
        watched_too = [(shape, network, steps), ((96, 48), "preact_resnet_binned", 8 * steps)]
    what = f"training step with augmentation, {_size(shape)}, batch {batch}"
    found: dict[str, list[Steps]] = {}
    variants: dict[str, Callable[[], object]] = {}
    with ExitStack() as stack:
        ours = stack.enter_context(Remote(f"{HERE}:training", shape, network, batch, steps, held, threads=threads))
        variants["ours"] = _kept(ours, found.setdefault("ours", []))
        if compiles := not quick and _compiler_is_here(device):
            settings = (shape, network, batch, steps, DISTINCT, "trainer.compile=true")
            fused = stack.enter_context(Remote(f"{HERE}:training", *settings))
            variants["compiled"] = _kept(fused, found.setdefault("compiled", []))
        faithful = Remote("benchmarks.paper_faithful:training_step", shape, batch, steps, 1, device, threads=threads)
        variants["paper-faithful"] = stack.enter_context(faithful)
        theirs = [steps / seconds for seconds in interleaved(variants, repeats)["paper-faithful"]]
        memory = ours.peak_memory()
    rates = {name: [one.per_second for one in steps[1:]] for name, steps in found.items()}  # the first warmed up
    lines = [
        rate_row(f"{what}: paper-faithful", theirs),
        rate_row(what, rates["ours"], "paper-faithful", theirs, 2.0 if on_cpu else None),
    ]
    if not on_cpu:
        minutes = ITERATIONS / statistics.median(rates["ours"]) / 60
        lines.append(fact_row(f"one fold of {ITERATIONS:,} iterations", f"{minutes:.1f} min", "≤ 3 min", minutes <= 3))
    if compiles:
        note = f"{found['compiled'][0].start:.0f} s until the first step is done"
        lines.append(rate_row(f"{what}, compiled", rates["compiled"], "not compiled", rates["ours"], note=note))
    for pixels, model, count in watched_too:
        with Remote(
            f"{HERE}:training", pixels, model, batch, count, min(held, DISTINCT), WATCHED, threads=threads
        ) as remote:
            shares = [remote() for _ in range(repeats + 1)][1:]
        part = f"of a step, {_size(pixels)}, {model}"
        most = 0.07 if on_cpu and (pixels, model) == watched_too[0][:2] else None
        lines.append(share_row(f"augmentation and loading, {part}", [one.making for one in shares], most))
        most = 0.05 if on_cpu else 0.15
        lines.append(share_row(f"Lightning and Python, {part}", [one.outside for one in shares], most))
    with Remote(f"{HERE}:beyond_a_plain_loop", 50 if quick else 500, threads=1) as loops:
        beyond = [loops() for _ in range(repeats)]
    lines.append(
        fact_row("Lightning beyond a plain loop, on the CPU", f"{1e6 * statistics.median(beyond):.0f} µs a step")
    )
    text = f"{memory / 1e9:.2f} GB"
    lines.append(fact_row(f"peak memory of a training with {held:,} patterns, {_size(shape)}", text))
    return lines


def _compiler_is_here(device: str) -> bool:
    try:
        check_compiler(device)
    except SpiError:
        return False
    return True


def _kept(remote: Remote, results: list[Steps]) -> Callable[[], None]:
    return lambda: results.append(remote())


def training(shape: Shape, network: str, batch: int, steps: int, held: int, *more: str) -> Callable[[], Steps]:
    """Prepare an epoch of training as spi-train does it, without validation.

    Args:
        shape: of the patterns.
        network: in ``conf/model``.
        batch: patterns of a step.
        steps: of the epoch.
        held: patterns of the training set.
        *more: settings; or ``WATCHED`` to find the shares, which are 0 otherwise.
    """
    training_set = patterns(held, shape)
    overrides = [setting for setting in more if setting != WATCHED]

    def work() -> Steps:
        clock = Clock()
        watching = watched(clock) if WATCHED in more else _steps_told_to(clock, (WARM_UP, steps))
        begin = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder, progress_told_to(lambda _: None), watching:
            run(_prepared(training_set, Path(folder), batch, steps, [f"model={network}", *overrides]))
        start, end = clock.steps[WARM_UP - 1], clock.steps[-1]
        seconds = clock.seconds(start, end)
        making, learning = (sum(seconds.get(name, 0.0) for name in names) for names in (MAKING, LEARNING))
        return Steps(
            per_second=(steps - WARM_UP) / (end - start),
            start=clock.steps[0] - begin,
            making=making / (end - start),
            outside=1 - (making + learning) / (end - start) if seconds else 0.0,
        )

    return work


@contextmanager
def _steps_told_to(clock: Clock, exactly: Sequence[int]) -> Iterator[None]:
    """Nothing but the ends of steps: hooks of modules would be compiled, too. A GPU is waited for at some of them."""

    def ended(*_: object) -> None:
        if torch.cuda.is_available() and len(clock.steps) + 1 in exactly:
            torch.cuda.synchronize()
        clock.step()

    handle = register_optimizer_step_post_hook(ended)
    try:
        yield
    finally:
        handle.remove()


def beyond_a_plain_loop(steps: int) -> Callable[[], float]:
    """Prepare to find how many seconds a step Lightning takes beyond a loop over the same batch, in a tiny network."""
    training_set = patterns(20, (8, 4))
    batch = Batch(torch.rand(4, 1, 8, 4), torch.tensor([0, 1, 0, 1]))

    def work() -> float:
        with tempfile.TemporaryDirectory() as folder, progress_told_to(lambda _: None):
            fit = _prepared(training_set, Path(folder), 4, steps, ["device=cpu"], network=_Tiny)
            network = fit.module.network
            optimizer = fit.module.make_optimizer(network.parameters())
            fit.data.train_dataloader = lambda: _Same(batch, steps)  # type: ignore[method-assign]
            times: list[float] = []
            network.register_forward_hook(lambda *_: times.append(time.perf_counter()))
            run(fit)
            beyond = (times[-1] - times[WARM_UP]) / (len(times) - WARM_UP - 1)
        times.clear()
        for _ in range(steps):
            optimizer.zero_grad()
            fit.module.loss(network(batch.patterns), batch.labels).backward()
            optimizer.step()
        return beyond - (times[-1] - times[WARM_UP]) / (len(times) - WARM_UP - 1)

    return work


def patterns(n: int, shape: Shape) -> TrainingSet:
    """A training set of simulated counts in one byte a pixel; 5 % are called single hits."""
    distinct = pattern_counts(min(n, DISTINCT), shape).clip(max=255).astype(np.uint8)
    counts = np.resize(distinct, (n, *shape))
    return TrainingSet(counts, (np.arange(n) // 2 % 20 == 0).astype(np.int64), np.ones(shape, bool), np.arange(n))


def _prepared(
    training_set: TrainingSet,
    folder: Path,
    batch: int,
    steps: int,
    overrides: Sequence[str] = (),
    network: Callable[[], nn.Module] | None = None,
) -> Fit:
    """One epoch of a fold, up to the moment when it begins."""
    settings = (
        f"sampler.batch_size={batch}",
        f"sampler.batches={steps}",
        "trainer.validate_every=1000",  # which the end of the first epoch is not
        "data.path=none",
        "logger=none",
        f"run={folder}",
        *overrides,
    )
    config = composed("train", conf_folder(), TrainConfig, list(settings))
    n = len(training_set)
    parts = [np.arange(k, n, 2) for k in range(2)]
    ids, labels = np.arange(n).astype(str), training_set.labels.astype(np.int8)
    splits = Splits(SplitSettings(folds=2), "", "", ids, labels, parts, np.arange(0))
    recipe = training_recipe(config, NORMALISATION)
    if network is not None:
        recipe = replace(recipe, network=network)
    fit = set_up(recipe, training_set, splits, 0, folder)
    fit.trainer.fit_loop.max_epochs = 1
    return fit


def _size(shape: Shape) -> str:
    return f"{shape[0]} x {shape[1]}"


class _Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 1)

    def forward(self, patterns: torch.Tensor) -> torch.Tensor:
        return self.conv(patterns).mean((2, 3))


@dataclass(frozen=True)
class _Same:
    """A loader that hands out one batch again and again."""

    batch: Batch
    steps: int

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Batch]:
        return iter([self.batch] * self.steps)


if __name__ == "__main__":
    main(rows, "training")
