"""Training all folds of a run: one after the other, or several at once, each in a process of its own."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path

import numpy as np
import torch

from spi_lightning.config.launch import STOPPED_BY_SIGTERM
from spi_lightning.config.scope import sole_job
from spi_lightning.data.splits import Splits
from spi_lightning.data.training_set import TrainingSet
from spi_lightning.errors import SpiError
from spi_lightning.progress import Standing, bars, progress_told_to
from spi_lightning.training.at_once import Sharing
from spi_lightning.training.fold import PREDICTIONS, train_fold
from spi_lightning.training.recipe import Recipe

log = logging.getLogger("spi_lightning")

PATIENCE = 10.0  # seconds that a process may take to end when it is told to


def train_folds(recipe: Recipe, training_set: TrainingSet, splits: Splits, folder: Path, sharing: Sharing) -> None:
    """Train every fold that is not finished yet.

    Weights do not depend on how many folds are trained at once, but for the rounding of other numbers of threads.

    Args:
        recipe: how; but for the threads.
        training_set: the labelled patterns.
        splits: which of them belong to which fold.
        folder: receives a folder for each fold (:func:`~spi_lightning.training.fold.train_fold`), which is locked as
            long as the fold is trained.
        sharing: of the machine. A single fold, or one at a time, is trained in this process.

    Raises:
        SpiError: a fold failed. Of several at once, the others have been trained before.
    """
    unfinished = [fold for fold in range(len(splits.folds)) if not (folder / str(fold) / PREDICTIONS).exists()]
    if min(sharing.processes, len(unfinished)) > 1:
        with _counts_in_a_file(folder, training_set.counts) as counts:
            share = _Share(recipe, replace(training_set, counts=training_set.counts[:0]), counts, splits, folder)
            _in_processes(share, unfinished, sharing)
        return
    for fold in unfinished:
        place = folder / str(fold)
        with sole_job(place):  # a job that trains one fold may be at work there
            train_fold(_with_threads(recipe, sharing.threads[fold]), training_set, splits, fold, place)


@dataclass(frozen=True)
class _Share:
    """What all processes are given.

    Attributes:
        recipe: how.
        training_set: without its counts.
        counts: file that they are in.
        splits: of the run.
        folder: of the folds' folders.
    """

    recipe: Recipe
    training_set: TrainingSet
    counts: Path
    splits: Splits
    folder: Path


@dataclass
class _Child:
    """A fold that is being trained.

    Attributes:
        fold: its number.
        process: that does it.
        threads: of the process.
        output: file for what it would print.
        failure: what it said before it gave up.
    """

    fold: int
    process: multiprocessing.process.BaseProcess
    threads: int
    output: Path
    failure: str | None = None


@contextmanager
def _counts_in_a_file(folder: Path, counts: np.ndarray) -> Iterator[Path]:
    """Counts in a file that all processes map, so that the machine holds them once; /dev/shm is often too small."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"counts.npy.partial-{os.getpid()}"  # which sole_job removes, should this process be killed
    try:
        try:
            with open(path, "wb") as file:
                np.save(file, counts)
        except OSError as error:
            raise SpiError(
                f"{path} cannot be written ({error.strerror}): folds that are trained at once need {counts.nbytes:.1e} "
                "bytes there for their patterns. Free some space, or set folds_at_once=1."
            ) from None
        yield path
    finally:
        path.unlink(missing_ok=True)


def _in_processes(share: _Share, folds: list[int], sharing: Sharing) -> None:
    """Train folds side by side until all have ended; raise what they failed of."""
    waiting, failures = deque(folds), dict[int, str]()
    running: dict[Connection, _Child] = {}
    with bars() as show:
        try:
            while waiting or running:
                while waiting and _has_room(sharing, running, waiting[0]):
                    _start(share, waiting.popleft(), sharing, running)
                for connection in wait(list(running)):
                    assert isinstance(connection, Connection)
                    child = running[connection]
                    try:
                        said = connection.recv()
                    except (EOFError, OSError):  # it has ended, perhaps in the middle of a sentence
                        failure = _ended(child)
                        del running[connection]
                        if failure is not None:
                            failures[child.fold] = failure
                        continue
                    if isinstance(said, Standing):
                        show(child.fold, said)
                    else:
                        child.failure = said
        finally:
            _end(list(running.values()))
    if failures:
        advice = "The same command goes on with what is left."
        if len(failures) < len(folds):
            advice = f"The other folds are trained. {advice}"
        raise SpiError("\n".join([*(failures[fold] for fold in sorted(failures)), advice]))


def _has_room(sharing: Sharing, running: dict[Connection, _Child], fold: int) -> bool:
    busy = sum(child.threads for child in running.values())
    return not running or (len(running) < sharing.processes and busy + sharing.threads[fold] <= sharing.cores)


def _start(share: _Share, fold: int, sharing: Sharing, running: dict[Connection, _Child]) -> None:
    context = multiprocessing.get_context("spawn")  # a fork would not have torch's threads
    ours, theirs = context.Pipe(duplex=False)
    threads, output = sharing.threads[fold], share.folder / f"{fold}.output.partial-{os.getpid()}"
    # Not a daemon, which could not have processes that augment.
    process = context.Process(target=_train, args=(share, fold, threads, output, theirs), name=f"fold {fold}")
    running[ours] = _Child(fold, process, threads, output)
    process.start()
    theirs.close()


def _ended(child: _Child) -> str | None:
    """What a fold failed of, or None. What its process would have printed goes into the log."""
    child.process.join()
    said = child.output.read_text(encoding="utf-8", errors="replace").strip() if child.output.exists() else ""
    child.output.unlink(missing_ok=True)
    if said:
        log.info("Fold %d said:\n%s", child.fold, said)
    code = child.process.exitcode
    if code == 0:
        return None
    name = f"Fold {child.fold}"
    if child.failure is not None:
        return child.failure if child.failure.startswith(name) else f"{name}: {child.failure}"
    if code == -signal.SIGKILL:
        return f"{name}: its process was killed, as happens where memory is short. Choose a smaller folds_at_once."
    if code is not None and code < 0:
        return f"{name}: its process was ended by signal {-code} ({signal.strsignal(-code)})."
    if code == STOPPED_BY_SIGTERM:
        return f"{name}: its process was told to stop."
    last = said.splitlines()[-1] if said else f"exit status {code}"
    return f"{name}: an unexpected error: {last}. The traceback is in log.txt of the run."


def _end(children: list[_Child]) -> None:
    """End processes in order, and those that do not obey, by force."""
    started = [child.process for child in children if child.process.pid is not None]
    for process in started:
        process.terminate()
    deadline = time.monotonic() + PATIENCE
    for process in started:
        process.join(max(0.0, deadline - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()
    for child in children:
        child.output.unlink(missing_ok=True)


def _train(share: _Share, fold: int, threads: int, output: Path, connection: Connection) -> None:
    """What a process does: train a fold, and tell of it."""
    _print_into(output)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all processes; the first one ends the others
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(STOPPED_BY_SIGTERM))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    training_set = replace(share.training_set, counts=np.load(share.counts, mmap_mode="c"))
    place = share.folder / str(fold)
    try:
        with sole_job(place), progress_told_to(connection.send):
            train_fold(_with_threads(share.recipe, threads), training_set, share.splits, fold, place)
    except SpiError as error:
        connection.send(str(error))
        sys.exit(1)


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


def _with_threads(recipe: Recipe, threads: int) -> Recipe:
    return replace(recipe, trainer=replace(recipe.trainer, threads=threads))
