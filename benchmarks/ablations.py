"""What each part of the method is worth: the demo without it, over several seeds.

    python -m benchmarks.ablations data=outputs/demo/simulation/patterns.cxi work=outputs/ablations

trains every variant with every seed by spi-train (what is finished is not trained again), all on the same split, and
stores ``benchmarks/results/ablations.csv`` with the test set's values as mean ± sample standard deviation over the
seeds. "No ensemble" and "no mirroring" are the first variant's own networks, used otherwise.
"""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from benchmarks.record import store
from spi_lightning.analysis.classification import auroc, average_precision, confusion, f1, precision, recall
from spi_lightning.commands.parts import open_patterns, read_train_config
from spi_lightning.data.split_file import read_splits
from spi_lightning.inference.ensemble_file import load_ensemble
from spi_lightning.inference.predict import score_run
from spi_lightning.inference.scores import read_scores
from spi_lightning.inference.thresholds import ThresholdSettings, choose_threshold
from spi_lightning.progress import progress
from spi_lightning.training.gathering import out_of_fold

SEEDS = (1, 2, 3)
VARIANTS = {
    "MaxF1": (),
    "moreSH": ("sampler.single_share=0.5", "loss=weighted_cross_entropy", "paper=moreSH"),
    "no oversampling": ("sampler.single_share=null",),
    "no augmentation": ("augmentation=none",),
}
COUNTED = {"F1": f1, "precision": precision, "recall": recall}
CUTS = ("", " at 0.5")  # the threshold chosen on the out-of-fold scores, and the paper's
QUANTITIES = ("average precision", "AUROC", *(name + cut for cut in CUTS for name in COUNTED))

Values = dict[str, float | None]  # None: 0/0


def main(data: str, work: str) -> None:
    """Train what is missing, and tabulate."""
    results: dict[str, list[Values]] = {}
    for seed in SEEDS:
        for variant, overrides in VARIANTS.items():
            run = Path(work) / f"{variant.replace(' ', '_')}_{seed}"
            subprocess.run(
                ["spi-train", "experiment=demo", f"data.path={data}", f"seed={seed}", f"run={run}", *overrides],
                check=True,
            )
            for name, values in _values(run, variant):
                results.setdefault(name, []).append(values)
    rows = []
    for name, found in results.items():
        line = {"variant": name, "seeds": len(found)}
        for quantity in QUANTITIES:
            values = [value for one in found if (value := one[quantity]) is not None]
            line[quantity] = _mean_and_sd(values) + ("" if len(values) == len(found) else f" (in {len(values)})")
        rows.append(line)
    store("ablations", rows, {"values": results, "data": data})


def _mean_and_sd(values: list[float]) -> str:
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else "undefined"


def _values(run: Path, variant: str) -> Iterator[tuple[str, Values]]:
    """The test set's values of a variant; of the first one, also with its networks used otherwise."""
    config = read_train_config(run)
    patterns = open_patterns(config)
    splits = read_splits(run / "splits.json", patterns)
    test, labels = read_scores(run / "scores.h5"), splits.labels[splits.test]
    unseen = out_of_fold(run, splits)
    pooled = np.concatenate([fold.probabilities for fold in unseen])
    pooled_labels = splits.labels[np.concatenate(splits.folds)]
    threshold = choose_threshold(pooled, pooled_labels, ThresholdSettings("max_f1", None))
    yield variant, _judged(test.probabilities, labels, threshold)
    if variant != next(iter(VARIANTS)):
        return
    singly = [_judged(test.models[:, k], labels, threshold) for k in range(test.models.shape[1])]
    yield "no ensemble", {name: _mean([one[name] for one in singly]) for name in QUANTITIES}
    yield "no mirroring", _judged(_unmirrored(run, patterns, splits.test), labels, threshold)


def _mean(values: list[float | None]) -> float | None:
    """Of one network alone, on average; None where that is 0/0 for any."""
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if len(defined) == len(values) else None


def _unmirrored(run: Path, patterns: object, test: np.ndarray) -> np.ndarray:
    import dataclasses

    ensemble = dataclasses.replace(load_ensemble(run / "ensemble"), mirrors=("none",))
    with progress("Without mirroring", len(test)) as advance:
        blocks = [models for _, models in score_run(ensemble, patterns, test, advance=advance)]
    return np.concatenate(blocks).mean(1)


def _judged(scores: np.ndarray, labels: np.ndarray, threshold: float) -> Values:
    ours, given = torch.from_numpy(np.ascontiguousarray(scores)), torch.from_numpy(labels)
    values: Values = {"average precision": average_precision(ours, given), "AUROC": auroc(ours, given)}
    for cut, value in zip(CUTS, (threshold, 0.5), strict=True):
        counts = confusion(ours, given, value)
        found = {name + cut: float(quantity(counts)) for name, quantity in COUNTED.items()}
        values |= {name: None if math.isnan(value) else value for name, value in found.items()}
    return values


if __name__ == "__main__":
    main(**dict(argument.split("=", 1) for argument in sys.argv[1:]))
