"""The page of a sweep, and its two tables: ``report.html``, ``sweep.csv`` and ``sweep_groups.csv``."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from markupsafe import Markup

from spi_lightning.errors import SpiError
from spi_lightning.provenance import write_text
from spi_lightning.report.sweep_groups import METRIC, Group, described, grouped, ranked, verdict
from spi_lightning.report.sweep_jobs import SECONDS, SEED, Sweep, SweptJob, differing, read_sweep
from spi_lightning.report.sweep_tables import (
    GROUPS_CSV,
    JOBS_CSV,
    duration,
    groups_csv,
    groups_table,
    interval_of,
    jobs_csv,
    jobs_table,
    link_to,
    number_of,
    settings_table,
    shown_metrics,
)
from spi_lightning.report.template import KeyFigure, Picture, picture, rendered, resource

PLOTTED = ("test.labels.average_precision", "test.labels.f1", SECONDS)
STATES = ("failed", "stopped", "killed", "missing", "running", "pruned")
WELL = ("complete", "pruned")  # a search gives up trials on purpose
LONG = 24  # characters; a longer text is broken into lines
DENSE = 8  # columns; a table with more is set smaller


@dataclass(frozen=True)
class Shown:
    """What the page says in words.

    Attributes:
        swept: keys and their values.
        ranking: how groups are ranked, and whether one is the best.
        unfinished: jobs that are not complete, with their numbers and links.
        about: where the sweep comes from.
    """

    swept: dict[str, str]
    ranking: list[str]
    unfinished: list[tuple[str, SweptJob, str]] = field(default_factory=list)
    about: dict[str, str] = field(default_factory=dict)


def write_sweep(folder: Path, metric: str = METRIC) -> Path:
    """Write ``report.html``, ``sweep.csv``, ``sweep_groups.csv`` and ``figures/sweep_*.png`` into a sweep's folder.

    The page holds all that it shows, and needs no network; its only script sorts tables. What a job has not left is a
    gap in it. Everything that is read is escaped.

    Args:
        folder: with ``sweep.json``, and the jobs' folders inside.
        metric: to rank groups by, as in ``conf/report.yaml``.

    Returns:
        Where the page is.

    Raises:
        SpiError: ``sweep.json`` cannot be read, or the folder cannot be written to.
    """
    sweep = read_sweep(folder)
    groups = grouped(sweep.jobs, differing(sweep.jobs, sweep.swept), sweep.swept)
    tables = [(JOBS_CSV, jobs_csv(sweep)), (GROUPS_CSV, groups_csv(groups))]
    script = resource("sweep.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    path = folder.resolve()
    try:
        figures = _figures(folder, sweep, groups, metric)
        html = rendered(
            "sweep.html",
            ["page.css", "sweep.css"],
            kind="Sweep",
            name=f"{path.parent.name}/{path.name}".strip("/"),
            failure="",
            key=[_key([*sweep.jobs, *sweep.folds], groups, metric)],
            notes=_notes(sweep),
            shown=_shown(sweep, groups, metric),
            groups=groups_table(sweep, groups, metric),
            jobs=jobs_table(sweep, metric),
            settings=settings_table(sweep),
            figures=figures,
            dense=DENSE,
            long=LONG,
            script=Markup(script),
            digest=digest,
        )
        for name, text in [*tables, ("report.html", html)]:
            write_text(folder / name, text)
    except OSError as error:
        raise SpiError(
            f"run: the report of the sweep cannot be written into {folder} ({error.strerror}). Make place there, or "
            "see to it that you may write to it."
        ) from None
    return folder / "report.html"


def _shown(sweep: Sweep, groups: Sequence[Group], metric: str) -> Shown:
    unfinished = [(str(number), job, link_to(job)) for number, job in enumerate(sweep.jobs, 1) if job.state not in WELL]
    unfinished += [("", job, link_to(job)) for job in sweep.folds if job.state not in WELL]
    shown = Shown(_swept(sweep), _ranking(groups, metric), unfinished)
    if sweep.command:
        shown.about["Command"] = sweep.command
    for name, moment in (("Started", sweep.started), ("Ended", sweep.ended)):
        if moment:
            shown.about[name] = moment
    for name, key in (("Commit", "commit"), ("Data fingerprint", "data"), ("Labels fingerprint", "labels")):
        if found := _distinct(sweep, key):
            shown.about[name] = ", ".join(found)
    return shown


def _key(jobs: Sequence[SweptJob], groups: Sequence[Group], metric: str) -> list[KeyFigure]:
    complete = sum(job.state == "complete" for job in jobs)
    others = [f"{count} {state}" for state in STATES if (count := sum(job.state == state for job in jobs))]
    found = [KeyFigure("Jobs complete", f"{complete} of {len(jobs)}", ", ".join(others))]
    first = next((group for group in ranked(groups, metric) if metric in group.estimates), None)
    if first is not None:
        for each in dict.fromkeys([metric, metric.replace("cross_validation.", "test.", 1)]):
            if each in first.estimates:
                estimate = first.estimates[each]
                words = described(each)
                beside = f"{interval_of(each, estimate) or 'one seed, no interval'} · highest group"
                found.append(KeyFigure(f"{words[0].upper()}{words[1:]}", number_of(each, estimate.mean), beside))
    if seconds := [job.metrics[SECONDS] for job in jobs if SECONDS in job.metrics]:
        found.append(KeyFigure("Time of all jobs", duration(sum(seconds)), f"{duration(max(seconds))} the longest"))
    return found


def _swept(sweep: Sweep) -> dict[str, str]:
    jobs = [*sweep.jobs, *sweep.folds]
    return {key: ", ".join(dict.fromkeys(filter(None, (job.setting(key) for job in jobs)))) for key in sweep.swept}


def _ranking(groups: Sequence[Group], metric: str) -> list[str]:
    first = next((group for group in ranked(groups, metric) if metric in group.estimates), None)
    sentences = []
    if first is not None:
        name = " ".join(part for part in (first.name, first.besides) if part)
        sentences.append(f"Highest {described(metric)}: {name}.")
    sentences.append(verdict(groups, metric))
    if metric.startswith("test."):
        sentences.append("Groups are ranked by the test set, as was asked: what is chosen so is worse on new patterns.")
    elif first is not None:
        sentences.append(
            "Groups are ranked without the test set, because a choice by it would make its figures too good; these "
            "stand beside."
        )
    return sentences


def _notes(sweep: Sweep) -> list[str]:
    notes = []
    keys = differing(sweep.jobs, sweep.swept)
    if any(key.startswith("split.") and _varies(sweep, key) for key in keys):
        notes.append(
            "The split differs between jobs, so that their cross-validations, and maybe their test sets, are over "
            "other patterns with another share of single hits. Average precision, precision and F1 depend on it."
        )
    for key, what in (("data", "patterns"), ("labels", "labels")):
        if len(_distinct(sweep, key)) > 1:
            notes.append(f"Not all jobs had the same {what}: their figures cannot be compared as they stand.")
    if len(_distinct(sweep, "commit")) > 1:
        notes.append("Not all jobs were run by the same version of the program.")
    if not sweep.ended:
        notes.append("This sweep had not ended when this page was written.")
    return notes


def _varies(sweep: Sweep, key: str) -> bool:
    return len({job.setting(key) for job in sweep.jobs if job.settings}) > 1


def _distinct(sweep: Sweep, key: str) -> list[str]:
    return list(dict.fromkeys(job.origin[key] for job in sweep.jobs if key in job.origin))


def _figures(folder: Path, sweep: Sweep, groups: Sequence[Group], metric: str) -> dict[str, list[Picture]]:
    """Pictures by swept key; they are left in ``figures``, too."""
    from spi_lightning.report.figures import save
    from spi_lightning.report.sweep_figures import against, file_name

    contrasts = [name for name in shown_metrics(sweep.jobs, metric) if name.endswith(".contrast")]
    wanted = dict.fromkeys([metric, *PLOTTED[:2], *contrasts, *PLOTTED[2:]])
    found: dict[str, list[Picture]] = {}
    for key in [key for key in sweep.swept if key != SEED] or sweep.swept:
        for name in wanted:
            figure = against(groups, key, name)
            if figure is None:
                continue
            place = folder / "figures" / f"{file_name(key, name)}.png"
            place.parent.mkdir(exist_ok=True)
            save(figure, place)
            words = described(name)
            found.setdefault(key, []).append(picture(place, f"{words[0].upper()}{words[1:]}, against {key}", ""))
    return found
