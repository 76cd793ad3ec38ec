"""The tables of a sweep: two CSV files with all that is known, and what of it stands on the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from spi_lightning.report.layout import csv_text
from spi_lightning.report.sweep_groups import Estimate, Group, described, ranked
from spi_lightning.report.sweep_jobs import SECONDS, SEED, Sweep, SweptJob, differing

JOBS_CSV, GROUPS_CSV = "sweep.csv", "sweep_groups.csv"
TEST = tuple(f"test.labels.{quantity}" for quantity in ("average_precision", "f1", "precision", "recall", "auroc"))
COUNTS = ("predicted", "singles", "patterns")  # quantities that are whole numbers
SHORT = {
    "average_precision": "AP",
    "f1": "F1",
    "precision": "Precision",
    "recall": "Recall",
    "auroc": "AUROC",
}


@dataclass(frozen=True)
class Column:
    """A column of the page: its head, what that means in full, and whether it holds numbers."""

    head: str
    title: str = ""
    number: bool = False


@dataclass(frozen=True)
class Cell:
    """A cell of the page.

    Attributes:
        text: of it.
        beside: below the text, smaller.
        order: the number to sort by; empty for none, or where the text itself is to be sorted by.
        link: to another page; empty for none.
        state: of a job, to colour it; else empty.
    """

    text: str
    beside: str = ""
    order: str = ""
    link: str = ""
    state: str = ""


@dataclass(frozen=True)
class Table:
    """A table of the page."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]


def jobs_csv(sweep: Sweep) -> str:
    """One row a job: name, folder, state, settings that differ, all metrics, seconds, error."""
    keys = differing(sweep.jobs, sweep.swept)
    names = sorted_metrics(sweep.jobs)
    rows = [
        {
            **{key: job.setting(key) for key in keys},
            **{name: _counted(name, job.metrics.get(name)) for name in names},
            **{"name": job.name, "folder": job.folder, "state": job.state, "error": job.error},
        }
        for job in sweep.jobs
    ]
    return csv_text(list(dict.fromkeys(["name", "folder", "state", *keys, *names, "error"])), rows)


def groups_csv(groups: Sequence[Group]) -> str:
    """One row a group and metric: settings, seeds, mean, sample standard deviation, 95 % interval by Student's t."""
    keys = list(groups[0].settings) if groups else []
    names = sorted_metrics([job for group in groups for job in group.jobs])
    fields = ("seeds", "mean", "sd", "low", "high")
    rows = [
        {
            **group.settings,
            **{"jobs": len(group.jobs), "complete": group.complete, "metric": name},
            **{each: getattr(group.estimates[name], each) for each in fields},
        }
        for group in groups
        for name in names
        if name in group.estimates
    ]
    return csv_text(list(dict.fromkeys([*keys, "jobs", "complete", "metric", *fields])), rows)


def sorted_metrics(jobs: Sequence[SweptJob]) -> list[str]:
    """Metrics of any job, in the order in which the first job that has them all gives them; the time last."""
    fullest = sorted(jobs, key=lambda job: -len(job.metrics))
    names = dict.fromkeys(name for job in fullest for name in job.metrics if name != SECONDS)
    return [*names, SECONDS]


def shown_metrics(jobs: Sequence[SweptJob], metric: str) -> list[str]:
    """What stands on the page: the metric to rank by, those of the test set, one contrast, the time.

    The contrast is that of the first selection that has one in any job.
    """
    known = sorted_metrics(jobs)
    contrasts = [name for name in known if name.startswith("selection.") and name.endswith(".contrast")]
    chosen = dict.fromkeys([metric, metric.replace("cross_validation.", "test.", 1), *TEST, *contrasts[:1], SECONDS])
    present = {name for job in jobs for name in job.metrics}
    return [name for name in chosen if name in present]


def groups_table(sweep: Sweep, groups: Sequence[Group], metric: str) -> Table:
    """The groups, the best first."""
    keys = [key for key in sweep.swept if key != SEED]
    names = shown_metrics(sweep.jobs, metric)
    besides = any(group.besides for group in groups)
    columns = [Column(key) for key in keys] or [Column("Group")]
    columns += [Column("Besides", "settings that tell apart what was swept alike")] if besides else []
    columns += [Column("Jobs", "complete jobs, of all jobs of the group", True), *map(_head, names)]
    rows = []
    for group in ranked(groups, metric):
        row = [Cell(group.settings[key]) for key in keys] or [Cell(group.name)]
        row += [Cell(group.besides)] if besides else []
        row.append(Cell(f"{group.complete} of {len(group.jobs)}", order=str(group.complete)))
        row += [_estimated(name, group.estimates.get(name), group.complete) for name in names]
        rows.append(tuple(row))
    return Table(tuple(columns), tuple(rows))


def jobs_table(sweep: Sweep, metric: str) -> Table:
    """All jobs, each with a link to its own page where there is one."""
    names = shown_metrics(sweep.jobs, metric)
    columns = [Column("Job"), Column("State"), *(Column(key) for key in sweep.swept), *map(_head, names)]
    rows = []
    for number, job in enumerate(sweep.jobs, 1):
        row = [Cell(str(number) if job.swept else job.name, link=link_to(job), order=str(number))]
        row.append(Cell(job.state, state=job.state))
        row += [Cell(job.setting(key)) for key in sweep.swept]
        row += [_valued(name, job) for name in names]
        rows.append(tuple(row))
    return Table(tuple(columns), tuple(rows))


def settings_table(sweep: Sweep) -> Table | None:
    """Settings that differ besides those that were swept, a row each; None where there are none.

    Jobs whose swept values say the same of a setting are not told apart.
    """
    others = differing(sweep.jobs, sweep.swept)[len(sweep.swept) :]
    jobs = [job for job in sweep.jobs if job.settings]
    if not others:
        return None
    rows = []
    for key in others:
        values = list(dict.fromkeys(job.setting(key) for job in jobs))
        which = [
            [str(n) for n, job in enumerate(sweep.jobs, 1) if job.settings and job.setting(key) == v] for v in values
        ]
        rows += [
            (Cell(key), Cell(value or "not there"), Cell(", ".join(numbers)))
            for value, numbers in zip(values, which, strict=True)
        ]
    return Table((Column("Setting"), Column("Value"), Column("Jobs")), tuple(rows))


def link_to(job: SweptJob) -> str:
    """A job's own page, relative to that of the sweep."""
    return f"./{quote(job.folder)}/report.html" if job.page else ""


def number_of(name: str, value: float) -> str:
    """A metric as it is printed."""
    return duration(value) if name == SECONDS else f"{value:.0f}" if name.endswith(".patterns") else f"{value:.3f}"


def duration(seconds: float) -> str:
    """Seconds as a person reads them."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def interval_of(name: str, found: Estimate) -> str:
    """The 95 % interval as it is printed; empty where there is none."""
    return "" if found.low is None or found.high is None else _from_to(name, found.low, found.high)


def _counted(name: str, value: float | None) -> float | None:
    return value if value is None or name.rpartition(".")[2] not in COUNTS else int(value)


def _head(name: str) -> Column:
    if name == SECONDS:
        return Column("Time", "of a job", True)
    table, _, rest = name.partition(".")
    if table == "selection":
        return Column(f"γ, {rest.rpartition('.')[0]}", described(name), True)
    judge, _, quantity = rest.partition(".")
    where = "out of fold" if table == "cross_validation" else "test"
    by = "" if judge == "labels" else f", by {judge}"
    return Column(f"{SHORT.get(quantity, quantity)}, {where}{by}", described(name), True)


def _estimated(name: str, found: Estimate | None, complete: int) -> Cell:
    if found is None:
        return Cell("")
    fewer = f"{found.seeds} of {complete} jobs" if found.seeds < complete else ""
    interval = "" if name == SECONDS else interval_of(name, found)
    beside = "; ".join(part for part in (interval, fewer) if part)
    return Cell(number_of(name, found.mean), beside, repr(found.mean))


def _valued(name: str, job: SweptJob) -> Cell:
    if name not in job.metrics:
        return Cell("")
    value = job.metrics[name]
    low, high = (job.metrics.get(f"{name}_{end}") for end in ("low", "high"))  # of a contrast
    beside = "" if low is None or high is None else _from_to(name, low, high)
    return Cell(number_of(name, value), beside, repr(value))


def _from_to(name: str, low: float, high: float) -> str:
    return f"{number_of(name, low)}{'–' if low >= 0 else ' to '}{number_of(name, high)}"
