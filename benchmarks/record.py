"""Interleaved timings, rows of the table, and the table itself, kept with machine, versions and commit."""

from __future__ import annotations

import argparse
import csv
import io
import os
import re
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import torch
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from spi_lightning.cores import available_cores
from spi_lightning.errors import SpiError
from spi_lightning.provenance import provenance, write_json, write_text

RESULTS = Path(__file__).parent / "results"
BUSY = 0.5  # load a core from which on other programs take so much of the machine that ratios are doubtful
UNFOLDED = 200  # characters of a line where the output is no terminal

Cells = Mapping[str, Any]  # one line of any table


class Row(TypedDict):
    """One line of the table of speeds; what does not apply is empty.

    ``reached`` is yes, no, or empty where there is no target; a target that is missed stays, with its ``note``.
    """

    what: str
    value: str
    spread: str
    baseline: str
    ratio: str
    target: str
    reached: str
    note: str


def interleaved(variants: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each variant, taken in turns, so that a machine that slows down slows all alike."""
    for run in variants.values():
        run()  # warm up
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(repeats):
        for name, run in variants.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def rate_row(
    what: str,
    per_second: list[float],
    baseline: str = "",
    baseline_per_second: list[float] | None = None,
    target: float | None = None,
    note: str = "",
) -> Row:
    """How many of something a second: the median, from the slowest to the fastest, and the ratio of medians.

    Args:
        what: is counted.
        per_second: rates of the repeats.
        baseline: its name, as a user would know it.
        baseline_per_second: its rates, from the same interleaved run.
        target: the ratio that is wanted at least.
        note: for the reader.
    """
    median = statistics.median(per_second)
    ratio = None if baseline_per_second is None else median / statistics.median(baseline_per_second)
    if target is not None and ratio is None:
        raise ValueError(f"{what}: a target is a ratio, which needs the rates of the baseline.")
    return Row(
        what=what,
        value=f"{_number(median)} /s",
        spread=f"{_number(min(per_second))} to {_number(max(per_second))}",
        baseline=baseline,
        ratio="" if ratio is None else f"{ratio:.2f}",
        target="" if target is None else f"≥ {target:g}",
        reached="" if target is None or ratio is None else _yes(ratio >= target),
        note=note,
    )


def share_row(what: str, shares: list[float], at_most: float | None = None, note: str = "") -> Row:
    """A share, from 0 to 1, of something: its median, from the smallest to the largest, wanted to be ``at_most``."""
    median = statistics.median(shares)
    return Row(
        what=what,
        value=_percent(median),
        spread=f"{_percent(min(shares))} to {_percent(max(shares))}",
        baseline="",
        ratio="",
        target="" if at_most is None else f"≤ {_percent(at_most)}",
        reached="" if at_most is None else _yes(median <= at_most),
        note=note,
    )


def fact_row(what: str, value: str, target: str = "", reached: bool | None = None, note: str = "") -> Row:
    """Any other figure, such as memory or agreement, in words."""
    found = "" if reached is None else _yes(reached)
    return Row(what=what, value=value, spread="", baseline="", ratio="", target=target, reached=found, note=note)


def store(name: str, rows: Sequence[Cells], facts: Mapping[str, object], folder: Path = RESULTS) -> None:
    """Print a table, and write it to ``NAME.csv``, ``NAME.md`` and, with where it comes from, ``NAME.json``.

    Args:
        name: of the files.
        rows: all with the same keys, one at least.
        facts: plain values to keep beside it.
        folder: made where there is none.
    """
    show(rows)
    folder.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    origin = {**provenance(), "hardware": hardware()}
    del origin["folder"]  # nobody else has it
    write_text(folder / f"{name}.csv", text.getvalue())
    write_json(folder / f"{name}.json", {**origin, **facts})
    write_text(folder / f"{name}.md", f"{described(origin)}\n\n{markdown(rows)}")


def show(rows: Sequence[Cells]) -> None:
    """Print a table."""
    table = Table(*rows[0], box=SIMPLE)
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console(width=None if sys.stdout.isatty() else UNFOLDED, markup=False, highlight=False).print(table)


def markdown(rows: Sequence[Cells]) -> str:
    """A table in Markdown."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    cells = ([" ".join(str(cell).replace("|", "\\|").split()) for cell in line] for line in lines)
    return "".join(f"| {' | '.join(line)} |\n" for line in cells)


def described(origin: Mapping[str, Any]) -> str:
    """A sentence about machine, versions and commit."""
    machine = origin["hardware"]
    commit = (origin["commit"] or "no commit")[:7]
    gpu = machine["gpu"] or "no GPU"
    return (
        f"Commit {commit}; {origin['machine']['processor']}, {machine['cores']} cores, {machine['memory, GB']} GB, "
        f"{gpu}; torch {origin['versions']['torch']}, oneDNN {machine['oneDNN']}, {machine['threads']} threads."
    )


def hardware() -> dict[str, str | int | float | None]:
    """What a speed depends on, besides what :func:`provenance` tells: cores for this process, memory, GPU, oneDNN."""
    found = re.search(r"oneDNN\) v([\d.]+)|MKL-DNN v([\d.]+)", torch.__config__.show())
    return {
        "cores": available_cores(),
        "memory, GB": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "cuda": torch.version.cuda,
        "oneDNN": next(filter(None, found.groups())) if found else None,
        "threads": torch.get_num_threads(),
    }


def load_at_start() -> dict[str, float]:
    """The load average of the last minute, as a fact to store; a busy machine is warned of."""
    load = os.getloadavg()[0]
    if load > BUSY * available_cores():
        print(
            f"The machine is busy: its load is {load:.1f} on {available_cores()} cores before the measurement begins. "
            "Ratios are doubtful; end what else is running.",
            file=sys.stderr,
        )
    return {"load average at the start": round(load, 2)}


def parser(description: str | None) -> argparse.ArgumentParser:
    """The arguments that every benchmark takes."""
    arguments = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--quick", action="store_true", help="small sizes and few repeats, to try it out")
    arguments.add_argument(
        "--results", type=Path, help=f"folder of the table; default: {RESULTS.name}, and with --quick none"
    )
    return arguments


def folder_of(arguments: argparse.Namespace) -> Path | None:
    """Where the table is stored; None where it is only printed, lest a trial replaces a measurement."""
    if arguments.results is None:
        return None if arguments.quick else RESULTS
    return Path(arguments.results)


def main(rows: Callable[[bool], list[Row]], name: str) -> None:
    """Run one benchmark by its command line, print its table and store it under ``name``."""
    arguments = parser(sys.modules[rows.__module__].__doc__).parse_args()
    facts = load_at_start()
    try:
        found = rows(arguments.quick)
    except SpiError as error:
        sys.exit(f"error: {error}")
    if (folder := folder_of(arguments)) is None:
        show(found)
    else:
        store(name, found, facts, folder)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _yes(fits: bool) -> str:
    return "yes" if fits else "no"
