"""The folds of a cross-validation on one device: one after the other, side by side in processes, or as one network.

    python -m benchmarks.folds [--quick]

The network and the settings are those of the demo, the patterns noise. On a CPU the processes have the threads that
spi-train gives them. The stacked network does a step of all folds with grouped convolutions (torch.func.vmap over the
weights), and augments their batches in one go.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import count

import torch
from torch.func import functional_call, stack_module_state, vmap

from benchmarks.record import Row, fact_row, interleaved, main, rate_row
from benchmarks.remote import Remote
from spi_lightning.augmentation.pipeline import NoAugmentation
from spi_lightning.commands.parts import training_recipe
from spi_lightning.config.compose import composed
from spi_lightning.config.launch import conf_folder
from spi_lightning.config.train_schema import TrainConfig
from spi_lightning.cores import available_cores
from spi_lightning.data.normalisation import Normalisation
from spi_lightning.memory import keep_heap
from spi_lightning.training.at_once import share_out
from spi_lightning.training.recipe import Recipe

NORMALISATION = Normalisation("none", 0.342, 2.336)  # the paper's
COMPARED = 3  # steps in which stacked and separate networks are compared

Step = Callable[[], torch.Tensor]  # trains by one batch a fold, and gives the loss


@dataclass(frozen=True)
class Size:
    """How much is trained.

    Attributes:
        shape: of a pattern, (rows, columns).
        batch: patterns of a step.
        folds: that there are.
        steps: of each fold between two looks at the clock.
        repeats: looks at the clock.
    """

    shape: tuple[int, int]
    batch: int
    folds: int
    steps: int
    repeats: int


QUICK = Size((32, 16), 8, 2, 2, 2)
DEMO = Size((96, 48), 64, 5, 10, 5)


def rows(quick: bool) -> list[Row]:
    size = QUICK if quick else DEMO
    device = "cuda" if torch.cuda.is_available() else "cpu"
    cores = available_cores()
    wanted = size.folds if device == "cuda" else None
    sharing = share_out(size.folds, wanted, 0, device, size.batch * math.prod(size.shape) * 4)
    at_once, baseline = sharing.processes, f"{size.folds} folds one after the other, all threads"
    with ExitStack() as stack:
        everyone = list(range(size.folds))
        plain = stack.enter_context(Remote("benchmarks.folds:separate", size, everyone, device, threads=cores))
        as_one = stack.enter_context(Remote("benchmarks.folds:stacked", size, device, threads=cores))
        each = [
            stack.enter_context(Remote("benchmarks.folds:separate", size, [fold], device, threads=threads))
            for fold, threads in enumerate(sharing.threads)
        ]
        pool = stack.enter_context(ThreadPoolExecutor(at_once))

        def side_by_side() -> None:
            for first in range(0, size.folds, at_once):
                list(pool.map(lambda remote: remote(), each[first : first + at_once]))

        seconds = interleaved({"plain": plain, "side by side": side_by_side, "stacked": as_one}, size.repeats)
    rates = {name: [size.folds * size.steps / value for value in values] for name, values in seconds.items()}
    each_has = "" if device == "cuda" else f", threads of each: {', '.join(map(str, sharing.threads))}"
    difference = disagreement(size, device)
    return [
        rate_row(f"training, {baseline}, {device}", rates["plain"], note="iterations of all folds together"),
        rate_row(
            f"training, {at_once} folds side by side in processes, {device}",
            rates["side by side"],
            baseline,
            rates["plain"],
            note=f"time to start the processes not included{each_has}",
        ),
        rate_row(f"training, folds as one stacked network, {device}", rates["stacked"], baseline, rates["plain"]),
        fact_row(
            "training, difference between stacked and separate networks",
            f"{difference:.1e}",
            "≤ 1e-9",
            difference <= 1e-9,
            f"of the losses, relative, in {COMPARED} steps in float64 without augmentation",
        ),
    ]


def separate(size: Size, folds: Sequence[int], device: str) -> Callable[[], float]:
    """Prepare the training of some folds, one after the other, with a network each."""
    recipe = _recipe()
    parts = [_alone(recipe, size, fold, device) for fold in folds]

    def run() -> float:
        loss = torch.zeros(())
        for step in parts:
            for _ in range(size.steps):
                loss = step()
        return float(loss)  # which waits for a GPU

    return run


def stacked(size: Size, device: str) -> Callable[[], float]:
    """Prepare the training of all folds as one network."""
    step = _together(_recipe(), size, device)

    def run() -> float:
        for _ in range(size.steps):
            losses = step()
        return float(losses.sum())

    return run


def disagreement(size: Size, device: str) -> float:
    """Largest relative difference between the losses of separate and of stacked networks, in double precision.

    In single precision, Adam makes whole steps of gradients that are nothing but rounding.
    """
    recipe = replace(_recipe(), pipeline=NoAugmentation())
    parts = [_alone(recipe, size, fold, device, torch.float64) for fold in range(size.folds)]
    together = _together(recipe, size, device, torch.float64)
    worst = 0.0
    for _ in range(COMPARED):
        expected, found = torch.stack([step() for step in parts]), together()
        worst = max(worst, float(((found - expected) / expected).abs().max()))
    return worst


def _recipe() -> Recipe:
    keep_heap()
    config = composed(
        "train", conf_folder(), TrainConfig, ["experiment=demo", "data.path=none", "device=cpu", "logger=none"]
    )
    return training_recipe(config, NORMALISATION)


def _patterns(size: Size, fold: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Counts ``(batch, rows, columns)`` and labels of a fold's one batch."""
    generator = torch.Generator().manual_seed(fold)
    counts = torch.poisson(torch.full((size.batch, *size.shape), 0.342), generator).to(torch.uint8)
    return counts.to(device), (torch.arange(size.batch) % 5 == 0).long().to(device)


def _alone(recipe: Recipe, size: Size, fold: int, device: str, number: torch.dtype = torch.float32) -> Step:
    torch.manual_seed(fold)
    network = recipe.network().to(device, number).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer, criterion = recipe.optimizer(network.parameters()), recipe.loss()
    counts, labels = _patterns(size, fold, device)
    mask, seeds = torch.ones(size.shape, dtype=torch.bool, device=device), count()

    def step() -> torch.Tensor:
        shown = recipe.normalisation(counts)[:, None]
        shown = recipe.pipeline(shown, mask, recipe.normalisation.zero, next(seeds)).to(number)
        loss = criterion(network(shown.contiguous(memory_format=torch.channels_last)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def _together(recipe: Recipe, size: Size, device: str, number: torch.dtype = torch.float32) -> Step:
    """A step of all folds at once; the losses of the folds."""
    networks = []
    for fold in range(size.folds):
        torch.manual_seed(fold)
        networks.append(recipe.network().to(device, number))
    weights, statistics = stack_module_state(networks)
    optimizer, criterion, shape_of_all = recipe.optimizer(weights.values()), recipe.loss(), networks[0]
    given = [_patterns(size, fold, device) for fold in range(size.folds)]
    counts, labels = torch.cat([counts for counts, _ in given]), torch.stack([labels for _, labels in given])
    mask, seeds = torch.ones(size.shape, dtype=torch.bool, device=device), count()

    def loss_of_one(
        weights: dict[str, torch.Tensor], statistics: dict[str, torch.Tensor], shown: torch.Tensor, labels: torch.Tensor
    ) -> torch.Tensor:
        return criterion(functional_call(shape_of_all, (weights, statistics), (shown,)), labels)

    def step() -> torch.Tensor:
        shown = recipe.normalisation(counts)[:, None]
        shown = recipe.pipeline(shown, mask, recipe.normalisation.zero, next(seeds)).to(number)
        losses = vmap(loss_of_one)(weights, statistics, shown.unflatten(0, (size.folds, size.batch)), labels)
        optimizer.zero_grad()
        losses.sum().backward()
        optimizer.step()
        return losses.detach()

    return step


if __name__ == "__main__":
    main(rows, "folds")
