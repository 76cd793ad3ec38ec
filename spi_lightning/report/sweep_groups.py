"""Jobs of a sweep that differ by their seed alone, and which of these groups is the best, if one is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from spi_lightning.errors import SpiError, nearest
from spi_lightning.report.sweep_jobs import JUDGES, SECONDS, SEED, TABLES, SweptJob

METRIC = "cross_validation.labels.average_precision"  # as in conf/report.yaml
QUANTITIES = {
    "average_precision": "average precision",
    "f1": "F1 score",
    "precision": "precision",
    "recall": "recall",
    "auroc": "AUROC",
}
RANKING = tuple(f"{table}.{judge}.{quantity}" for table in TABLES for judge in JUDGES for quantity in QUANTITIES)


@dataclass(frozen=True)
class Estimate:
    """Mean of a metric over seeds.

    Attributes:
        seeds: how many there are.
        mean: over them.
        sd: sample standard deviation (n − 1); None with one seed.
        low: lower end of the 95 % interval of the mean by Student's t; None with one seed.
        high: upper end.
    """

    seeds: int
    mean: float
    sd: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Group:
    """Jobs that differ by their seed alone.

    Attributes:
        settings: that tell groups apart, and their values; the swept ones first.
        name: swept keys and values, in a line.
        besides: settings that tell it apart from others with the same swept values; mostly empty.
        jobs: of it.
        estimates: by metric.
    """

    settings: Mapping[str, str]
    name: str
    besides: str
    jobs: tuple[SweptJob, ...]
    estimates: Mapping[str, Estimate]

    @property
    def complete(self) -> int:
        """How many of its jobs are."""
        return sum(job.state == "complete" for job in self.jobs)


def estimate(values: Sequence[float]) -> Estimate:
    """Mean, and its 95 % interval by Student's t: mean ± t(0.975; n − 1) · sd/√n.

    Args:
        values: of single seeds, one at least.
    """
    from scipy.special import stdtrit

    count = len(values)
    mean = math.fsum(values) / count
    if count < 2:
        return Estimate(count, mean)
    sd = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    half = float(stdtrit(count - 1, 0.975)) * sd / math.sqrt(count)
    return Estimate(count, mean, sd, mean - half, mean + half)


def grouped(jobs: Sequence[SweptJob], columns: Sequence[str], swept: Sequence[str]) -> list[Group]:
    """Put jobs together that differ by their seed alone, in the order of the first ones.

    A job that is not complete, whose other settings are not known, goes where its swept values belong.

    Args:
        jobs: of a sweep.
        columns: keys in which jobs differ (:func:`~spi_lightning.report.sweep_jobs.differing`).
        swept: those of them that were swept.
    """
    telling = [key for key in columns if key != SEED]
    chosen = [key for key in swept if key != SEED]
    members: dict[tuple[str, ...], list[SweptJob]] = {}
    for job in [job for job in jobs if job.settings]:
        members.setdefault(tuple(job.setting(key) for key in telling), []).append(job)
    for job in [job for job in jobs if not job.settings]:
        values = tuple(job.setting(key) for key in chosen)
        place = next((key for key in members if key[: len(chosen)] == values), None)
        blank = values + ("",) * (len(telling) - len(chosen))
        members.setdefault(blank if place is None else place, []).append(job)
    names = [key[: len(chosen)] for key in members]
    groups = []
    for key, mates in members.items():
        settings = dict(zip(telling, key, strict=True))
        twins = [other for other in members if other[: len(chosen)] == key[: len(chosen)]]
        unlike = [
            name
            for index, name in enumerate(telling)
            if names.count(key[: len(chosen)]) > 1 and len({other[index] for other in twins}) > 1
        ]
        name = in_a_line({key: settings[key] for key in chosen}) or "all seeds"
        besides = in_a_line({key: settings[key] for key in unlike})
        done = [mate.metrics for mate in mates if mate.state == "complete"]  # the time of others says nothing
        found = dict.fromkeys(metric for each in done for metric in each)
        estimates = {
            metric: estimate([each[metric] for each in done if metric in each])
            for metric in found
            if not metric.endswith((".contrast_low", ".contrast_high"))
        }
        groups.append(Group(settings, name, besides, tuple(mates), estimates))
    return sorted(groups, key=lambda group: _first(group, jobs))


def check_metric(metric: str) -> None:
    """Refuse what groups cannot be ranked by.

    Raises:
        SpiError: it is neither a metric of a table nor the contrast of a selection.
    """
    contrast = metric.startswith("selection.") and metric.endswith(".contrast")
    if metric not in RANKING and not contrast:
        raise SpiError(
            f"metric: {metric!r} is none to rank by.{nearest(metric, RANKING)} Valid: TABLE.JUDGE.QUANTITY, of "
            f"{', '.join(TABLES)}; {', '.join(JUDGES)}; {', '.join(QUANTITIES)}; or selection.NAME.contrast."
        )


def in_a_line(settings: Mapping[str, str]) -> str:
    """Settings as on a command line."""
    return " ".join(f"{key}={value}" for key, value in settings.items())


def ranked(groups: Sequence[Group], metric: str) -> list[Group]:
    """Groups by the mean of a metric, the largest first; those without it last, in their order."""
    return sorted(groups, key=lambda group: -group.estimates[metric].mean if metric in group.estimates else math.inf)


def verdict(groups: Sequence[Group], metric: str) -> str:
    """Which group is the best, in a sentence or two; none is where its interval overlaps with another's.

    Args:
        groups: in any order.
        metric: to go by; the larger the better.
    """
    known = [group for group in ranked(groups, metric) if metric in group.estimates]
    if not known:
        return f"No job that is complete has the {described(metric)}, so nothing is ranked."
    first, *others = known
    if not others:
        return "There is no second group to compare it with."
    if any(group.estimates[metric].low is None for group in known):
        return (
            "No winner is claimed: a group of one seed has no interval, and what another seed would change is not "
            "known. Add seeds, as in seed=1,2,3."
        )
    low = first.estimates[metric].low or 0.0
    rivals = [group for group in others if (group.estimates[metric].high or 0.0) >= low]
    if rivals:
        count = "that of one other group" if len(rivals) == 1 else f"those of {len(rivals)} other groups"
        return f"No winner is claimed: its 95 % interval over seeds overlaps with {count}."
    return "It is the best: its 95 % interval over seeds overlaps with that of no other group."


def described(metric: str) -> str:
    """A metric as a person says it."""
    if metric == SECONDS:
        return "time of a job (s)"
    table, _, rest = metric.partition(".")
    if table == "selection":
        name, _, quantity = rest.rpartition(".")
        return f"{'contrast γ' if quantity == 'contrast' else quantity} of the selection {name}"
    judge, _, quantity = rest.partition(".")
    words = f"{QUANTITIES.get(quantity, quantity)}, {TABLES[table]}"
    return words if judge == JUDGES[0] else f"{words}, by the {judge}"


def _first(group: Group, jobs: Sequence[SweptJob]) -> int:
    return min(index for index, job in enumerate(jobs) if any(job is mate for mate in group.jobs))
