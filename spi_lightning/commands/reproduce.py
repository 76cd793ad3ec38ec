"""spi-reproduce: train again from what the folder of a training holds, and compare what comes out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spi_lightning.config.launch import Rerun, launch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from spi_lightning.commands.recorded import Recorded
    from spi_lightning.config.reproduce_schema import Moved, ReproduceConfig
    from spi_lightning.config.scope import Job
    from spi_lightning.config.train_schema import TrainConfig
    from spi_lightning.report.circumstances import Circumstance
    from spi_lightning.report.comparison import Compared, Tolerance

# What of spi-reproduce says where a file of the config is now.
MOVED = {
    "data.path": "data.path",
    "data.detector": "data.detector",
    "data.prepare.mask_file": "data.mask_file",
    "data.prepare.labels.path": "data.labels",
    "truth.path": "data.truth",
}


def main() -> None:
    """Entry point of the console script."""
    launch("reproduce", _schema, reproduce, Rerun(repeatable=True))


def _schema() -> type[ReproduceConfig]:
    from spi_lightning.config.reproduce_schema import ReproduceConfig

    return ReproduceConfig


def reproduce(config: ReproduceConfig, job: Job) -> None:
    """Train the run ``config.run`` again in ``INTO/training``, and compare it with what stands in ``config.run``.

    Raises:
        SpiError: the data are others than then; or, where ``config.strict``, anything else is; or the results do not
            agree; or as spi-train.
    """
    import contextlib
    import dataclasses

    import torch

    from spi_lightning.commands.recipe import write_recipe
    from spi_lightning.commands.recorded import read_recorded, started_in
    from spi_lightning.config.reproduce_schema import TRAINING
    from spi_lightning.errors import SpiError
    from spi_lightning.report.circumstances import DATA, DIFFERS, SAME
    from spi_lightning.report.comparison import Verdict, agreement
    from spi_lightning.report.reproduction import (
        NAME,
        conclusion,
        show_circumstances,
        show_reproduction,
        write_reproduction,
    )
    from spi_lightning.training.flags import flags_restored

    folder = Path(os.path.abspath(str(config.run)))
    job.folder = Path(os.path.abspath(job.folder))  # relative paths of the run count from where that was started
    recorded = read_recorded(folder)
    if config.recipe is not None:
        named = dataclasses.replace(recorded, config=_moved(recorded.config, config.data, str))
        for file in write_recipe(named, Path(config.recipe)):
            print(file)
        return
    notes = list(recorded.missing)
    values = _moved(recorded.config, config.data, lambda path: os.path.abspath(os.path.expanduser(path)))
    values |= {"fold": None, "logger": {}}  # nothing is told to a server once more
    training = job.folder / TRAINING
    with contextlib.chdir(started_in(recorded)), flags_restored():
        if (threads := recorded.fact("threads")) is not None:
            torch.set_num_threads(threads)
        trained = _as_far_as_here(values, recorded, config, notes)
        _refuse_missing(values, config)
        beside, now = _beside(recorded, trained)
        show_circumstances(beside)
        for note in notes:
            print(note)
        other = [each.name for each in beside if each.verdict != SAME]
        job.record({"reproduces": str(folder), "not as it was": other})
        if wrong := [each for each in beside if each.name in DATA and each.verdict == DIFFERS]:
            raise SpiError(
                f"data.path: {trained.data.path} is not what {config.run} was trained on: the fingerprint of its "
                f"{wrong[0].name} was {wrong[0].then}…, and is {wrong[0].now}…. Give the files of then with "
                "data.path=FILES, and data.labels, data.mask_file or data.truth=FILE where there were such."
            )
        if other and config.strict:
            raise SpiError(
                f"strict=true, and not as it was, or not recorded: {', '.join(other)}. Restore it (see provenance.json "
                f"of {config.run}), or set strict=false."
            )
        _refuse_stale(training, now)
        _train_again(trained, training, recorded.threads_of_folds())
    exact = config.agreement == "identical" or (config.agreement == "auto" and not other and now["device"] == "cpu")
    found, left_out = _compared(recorded, training, None if exact else config.tolerance)
    tables = job.folder / "tables"
    tables.mkdir(exist_ok=True)
    write_reproduction(tables, found, beside, [*notes, *left_out], exact)
    counts = agreement(found)
    job.record({"values": len(found), **{str(verdict): counts[verdict] for verdict in Verdict}})
    for note in left_out:
        print(note)
    show_reproduction(found, exact)
    print(tables / f"{NAME}.md")
    if not all(value.verdict.agrees for value in found):
        raise SpiError(f"{conclusion(found, exact)} {tables / NAME}.md says where.")


def _moved(recorded: dict[str, Any], data: Moved, written: Callable[[str], str]) -> dict[str, Any]:
    """The config of then with files where they are now, each as ``written``."""
    import copy

    values, paths = copy.deepcopy(recorded), data.path
    if paths is not None:
        values["data"]["path"] = written(paths) if isinstance(paths, str) else [written(path) for path in paths]
    if data.detector is not None:
        values["data"]["detector"] = written(data.detector)
    if data.mask_file is not None:
        values["data"]["prepare"]["mask_file"] = written(data.mask_file)
    if data.labels is not None:
        values["data"]["prepare"]["labels"]["path"] = written(data.labels)
    if data.truth is not None:
        values["truth"]["path"] = written(data.truth)
    return values


def _as_far_as_here(
    values: dict[str, Any], recorded: Recorded, config: ReproduceConfig, notes: list[str]
) -> TrainConfig:
    """The checked config on a device that is here; what had to be changed for that is noted."""
    from spi_lightning.config.check import checked
    from spi_lightning.config.train_schema import TrainConfig
    from spi_lightning.data.device import choose_device
    from spi_lightning.errors import SpiError

    then = str(recorded.fact("device") or values["device"])
    try:
        values["device"] = choose_device(config.device or then)
    except SpiError:
        if config.device is not None:
            raise
        values["device"] = choose_device("auto")
        notes.append(
            f"The device of then, {then}, is not here: {values['device']} computes, and rounds, in another way."
        )
    if values["device"] == "cpu" and values["trainer"]["precision"] == "16-mixed":
        values["trainer"] = {**values["trainer"], "precision": "32-true"}
        notes.append("trainer.precision is 32-true for 16-mixed, which a CPU does not have.")
    return checked(TrainConfig, values)


def _refuse_missing(values: dict[str, Any], config: ReproduceConfig) -> None:
    """Tell of a file that is not there before anything is read."""
    from spi_lightning.commands.recorded import files_of, is_there
    from spi_lightning.errors import SpiError

    for key, path in files_of(values):
        if not is_there(path, Path.cwd()):
            remedy = f"Give its place with {MOVED[key]}=FILE" if key in MOVED else "Put it there"
            raise SpiError(f"{key}: {path}, which {config.run} was trained with, is not in {Path.cwd()}. {remedy}.")


def _beside(recorded: Recorded, trained: TrainConfig) -> tuple[list[Circumstance], dict[str, Any]]:
    """Circumstances of then and now; and the facts of now."""
    import torch

    from spi_lightning.commands.parts import open_patterns
    from spi_lightning.data.device import computes_with
    from spi_lightning.data.splits import labels_fingerprint
    from spi_lightning.data.truth import read_truth
    from spi_lightning.provenance import provenance
    from spi_lightning.report.circumstances import circumstances

    run = open_patterns(trained)
    truth = read_truth(run, trained.truth)
    threads = recorded.threads_of_folds()
    now = provenance() | {
        "data": run.fingerprint(),
        "labels": None if run.labels is None else labels_fingerprint(run.labels),
        "truth": None if truth is None else labels_fingerprint(truth),
        "device": trained.device,
        "computes with": computes_with(trained.device),
        "threads": torch.get_num_threads(),
        "threads of each fold": None if threads is None else list(threads),
    }
    return circumstances(recorded.jobs, now, _same_code(recorded.jobs, recorded.uncommitted, now)), now


def _same_code(jobs: Sequence[Mapping[str, Any]], uncommitted: str | None, now: Mapping[str, Any]) -> bool | None:
    """Whether all jobs of then ran the code of now."""
    from spi_lightning.provenance import changed_since, uncommitted_changes
    from spi_lightning.report.circumstances import code_is_same

    here = now["commit"], uncommitted_changes()
    commits = {facts["commit"] for facts in jobs if facts.get("commit")}
    if not commits:
        return None
    answers = [code_is_same((commit, uncommitted), here, changed_since(commit)) for commit in commits]
    return None if None in answers else all(answers)


def _refuse_stale(training: Path, now: Mapping[str, Any]) -> None:
    """A training that was begun in this place goes on, or is compared, only if this very program made it."""
    from spi_lightning.errors import SpiError
    from spi_lightning.records import mapping_of
    from spi_lightning.report.circumstances import DIFFERS, circumstances

    facts, difference = mapping_of(training / "provenance.json"), training / "uncommitted.diff"
    if not facts:
        return
    changes = difference.read_text(encoding="utf-8", errors="replace") if difference.is_file() else None
    found = circumstances([facts], now, _same_code([facts], changes, now))
    programs = {"code", *now["versions"]}
    if other := [each.name for each in found if each.verdict == DIFFERS and each.name in programs]:
        raise SpiError(
            f"into: {training.parent} holds a reproduction by another program ({', '.join(other)}). Give another "
            "into=FOLDER, or remove it."
        )


def _train_again(trained: TrainConfig, training: Path, threads: tuple[int, ...] | None) -> None:
    """Train, or go on where an earlier reproduction was killed."""
    import dataclasses

    from omegaconf import OmegaConf

    from spi_lightning.commands.train import MAY_CHANGE, train, whole
    from spi_lightning.config.earlier import earlier_state
    from spi_lightning.config.scope import job_scope, sole_job
    from spi_lightning.errors import SpiError

    values = dataclasses.asdict(trained) | {"run": str(training)}
    config_yaml = OmegaConf.to_yaml(OmegaConf.create(values))
    with sole_job(training):
        try:
            state = earlier_state(training, config_yaml, MAY_CHANGE)
        except SpiError as error:
            raise SpiError(
                f"into: {training.parent} holds the reproduction of another run, or with other files. Give another "
                f"into=FOLDER, or remove it. ({error})"
            ) from None
        if state == "complete" and whole(trained, training):
            print(f"{training} is complete; it is compared.")
            return
        with job_scope(training, config_yaml) as inner:
            train(trained, inner, threads)


def _compared(recorded: Recorded, training: Path, tolerance: Tolerance | None) -> tuple[list[Compared], list[str]]:
    """Every value of the run beside that of the training; and what was left out, in sentences."""
    from spi_lightning.inference.scores import read_scores
    from spi_lightning.records import mapping_of, rows_of
    from spi_lightning.report.comparison import TABLES, Compared, compare_scores, compare_tables, compare_values

    folder, found, left_out = recorded.folder, [], []
    for path in sorted((folder / "tables").glob("*.csv"), key=lambda path: [*TABLES, path.stem].index(path.stem)):
        if path.stem in TABLES:
            found += compare_tables(path.stem, rows_of(path), rows_of(training / "tables" / path.name), tolerance)
        else:
            left_out.append(f"tables/{path.name} is not compared: spi-train does not make it.")
    files = [folder / "scores.h5", *sorted(folder.glob("folds/*/predictions.h5"))]
    for path in [path for path in files if path.is_file()]:
        name = str(path.relative_to(folder))
        found += compare_scores(name, read_scores(path), read_scores(training / name), tolerance)
    if files[0].is_file():
        return found, left_out
    # Otherwise the scores say which threshold it was.
    then, now = recorded.fact("threshold"), mapping_of(training / "provenance.json").get("threshold")
    if then is not None:
        values = str(then), str(now)
        found.append(
            Compared("provenance.json", "threshold", "threshold", *values, *compare_values(*values, tolerance))
        )
    return found, left_out
