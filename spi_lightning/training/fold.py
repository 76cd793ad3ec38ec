"""Training one fold of the cross-validation, and its out-of-fold predictions."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from torch import distributed, nn

from spi_lightning.cores import available_cores
from spi_lightning.data.datamodule import SpiDataModule
from spi_lightning.data.seeds import hashed_seed
from spi_lightning.data.splits import Splits
from spi_lightning.data.training_set import TrainingSet
from spi_lightning.errors import SpiError
from spi_lightning.inference.engine import view_probabilities
from spi_lightning.inference.folding import folded
from spi_lightning.inference.scores import Origin, score_file
from spi_lightning.memory import keep_heap
from spi_lightning.progress import progress
from spi_lightning.tracking.session import Runs, tracked
from spi_lightning.training.callbacks import EpochSeed, FoldProgress, History
from spi_lightning.training.compilation import check_compiler
from spi_lightning.training.curves import Curves
from spi_lightning.training.devices import OwnSignals, lightning_devices
from spi_lightning.training.flags import fill_new_memory, flags_restored
from spi_lightning.training.module import MONITORED, SingleHitModule
from spi_lightning.training.quiet import lightning_quiet
from spi_lightning.training.recipe import Recipe
from spi_lightning.training.settings import TrainerSettings
from spi_lightning.training.whole_checkpoints import WholeCheckpoints

PREDICTIONS = "predictions.h5"  # written last: where it is, the fold is finished


def train_fold(recipe: Recipe, training_set: TrainingSet, splits: Splits, fold: int, folder: Path) -> None:
    """Train a fold to its end, from its last checkpoint where there is one, and predict what it has not seen.

    Where several devices share it (``recipe.trainer.devices``), each has a process that calls this, and the first one
    writes and predicts.

    Args:
        recipe: how.
        training_set: the labelled patterns.
        splits: which of them belong to which fold.
        fold: the one that is not trained on, from 0.
        folder: receives ``best.ckpt``, ``last.ckpt``, ``history.csv`` and, once the fold is finished, the out-of-fold
            probabilities ``predictions.h5``. A finished fold is left alone.

    Raises:
        SpiError: the loss is not finite any more; or a checkpoint there cannot be used.
    """
    if (folder / PREDICTIONS).exists():
        return
    with flags_restored():
        if recipe.device == "cpu":
            torch.set_num_threads(recipe.trainer.threads or available_cores())
        rank = distributed.get_rank() if distributed.is_initialized() else 0
        with tracked({} if rank else recipe.loggers, folder.parents[1], fold) as runs:
            first = _fit(recipe, training_set, splits, fold, folder, runs)
        gc.collect()  # Lightning's objects refer to each other, and would keep the loader's processes
        if not first:
            return
        network = recipe.network()
        load_weights(network, folder / f"{recipe.checkpoint}.ckpt")
        unseen = splits.validation_of(fold)
        counts = training_set.tensor(training_set.rows(unseen))
        scores = _predict(recipe, network, counts, f"Fold {fold}: predicting")
    origin = Origin(f"fold {fold}, {recipe.checkpoint}.ckpt", splits.fingerprint, None, recipe.mirrors)
    with score_file(folder / PREDICTIONS, splits.ids[unseen], 1, origin, splits.labels[unseen]) as write:
        write(0, scores[:, None])


def check_device(settings: TrainerSettings, device: str) -> None:
    """Raise :class:`SpiError` where a device (cpu, cuda, cuda:N) cannot train as the settings ask for."""
    if device == "cpu" and settings.precision == "16-mixed":
        raise SpiError(
            "trainer.precision is 16-mixed, which needs a GPU. On the CPU take 32-true; or bf16-mixed, which is faster "
            "where the CPU itself computes with bfloat16, and much slower elsewhere."
        )
    if settings.compile:
        check_compiler(device)


def load_weights(network: nn.Module, checkpoint: Path) -> None:
    """Give a network the weights of a checkpoint, of which nothing but tensors and plain values is read.

    Raises:
        SpiError: no such checkpoint, a damaged one, or one of another network.
    """
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
        own = {name.removeprefix("network."): value for name, value in state.items() if name.startswith("network.")}
        network.load_state_dict(own)
    except UnpicklingError:  # torch would advise to read it all the same, which may run what is in it
        raise SpiError(
            f"{checkpoint}: holds more than tensors and plain values, or is damaged. Remove the fold's folder to train "
            "it anew."
        ) from None
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, EOFError) as error:
        raise SpiError(
            f"{checkpoint}: cannot be used as a checkpoint of this network ({str(error).splitlines()[0]}). Remove the "
            "fold's folder to train it anew."
        ) from None


def _fit(recipe: Recipe, training_set: TrainingSet, splits: Splits, fold: int, folder: Path, runs: Runs) -> bool:
    """Train; whether this is the fold's first device, or its only one."""
    last = folder / "last.ckpt"
    curves = [Curves(runs, recipe.trainer.log_every)] if len(runs) else []
    fit = set_up(recipe, training_set, splits, fold, folder, curves)
    network = fit.module.network
    if last.exists():
        load_weights(network, last)  # tells in a sentence what Lightning would tell in a traceback
    run(fit, last if last.exists() else None)
    if not all(bool(value.isfinite().all()) for value in network.state_dict().values()):
        raise SpiError(
            f"Fold {fold}: the weights are not finite any more. Lower optimizer.lr, or set trainer.gradient_clip."
        )
    fit.trainer.save_checkpoint(last)  # the end, also where trainer.validate_every does not divide the epochs
    return fit.trainer.is_global_zero


class Fit(NamedTuple):
    """The parts of Lightning that train a fold."""

    trainer: pl.Trainer
    module: SingleHitModule
    data: SpiDataModule


def set_up(
    recipe: Recipe,
    training_set: TrainingSet,
    splits: Splits,
    fold: int,
    folder: Path,
    callbacks: Sequence[Callback] = (),
) -> Fit:
    """Prepare the training of a fold; the arguments are those of :func:`train_fold`, and callbacks besides."""
    keep_heap()
    fill_new_memory(False)  # nothing reads what deterministic algorithms would put there, and it takes time
    torch.manual_seed(hashed_seed(recipe.seed, fold))
    module = SingleHitModule(
        recipe.network(),
        recipe.loss(),
        recipe.optimizer,
        recipe.schedule,
        recipe.trainer.epochs,
        recipe.normalisation,
        recipe.device if recipe.trainer.compile else None,
    )
    data = SpiDataModule(
        training_set,
        splits,
        fold,
        recipe.sampler,
        recipe.pipeline,
        recipe.normalisation,
        seed=recipe.seed,
        workers=recipe.workers if recipe.pipeline.in_workers else 0,
    )
    with lightning_quiet():
        return Fit(_trainer(recipe, fold, folder, callbacks), module, data)


def run(fit: Fit, checkpoint: Path | None = None) -> None:
    """Train, from a checkpoint where one is given."""
    with lightning_quiet():
        fit.trainer.fit(fit.module, fit.data, ckpt_path=None if checkpoint is None else str(checkpoint))


def _trainer(recipe: Recipe, fold: int, folder: Path, more: Sequence[Callback]) -> pl.Trainer:
    settings = recipe.trainer
    every: dict[str, Any] = {"every_n_epochs": settings.validate_every, "enable_version_counter": False}
    callbacks: list[Callback] = [
        ModelCheckpoint(folder, "best", monitor=MONITORED, mode="max", **every),
        # Not save_last of the above, which is the last of the best.
        ModelCheckpoint(folder, "last", monitor=None, save_on_train_epoch_end=True, **every),
        EpochSeed(recipe.seed, fold),
        FoldProgress(f"Fold {fold}"),
        History(folder / "history.csv"),
        *more,
    ]
    if settings.devices > 1:
        callbacks.append(OwnSignals())
    return pl.Trainer(
        **lightning_devices(recipe.device, settings.devices, WholeCheckpoints()),
        default_root_dir=folder,
        max_epochs=settings.epochs,
        precision=settings.precision,
        gradient_clip_val=settings.gradient_clip,
        check_val_every_n_epoch=settings.validate_every,
        num_sanity_val_steps=0,
        deterministic="warn",  # a GPU has no deterministic form of some operations; a CPU's all are
        benchmark=False,
        use_distributed_sampler=False,  # the data module's samplers know their rank
        callbacks=callbacks,
        logger=False,  # Curves tells them
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def _predict(recipe: Recipe, network: nn.Module, counts: torch.Tensor, description: str) -> np.ndarray:
    """Probabilities ``(n,)`` float32 of counts ``(n, rows, columns)``."""
    fast = folded(network.to(recipe.device))
    with progress(description, len(counts)) as advance:
        return view_probabilities(fast, counts, recipe.normalisation, recipe.mirrors, advance).cpu().numpy()
