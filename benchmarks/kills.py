"""Commands that are killed at random moments, and started again: is the result that of an undisturbed run?

    python -m benchmarks.kills [training=20] [prediction=10] [sweep=10] [select=10] [signals=5] [seed=1] work=FOLDER

Every command runs undisturbed once, which says how long it takes and what it leaves. Then it is started in a fresh run
folder, killed (SIGKILL, its first process alone) at a moment drawn uniformly from that time, and the very same command
is started again. Counted is how often all of its processes were gone within seconds, and how often the folder then
held the same results: scores, selections, weights, tables and splits, value by value. ``signals``: besides, as many
trainings are told to stop by SIGTERM, and as many by SIGINT, as Ctrl-C does.
"""

from __future__ import annotations

import random
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.killing import Ended, after, differences, ended, finished, results
from benchmarks.record import RESULTS, load_at_start, store

SOON = 15.0  # seconds within which all processes must be gone
PATTERNS = "simulation/patterns.cxi"
SMALL_EM = "callbacks.em.em={classes: 3, rotations: 12, starts: 2, iterations: 10}"
TRAIN = (
    *("spi-train", "experiment=tiny", f"data.path={PATTERNS}", "trainer.threads=1", "folds_at_once=2"),
    *("trainer.epochs=12", "sampler.batches=16", "ensemble.threshold={rule: max_f1, value: null}"),
)


@dataclass(frozen=True)
class Kind:
    """A command to kill.

    Attributes:
        what: it is, for the table.
        command: without its run folder.
        begin: fills the run folder before the first start.
    """

    what: str
    command: tuple[str, ...]
    begin: Callable[[Path], object] = lambda run: None


def kinds(work: Path) -> dict[str, Kind]:
    """The commands, by the name of their number of kills."""

    def as_predicted(run: Path) -> None:
        shutil.copytree(work / "prediction", run)

    predict = ("spi-predict", "ensemble=training/ensemble", f"data.path={PATTERNS}", "range=64", SMALL_EM)
    return {
        "training": Kind("spi-train, two folds at once", TRAIN),
        "prediction": Kind("spi-predict, in ranges of 64 patterns", predict),
        "sweep": Kind("spi-train -m, two seeds", (TRAIN[0], "-m", *TRAIN[1:], "trainer.epochs=4", "seed=1,2")),
        "select": Kind("spi-select", ("spi-select", SMALL_EM, "steps.size.smallest=30.0"), as_predicted),
    }


def main(work: Path, numbers: dict[str, int], seed: int, folder: Path = RESULTS) -> bool:
    """Kill each kind of command as often as ``numbers`` says; whether all came to the right result."""
    # Where a shell has started this in the background, SIGINT is ignored, and would be by all that is started here.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    facts = load_at_start()
    prepare(work)
    rows: list[dict[str, Any]] = []
    for name, kind in kinds(work).items():
        blows = [("SIGKILL", signal.SIGKILL, numbers[name])]
        if name == "training":
            blows += [("SIGTERM", signal.SIGTERM, numbers["signals"]), ("SIGINT", signal.SIGINT, numbers["signals"])]
        if any(times for *_, times in blows):
            log = work / f"{name}.log"
            expected, seconds = undisturbed(kind, work, f"{name}-undisturbed", log)
            for what, number, times in blows:
                chance = random.Random(f"{seed} {name} {what}")
                outcomes = []
                for turn in range(times):
                    moment, run = chance.uniform(0, seconds), f"{name}-{what}-{turn}"
                    outcomes.append(disturbed(kind, work, run, log, number, moment, expected))
                    how, wrong = outcomes[-1]
                    print(f"{run}, after {moment:.1f} s: {how}, {wrong or 'same result'}", flush=True)
                if outcomes:
                    rows.append(row(kind, what, seconds, outcomes))
    told = {**facts, "seed": seed, "numbers": numbers}
    for name, some in {"kills": ["SIGKILL"], "signals": ["SIGTERM", "SIGINT"]}.items():
        if chosen := [line for line in rows if line["signal"] in some]:
            store(name, chosen, told, folder)
    return all(line["same result"] == line["processes gone"] == f"{line['times']} of {line['times']}" for line in rows)


def prepare(work: Path) -> None:
    """Make what the commands start from; what is there from an earlier call is kept."""
    work.mkdir(parents=True, exist_ok=True)
    log = work / "prepare.log"
    simulate = ["spi-simulate", "simulate=tiny", "simulate.n_patterns=600", "run=simulation"]
    predict = ["spi-predict", "ensemble=training/ensemble", f"data.path={PATTERNS}", SMALL_EM, "run=prediction"]
    for command in (simulate, [*TRAIN, "run=training"], predict):
        finished(command, work, log)


def undisturbed(kind: Kind, work: Path, run: str, log: Path) -> tuple[dict[str, str], float]:
    """What a run leaves that nobody disturbs, and the seconds it takes."""
    shutil.rmtree(work / run, ignore_errors=True)
    kind.begin(work / run)
    seconds = finished([*kind.command, f"run={run}"], work, log)
    return results(work / run), seconds


def disturbed(
    kind: Kind, work: Path, run: str, log: Path, number: signal.Signals, moment: float, expected: dict[str, str]
) -> tuple[Ended, list[str]]:
    """Disturb a run, start it again, and compare: how it ended, and what is not as it should be."""
    shutil.rmtree(work / run, ignore_errors=True)
    kind.begin(work / run)
    command = [*kind.command, f"run={run}"]
    how = ended(command, work, log, number, after(moment), group=number is signal.SIGINT)
    try:
        finished(command, work, log)
    except RuntimeError as error:
        return how, [str(error)]
    wrong = differences(expected, results(work / run))
    if not wrong:
        shutil.rmtree(work / run)  # what is wrong is kept, to be looked at
    return how, wrong


def row(kind: Kind, what: str, seconds: float, outcomes: list[tuple[Ended, list[str]]]) -> dict[str, Any]:
    """A line of the table."""
    times = len(outcomes)
    gone = [how for how, _ in outcomes if not how.left and how.seconds <= SOON]
    slowest = max(how.seconds for how, _ in outcomes)
    return {
        "what": kind.what,
        "undisturbed": f"{seconds:.1f} s",
        "signal": what,
        "times": times,
        "still running then": sum(how.signalled for how, _ in outcomes),
        "processes gone": f"{len(gone)} of {times}",
        "slowest": f"{slowest:.1f} s",
        "same result": f"{sum(not wrong for _, wrong in outcomes)} of {times}",
    }


def _arguments(words: list[str]) -> dict[str, str]:
    """``KEY=VALUE`` each; leaves with a sentence where one is not."""
    given = {"training": "20", "prediction": "10", "sweep": "10", "select": "10"}
    given |= {"signals": "5", "seed": "1", "work": ""}
    for word in words:
        key, _, value = word.partition("=")
        if key not in given or not value or (key != "work" and not value.isdecimal()):
            sys.exit(f"'{word}' is none of {', '.join(f'{name}=…' for name in given)}.\n\n{__doc__}")
        given[key] = value
    if not given["work"]:
        sys.exit(f"work=FOLDER is missing.\n\n{__doc__}")
    return given


if __name__ == "__main__":
    given = _arguments(sys.argv[1:])
    work, seed = Path(given.pop("work")).resolve(), int(given.pop("seed"))
    sys.exit(0 if main(work, {name: int(value) for name, value in given.items()}, seed) else 1)
