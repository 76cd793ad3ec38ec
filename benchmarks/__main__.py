"""Every speed with its baseline, in one table.

    python -m benchmarks [--quick] [--only NAME ...] [--results FOLDER]

Each benchmark runs in a process of its own. One that fails leaves a line that says so; the others still run, and the
exit status is 1. The table is stored as ``speed.csv``, ``.md`` and ``.json``.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial

from benchmarks.record import Row, fact_row, folder_of, load_at_start, parser, show, store
from benchmarks.remote import Remote, RemoteError

MODULES = ("simulation", "augmentation", "reading", "training", "folds", "prediction", "cascade", "sizes", "em")


def main() -> int:
    """Run what the command line asks for; the exit status."""
    arguments = parser(__doc__)
    arguments.add_argument("--only", nargs="+", choices=MODULES, default=MODULES, metavar="NAME", help=str(MODULES))
    given = arguments.parse_args()
    facts: dict[str, object] = {**load_at_start(), "quick": given.quick}
    rows, failed, seconds = measured(given.only, given.quick)
    folder = folder_of(given)
    if folder is None:
        show(rows)
    else:
        store("speed", rows, {**facts, "seconds": seconds, "failed": failed}, folder)
    return 1 if failed else 0


def measured(names: Sequence[str], quick: bool) -> tuple[list[Row], list[str], dict[str, float]]:
    """Run benchmarks one after the other.

    Returns:
        Their rows, the names of those that failed, and the seconds that each took.
    """
    rows: list[Row] = []
    failed: list[str] = []
    seconds: dict[str, float] = {}
    for number, name in enumerate(names, 1):
        _say(f"{name} ({number} of {len(names)}) ...")
        start = time.perf_counter()
        try:
            with Remote("benchmarks.__main__:prepared", name, quick) as run:
                rows += run()
        except RemoteError as error:
            _say(str(error))
            rows.append(fact_row(name, "failed", reached=False, note=str(error).strip().splitlines()[-1]))
            failed.append(name)
        seconds[name] = round(time.perf_counter() - start, 1)
        _say(f"{name}: {seconds[name]:.0f} s")
    return rows, failed, seconds


def prepared(name: str, quick: bool) -> Callable[[], list[Row]]:
    """A benchmark, imported where it runs."""
    return partial(importlib.import_module(f"benchmarks.{name}").rows, quick)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
