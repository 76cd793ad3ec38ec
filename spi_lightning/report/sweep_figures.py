"""Pictures of a sweep: a metric against the values of a swept setting."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator
from matplotlib.transforms import ScaledTranslation

from spi_lightning.records import finite_number
from spi_lightning.report.figures import plain
from spi_lightning.report.sweep_groups import Group, described, estimate, in_a_line
from spi_lightning.report.sweep_jobs import SECONDS, SEED

COLOURS = ("#1f4e9c", "#d1662a", "#3b8a4d", "#8b4aa0", "#7a6a2f", "#b0304c")
MARKERS = "osD^vP"  # so that colour is not all that tells lines apart
APART = 5.0  # points between marks of different lines at the same value
LONGEST = 28  # characters of a name at an axis
ROOM = 44  # characters of all names at an axis

Kind = Literal["linear", "log", "category"]


@dataclass(frozen=True)
class Scale:
    """Where swept values stand on an axis.

    Attributes:
        kind: of the axis.
        places: by value as written.
    """

    kind: Kind
    places: Mapping[str, float]


def scale_of(values: Sequence[str]) -> Scale:
    """Numbers on an axis of numbers, logarithmic where they span more than a decade; all else as categories.

    Args:
        values: as written, in the order of the sweep.
    """
    distinct = list(dict.fromkeys(values))
    numbers = [finite_number(value) for value in distinct]
    if not numbers or any(number is None for number in numbers):
        return Scale("category", {value: float(index) for index, value in enumerate(distinct)})
    places = {value: number for value, number in zip(distinct, numbers, strict=True) if number is not None}
    least, most = min(places.values()), max(places.values())
    return Scale("log" if least > 0 and most > 10 * least else "linear", places)


def lines_of(groups: Sequence[Group], key: str, metric: str) -> dict[str, dict[str, list[float]]]:
    """Values of single seeds: by the other swept settings, then by that of ``key``.

    Args:
        groups: in the order of the sweep.
        key: a swept one.
        metric: what to draw; groups without it are left out.
    """
    found: dict[str, dict[str, list[float]]] = {}
    for group in groups:
        others = {name: value for name, value in group.settings.items() if name in _swept(group) - {key}}
        name = " ".join(part for part in (in_a_line(others), group.besides) if part)
        for job in group.jobs:
            if job.state == "complete" and metric in job.metrics and (value := job.setting(key)):
                found.setdefault(name, {}).setdefault(value, []).append(job.metrics[metric])
    return found


def against(groups: Sequence[Group], key: str, metric: str) -> Figure | None:
    """A metric against a swept setting; None where fewer than two of its values have that metric.

    Args:
        groups: in the order of the sweep.
        key: of the swept setting.
        metric: what to draw.

    Returns:
        Small rings are single seeds; larger marks with bars are their means with the 95 % intervals. Each of the other
        settings' combinations has its colour; where there are more than six, all are alike and without a line.
    """
    lines = lines_of(groups, key, metric)
    in_order = dict.fromkeys(job.setting(key) for group in groups for job in group.jobs)
    drawn = {value for line in lines.values() for value in line}
    if len(drawn) < 2:
        return None
    scale = scale_of([value for value in in_order if value in drawn])
    figure = Figure(figsize=(5.6, 3.7), layout="constrained")
    axis = figure.subplots()
    factor = 1 / 60 if metric == SECONDS else 1.0
    told = len(lines) <= len(COLOURS)
    for index, (name, line) in enumerate(lines.items()):
        shift = (index - (len(lines) - 1) / 2) * APART if told else 0.0
        look = {
            "transform": axis.transData + ScaledTranslation(shift / 72, 0, figure.dpi_scale_trans),
            "color": COLOURS[index if told else 0],
            "marker": MARKERS[index if told else 0],
            "linestyle": "-" if told and scale.kind != "category" else "none",
            "label": plain(name) if told and name else None,
        }
        values = {value: [factor * each for each in line[value]] for value in scale.places if value in line}
        _draw(axis, scale, values, look)
    _label(axis, scale, key)
    axis.set_ylabel("time of a job (min)" if metric == SECONDS else plain(described(metric)))
    axis.grid(alpha=0.3)
    if told and len(lines) > 1:
        columns = 1 if max(map(len, lines)) > 30 else 2
        figure.legend(loc="outside lower center", fontsize=7.5, ncols=columns, frameon=False)
    return figure


def file_name(key: str, metric: str) -> str:
    """Name of the file of a figure, without suffix."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", f"sweep_{key}_{metric}")[:120]


def _swept(group: Group) -> set[str]:
    return {key for job in group.jobs for key in job.swept} - {SEED}


def _draw(axis: Axes, scale: Scale, line: Mapping[str, Sequence[float]], look: dict[str, Any]) -> None:
    """One line: rings for single seeds, and their means with intervals."""
    in_order = sorted(line, key=lambda value: scale.places[value])
    places = [scale.places[value] for value in in_order]
    found = [estimate(line[value]) for value in in_order]
    rings: dict[str, Any] = {
        "linestyle": "none",
        "marker": "o",
        "markersize": 3.5,
        "markerfacecolor": "none",
        "alpha": 0.8,
    }
    for place, value, each in zip(places, in_order, found, strict=True):
        if each.seeds > 1:
            axis.plot([place] * each.seeds, line[value], color=look["color"], transform=look["transform"], **rings)
    half = [0.0 if each.high is None else each.high - each.mean for each in found]
    means = [each.mean for each in found]
    axis.errorbar(places, means, yerr=half, markersize=6, linewidth=1.2, elinewidth=1.1, capsize=3, **look)
    # What is moved aside does not count for the limits by itself.
    ends = [[m - h for m, h in zip(means, half, strict=True)], [m + h for m, h in zip(means, half, strict=True)]]
    points = [(place, y) for end in ends for place, y in zip(places, end, strict=True)]
    points += [(place, y) for place, value in zip(places, in_order, strict=True) for y in line[value]]
    axis.update_datalim(points, updatex=False)
    axis.autoscale_view(scalex=False)


def _label(axis: Axes, scale: Scale, key: str) -> None:
    """Ticks at the swept values themselves, unless they are many."""
    places, names = list(scale.places.values()), [_short(value) for value in scale.places]
    axis.set_xlabel(plain(key))
    if scale.kind == "log":
        axis.set_xscale("log")
    wide = sum(map(len, names)) > ROOM
    if scale.kind == "category" or (len(places) <= 8 and not wide):
        turned = scale.kind == "category" and wide
        axis.set_xticks(places, labels=[plain(name) for name in names])
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_minor_formatter(NullFormatter())
        if turned:
            axis.tick_params(axis="x", labelrotation=40, labelsize=8)
            for label in axis.get_xticklabels():
                label.set(ha="right", rotation_mode="anchor")
    least, most = min(places), max(places)
    if scale.kind == "category":
        axis.set_xlim(least - 0.5, most + 0.5)
    elif scale.kind == "log":
        axis.set_xlim(least * (least / most) ** 0.08, most * (most / least) ** 0.08)
    else:
        axis.set_xlim(least - 0.08 * (most - least), most + 0.08 * (most - least))


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
