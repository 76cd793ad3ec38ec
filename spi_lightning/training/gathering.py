"""From trained folds to an ensemble."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from spi_lightning.data.splits import Splits
from spi_lightning.errors import SpiError
from spi_lightning.inference.engine import logits_of
from spi_lightning.inference.ensemble import Ensemble
from spi_lightning.inference.first_looks import FirstLooks, candidates
from spi_lightning.inference.folding import folded
from spi_lightning.inference.predict import score_run
from spi_lightning.inference.scores import Scores, read_scores
from spi_lightning.patterns.frames import Frames
from spi_lightning.progress import progress
from spi_lightning.training.fold import PREDICTIONS, load_weights


def out_of_fold(folder: Path, splits: Splits) -> list[Scores]:
    """What each fold's network said of the patterns that it was not trained on, and which are labelled.

    Args:
        folder: of the run.
        splits: its division.

    Raises:
        SpiError: folds are not finished; or their predictions are of other patterns.
    """
    paths = [folder / "folds" / str(fold) / PREDICTIONS for fold in range(len(splits.folds))]
    if missing := [fold for fold, path in enumerate(paths) if not path.exists()]:
        names = ",".join(map(str, missing))
        raise SpiError(
            f"{folder}: fold {names} of {len(paths)} is not finished. Start spi-train again with the settings of this "
            f"run and run={folder} (and fold=NUMBER for one alone)."
        )
    found = [_readable(path) for path in paths]
    for path, scores, indices in zip(paths, found, splits.folds, strict=True):
        if not np.array_equal(scores.ids, splits.ids[indices]) or scores.origin.data != splits.fingerprint:
            raise SpiError(
                f"{path} does not hold the patterns that splits.json has for this fold: the folder was put together "
                "from several runs. Remove the fold's folder and train it again."
            )
    return found


def _readable(path: Path) -> Scores:
    try:
        return read_scores(path)
    except SpiError as error:
        raise SpiError(
            f"{error} Or remove {path.parent} and start spi-train again, which trains that fold anew."
        ) from None


def trained_networks(
    folder: Path, folds: int, checkpoint: str, build: Callable[[], nn.Module]
) -> tuple[nn.Module, ...]:
    """The networks of all folds.

    Args:
        folder: of the run.
        folds: their number.
        checkpoint: last or best.
        build: makes a network whose weights are then replaced.

    Raises:
        SpiError: a checkpoint is missing, or of another network.
    """
    networks = []
    for fold in range(folds):
        networks.append(build())
        load_weights(networks[-1], folder / "folds" / str(fold) / f"{checkpoint}.ckpt")
    return tuple(networks)


def first_looks(ensemble: Ensemble, run: Frames, splits: Splits, unseen: list[Scores]) -> FirstLooks:
    """What a first look says of those training patterns that might be selected: by the network that had not seen them.

    Args:
        ensemble: the networks of all folds, in their order.
        run: the labelled patterns.
        splits: of the training.
        unseen: see :func:`out_of_fold`.
    """
    pooled = np.concatenate([fold.probabilities for fold in unseen])
    places, floor = candidates(pooled, splits.labels[np.concatenate(splits.folds)], ensemble.threshold)
    owners = np.repeat(np.arange(len(unseen)), [len(fold.probabilities) for fold in unseen])[places]
    indices = np.concatenate(splits.folds)[places]
    first = np.empty(len(indices), np.float32)
    full = np.empty(len(indices), np.float32)
    with progress("Learning what a first look shows", len(indices)) as advance:
        for fold, network in enumerate(ensemble.networks):
            mine = owners == fold
            if mine.any():
                counts = torch.from_numpy(run.read(indices[mine]))
                looks = logits_of(folded(network), counts, ensemble.normalisation, ensemble.mirrors[0]).cpu().numpy()
                first[mine] = looks[:, 1] - looks[:, 0]
        for start, models in score_run(ensemble, run, indices, advance=advance):
            full[start : start + len(models)] = models.mean(axis=1, dtype=np.float64)
    full = np.maximum(full, pooled[places])
    return FirstLooks(tuple(first.tolist()), tuple(full.tolist()), tuple(owners.tolist()), floor)
