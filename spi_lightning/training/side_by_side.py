"""Training folds in processes: several folds at once, and several devices that share a fold."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path

import numpy as np

from spi_lightning.config.launch import STOPPED_BY_SIGTERM
from spi_lightning.config.scope import sole_job
from spi_lightning.cores import available_cores
from spi_lightning.data.splits import Splits
from spi_lightning.data.training_set import TrainingSet
from spi_lightning.errors import SpiError
from spi_lightning.progress import Standing, bars
from spi_lightning.training.at_once import Sharing
from spi_lightning.training.fold import PREDICTIONS, train_fold
from spi_lightning.training.process import PATIENCE, Failure, Place, Work, train_here
from spi_lightning.training.recipe import Recipe

log = logging.getLogger("spi_lightning")

OWN = "partial"  # files of this process alone, which sole_job removes, should it be killed


def train_folds(
    recipe: Recipe,
    training_set: TrainingSet,
    splits: Splits,
    folder: Path,
    sharing: Sharing,
    after_fold: Callable[[], None] = lambda: None,
) -> None:
    """Train every fold that is not finished yet.

    Weights do not depend on how many folds are trained at once, but for the rounding of other numbers of threads.

    Args:
        recipe: how; but for the threads.
        training_set: the labelled patterns.
        splits: which of them belong to which fold.
        folder: receives a folder for each fold (:func:`~spi_lightning.training.fold.train_fold`), which is locked as
            long as the fold is trained.
        sharing: of the machine. A single fold, or one at a time, is trained in this process, if on one device.
        after_fold: is called after each fold that has been trained; what it raises ends the others.

    Raises:
        SpiError: a fold failed. Of several at once, the others have been trained before.
    """
    unfinished = [fold for fold in range(len(splits.folds)) if not (folder / str(fold) / PREDICTIONS).exists()]
    if unfinished and (sharing.devices > 1 or min(sharing.processes, len(unfinished)) > 1):
        _in_processes(recipe, training_set, splits, unfinished, folder, sharing, after_fold, locked=False)
        return
    for fold in unfinished:
        place = folder / str(fold)
        with sole_job(place):  # a job that trains one fold may be at work there
            settings = replace(recipe, trainer=replace(recipe.trainer, threads=sharing.threads[fold]))
            train_fold(settings, training_set, splits, fold, place)
        after_fold()


def train_one(recipe: Recipe, training_set: TrainingSet, splits: Splits, fold: int, folder: Path) -> None:
    """Train a fold alone: in this process, or on several devices in as many.

    Args:
        recipe: how.
        training_set: the labelled patterns.
        splits: which of them belong to which fold.
        fold: its number.
        folder: its own, named by the number, which this job has locked.

    Raises:
        SpiError: it failed.
    """
    devices = recipe.trainer.devices
    if devices == 1:
        train_fold(recipe, training_set, splits, fold, folder)
    elif not (folder / PREDICTIONS).exists():
        cores = available_cores()
        threads = recipe.trainer.threads or max(1, cores // devices)
        sharing = Sharing(1, (threads,) * len(splits.folds), cores, devices)
        _in_processes(recipe, training_set, splits, [fold], folder.parent, sharing, lambda: None, locked=True)


@dataclass
class _Child:
    """A process that trains a fold, alone or with others.

    Attributes:
        place: which one it is.
        process: itself.
        failure: what it said before it gave up.
        ended: whether it was told to end.
    """

    place: Place
    process: multiprocessing.process.BaseProcess
    failure: Failure | None = None
    ended: bool = False


_Running = dict[Connection, _Child]


@contextmanager
def _counts_in_a_file(folder: Path, counts: np.ndarray) -> Iterator[Path]:
    """Counts in a file that all processes map, so that the machine holds them once; /dev/shm is often too small."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"counts.npy.{OWN}-{os.getpid()}"
    try:
        try:
            with open(path, "wb") as file:
                np.save(file, counts)
        except OSError as error:
            raise SpiError(
                f"{path} cannot be written ({error.strerror}): folds that are trained in processes of their own need "
                f"{counts.nbytes:.1e} bytes there for their patterns. Free some space, or set folds_at_once=1 "
                "trainer.devices=1."
            ) from None
        yield path
    finally:
        path.unlink(missing_ok=True)


def _in_processes(
    recipe: Recipe,
    training_set: TrainingSet,
    splits: Splits,
    folds: list[int],
    folder: Path,
    sharing: Sharing,
    after_fold: Callable[[], None],
    *,
    locked: bool,
) -> None:
    """Train folds in processes until all have ended; raise what they failed of."""
    scratch = folder / str(folds[0]) if locked else folder
    waiting, failures, running = deque(folds), dict[int, str](), _Running()
    with _counts_in_a_file(scratch, training_set.counts) as counts, bars() as show:
        without_counts = replace(training_set, counts=training_set.counts[:0])
        work = Work(recipe, without_counts, counts, splits, folder, scratch, locked)
        try:
            while waiting or running:
                while waiting and _has_room(sharing, running, waiting[0]):
                    _start(work, waiting.popleft(), sharing, running)
                for connection in wait(list(running)):
                    assert isinstance(connection, Connection)
                    if connection not in running:  # of a fold that another of its processes has just ended
                        continue
                    child = running[connection]
                    try:
                        said = connection.recv()
                    except (EOFError, OSError):  # it has ended, perhaps in the middle of a sentence
                        failure = _ended(connection, running)
                        if failure is not None:
                            failures[child.place.fold] = failure
                        elif child.place.fold not in (other.place.fold for other in running.values()):
                            after_fold()
                        continue
                    if isinstance(said, Standing):
                        show(child.place.fold, said)
                    else:
                        child.failure = said
        finally:
            _end(list(running.values()))
            for leftover in scratch.glob(f"*.{OWN}-{os.getpid()}"):
                leftover.unlink(missing_ok=True)
    if failures:
        advice = "The same command goes on with what is left."
        if len(failures) < len(folds):
            advice = f"The other folds are trained. {advice}"
        raise SpiError("\n".join([*(failures[fold] for fold in sorted(failures)), advice]))


def _has_room(sharing: Sharing, running: _Running, fold: int) -> bool:
    folds = {child.place.fold for child in running.values()}
    busy = sum(sharing.threads[other] * sharing.devices for other in folds)
    wanted = sharing.threads[fold] * sharing.devices
    return not running or (len(folds) < sharing.processes and busy + wanted <= sharing.cores)


def _start(work: Work, fold: int, sharing: Sharing, running: _Running) -> None:
    """Start all processes of a fold."""
    context = multiprocessing.get_context("spawn")  # a fork would not have torch's threads
    own = f"{OWN}-{os.getpid()}"
    for rank in range(sharing.devices):
        output, meeting = work.scratch / f"{fold}.{rank}.output.{own}", work.scratch / f"{fold}.meeting.{own}"
        place = Place(fold, rank, sharing.threads[fold], output, meeting)
        ours, theirs = context.Pipe(duplex=False)
        # Not a daemon, which could not have processes that augment.
        process = context.Process(target=train_here, args=(work, place, theirs), name=f"fold {fold}, {rank}")
        running[ours] = _Child(place, process)
        process.start()
        theirs.close()


def _ended(connection: Connection, running: _Running) -> str | None:
    """What the fold of a process that has ended failed of, or None.

    Where it failed, those that share the fold with it cannot go on, and are ended.
    """
    child = running.pop(connection)
    child.process.join()
    if child.process.exitcode == 0:
        _log(child)
        return None
    others = {its: other for its, other in running.items() if other.place.fold == child.place.fold}
    for its, other in others.items():
        del running[its]
        other.ended = other.process.is_alive()
    _end(list(others.values()))
    for its, other in others.items():
        _hear(its, other)
    # The others fail in their turn when one is gone. What one says for users is the cause; then what has been killed.
    family = [child, *others.values()]
    said = [_log(member) for member in family]
    devices = len(family) if len(family) > 1 else None
    return min(_cause(member, words, devices) for member, words in zip(family, said, strict=True))[2]


def _hear(connection: Connection, child: _Child) -> None:
    """Take what a process that has ended said last."""
    try:
        while connection.poll():
            if isinstance(said := connection.recv(), Failure):
                child.failure = said
    except (EOFError, OSError):
        pass


def _log(child: _Child) -> str:
    """What a process would have printed, which goes into the log."""
    output, fold, rank = child.place.output, child.place.fold, child.place.rank
    said = output.read_text(encoding="utf-8", errors="replace").strip() if output.exists() else ""
    output.unlink(missing_ok=True)
    if said:
        log.info("Fold %d%s said:\n%s", fold, f", device {rank}," if rank else "", said)
    return said


def _cause(child: _Child, said: str, devices: int | None) -> tuple[int, float, str]:
    """How far what a process failed of is from being the cause (0 is nearest), when it was told, and in words."""
    code, name = child.process.exitcode, f"Fold {child.place.fold}"
    process = "its process" if devices is None else f"one of its {devices} processes"
    failure, never = child.failure, float("inf")
    if failure is not None:
        if failure.expected:
            return 0, failure.when, failure.said if failure.said.startswith(name) else f"{name}: {failure.said}"
        return 3, failure.when, _unexpected(name, failure.said)
    if code is not None and code < 0 and not child.ended:
        if code == -signal.SIGKILL:
            fewer = "folds_at_once" if devices is None else "folds_at_once or trainer.devices"
            remedy = f"Choose a smaller {fewer}."
            return 1, never, f"{name}: {process} was killed, as happens where memory is short. {remedy}"
        return 2, never, f"{name}: {process} was ended by signal {-code} ({signal.strsignal(-code)})."
    if code == STOPPED_BY_SIGTERM or child.ended:
        return 4 if child.ended else 2, never, f"{name}: {process} was told to stop."
    return 3, never, _unexpected(name, said.splitlines()[-1] if said else f"exit status {code}")


def _unexpected(name: str, error: str) -> str:
    return f"{name}: an unexpected error: {error.rstrip('.')}. The traceback is in log.txt of the run."


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
