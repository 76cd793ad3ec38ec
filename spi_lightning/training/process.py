"""What a process does that trains a fold beside others, or is one of several devices that share a fold."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from spi_lightning.config.launch import STOPPED_BY_SIGTERM
from spi_lightning.config.scope import sole_job
from spi_lightning.data.splits import Splits
from spi_lightning.data.training_set import TrainingSet
from spi_lightning.errors import SpiError
from spi_lightning.progress import Standing, progress_told_to
from spi_lightning.training.devices import joined
from spi_lightning.training.fold import train_fold
from spi_lightning.training.recipe import Recipe

PATIENCE = 10.0  # seconds that a process may take to end when it is told to


@dataclass(frozen=True)
class Work:
    """What all processes are given.

    Attributes:
        recipe: how; but for the threads.
        training_set: without its counts.
        counts: file that they are in.
        splits: of the run.
        folder: of the folds' folders.
        scratch: folder for files of this job alone.
        locked: whether the job has locked the fold's folder already, being the job of this fold.
    """

    recipe: Recipe
    training_set: TrainingSet
    counts: Path
    splits: Splits
    folder: Path
    scratch: Path
    locked: bool


class Place(NamedTuple):
    """Which process it is.

    Attributes:
        fold: that it trains.
        rank: among the devices that share the fold, from 0. The first one writes what is written, and tells how far
            it is.
        threads: of computation.
        output: file for what it would print.
        meeting: file by which devices that share the fold find each other.
    """

    fold: int
    rank: int
    threads: int
    output: Path
    meeting: Path


class Failure(NamedTuple):
    """What a process says before it gives up.

    Attributes:
        said: why.
        expected: whether that is a sentence for users.
        when: by the machine's clock since it was started, seconds.
    """

    said: str
    expected: bool
    when: float


def train_here(work: Work, place: Place, connection: Connection) -> None:
    """Train a fold, or this device's part of it, and tell of it: what a process is started for.

    Args:
        work: what there is to do.
        place: of this process.
        connection: to the first process, which is told :class:`Standing` s and perhaps a :class:`Failure`.
    """
    _print_into(place.output)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all processes; the first one ends the others
    if place.rank == 0:  # of the others nothing is to be left in order, and they may be deep in waiting for each other
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(STOPPED_BY_SIGTERM))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(place.threads)
    recipe = replace(work.recipe, trainer=replace(work.recipe.trainer, threads=place.threads))
    training_set = replace(work.training_set, counts=np.load(work.counts, mmap_mode="c"))
    folder, devices = work.folder / str(place.fold), recipe.trainer.devices
    alone = nullcontext() if work.locked or place.rank > 0 else sole_job(folder)
    together = nullcontext() if devices == 1 else joined(place.rank, devices, place.meeting, recipe.device)
    tell: Callable[[Standing], None] = connection.send if place.rank == 0 else _untold
    try:
        with alone, progress_told_to(tell), together:
            train_fold(recipe, training_set, work.splits, place.fold, folder)
    except SpiError as error:
        connection.send(Failure(str(error), True, time.monotonic()))
        sys.exit(1)
    except Exception as error:
        text = str(error).strip()
        said = f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__
        connection.send(Failure(said, False, time.monotonic()))
        raise


def _untold(_: Standing) -> None:
    pass


def _print_into(path: Path) -> None:
    """Send all that this process and its own children print into a file: warnings, log records, tracebacks."""
    with open(path, "wb") as file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    logging.basicConfig(level=logging.INFO, format="[%(asctime)s][%(levelname)s] %(message)s")


def _end_with_parent() -> None:
    """Leave in order when the first process has gone, however it went."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(PATIENCE)
    os._exit(STOPPED_BY_SIGTERM)
