"""How fast batches are augmented, beside batchgenerators with cubic splines, each on one thread.

python -m benchmarks.augmentation [--quick]
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from itertools import count
from typing import Any, Literal, get_args

import torch
from omegaconf import OmegaConf

from benchmarks.paper_faithful import BATCH, NORMALISATION, ORDER, normalised_patterns
from benchmarks.record import Row, interleaved, main, rate_row
from benchmarks.remote import Remote
from spi_lightning.augmentation.batched import BatchedPipeline
from spi_lightning.augmentation.pipeline import Pipeline
from spi_lightning.augmentation.settings import Transform, Transforms
from spi_lightning.augmentation.with_batchgenerators import BatchgeneratorsPipeline
from spi_lightning.config.check import checked
from spi_lightning.config.launch import conf_folder
from spi_lightning.memory import keep_heap

Probabilities = Literal["all nine on", "usual probabilities"]
TARGETS: dict[Probabilities, float] = {"all nine on": 6.0, "usual probabilities": 4.0}
NAMES = {"batched": "batched", "batchgenerators": f"batchgenerators, order {ORDER}"}
SHAPE = (192, 96)


def rows(quick: bool) -> list[Row]:
    """Both pipelines with both sets of probabilities, patterns a second."""
    batch, batches, repeats = (4, 1, 1) if quick else (BATCH, 2, 15)
    found = []
    for which, target in TARGETS.items():
        settings = (which, batch, batches)
        with (
            Remote("benchmarks.augmentation:work", "batched", *settings, threads=1) as ours,
            Remote("benchmarks.augmentation:work", "batchgenerators", *settings, threads=1) as theirs,
        ):
            seconds = interleaved({"ours": ours, "theirs": theirs}, repeats)
        rates = {name: [batch * batches / s for s in values] for name, values in seconds.items()}
        what = f"augmentation, {which}, 192 x 96, one thread"
        found.append(rate_row(f"{what}: batchgenerators", rates["theirs"]))
        found.append(rate_row(f"{what}: batched", rates["ours"], NAMES["batchgenerators"], rates["theirs"], target))
    return found


def work(pipeline: str, which: Probabilities, batch: int, batches: int) -> Callable[[], None]:
    """Prepare the augmentation of some batches, each with a seed of its own.

    Args:
        pipeline: batched, in a process that keeps its heap, as a training does; or batchgenerators, as in a data
            loader's worker.
        which: probabilities.
        batch: patterns.
        batches: of a call.
    """
    transforms = configured()
    if which == "all nine on":
        transforms = all_on(transforms)
    augment: Pipeline
    if pipeline == "batched":
        keep_heap()
        augment = BatchedPipeline(transforms)
    else:
        augment = BatchgeneratorsPipeline(transforms, ORDER)
    patterns = torch.from_numpy(normalised_patterns(batch, SHAPE))[:, None]
    mask, seeds = torch.ones(SHAPE, dtype=torch.bool), count()

    def run() -> None:
        for _ in range(batches):
            augment(patterns, mask, NORMALISATION.zero, next(seeds))

    return run


def configured() -> Transforms:
    """Those of ``conf/augmentation/base.yaml``."""
    path = conf_folder() / "augmentation" / "base.yaml"
    values: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    return checked(Transforms, values["transforms"], str(path))


def all_on(transforms: Transforms) -> Transforms:
    """The same, each transform applied to every pattern."""
    always = {}
    for name in get_args(Transform):
        one = getattr(transforms, name)
        chances = [part.name for part in fields(one) if part.name.endswith("probability")]
        always[name] = replace(one, **dict.fromkeys(chances, 1.0))
    return Transforms(**always)


if __name__ == "__main__":
    main(rows, "augmentation")
