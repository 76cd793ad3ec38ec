"""Interleaved timings, and the table that keeps them with machine, versions and commit."""

from __future__ import annotations

import csv
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from spi_lightning.provenance import provenance, write_json

RESULTS = Path(__file__).parent / "results"


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


def row(what: str, baseline: str, per_second: list[float], baseline_per_second: list[float] | None = None) -> dict:
    """One line of the table: median, spread, and the ratio to the baseline."""
    median = statistics.median(per_second)
    line = {
        "what": what,
        "per second": f"{median:.1f}",
        "spread": f"{min(per_second):.1f}-{max(per_second):.1f}",
        "baseline": baseline,
        "ratio": "",
    }
    if baseline_per_second is not None:
        line["ratio"] = f"{median / statistics.median(baseline_per_second):.2f}"
    return line


def store(name: str, rows: list[dict], facts: dict) -> None:
    """Print the table and write ``results/NAME.csv`` and ``results/NAME.json``."""
    RESULTS.mkdir(exist_ok=True)
    with open(RESULTS / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    write_json(RESULTS / f"{name}.json", {**provenance(), **facts})
    widths = {key: max(len(key), *(len(str(line[key])) for line in rows)) for key in rows[0]}
    for line in [dict(zip(rows[0], rows[0], strict=True)), *rows]:
        print("  ".join(str(line[key]).ljust(width) for key, width in widths.items()))
