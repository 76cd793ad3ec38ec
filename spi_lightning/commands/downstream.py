"""What follows the scores: selections, what is measured for them, their tables and figures, and selection.h5."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

from spi_lightning.callbacks.stage import Stage, run_stage
from spi_lightning.commands.scored import Scored, scores_elsewhere
from spi_lightning.config.downstream import callbacks_of, plans_of
from spi_lightning.config.predict_schema import PredictConfig
from spi_lightning.config.select_schema import SelectConfig
from spi_lightning.config.train_schema import TrainConfig
from spi_lightning.data.device import choose_device
from spi_lightning.report.paper_selections import PAPER_SELECTIONS
from spi_lightning.report.selections import scalars, selection_rows, write_selections
from spi_lightning.selection.select import candidates
from spi_lightning.selection.selection_file import write_findings
from spi_lightning.selection.step import Context

NEW = "selection.new"  # where results stand until all are made
MADE = (  # what this makes, and replaces
    *("figures/psd.png", "figures/sizes.png", "figures/overlap.png", "figures/examples.png", "figures/classes_*.png"),
    *("tables/overlap.*", "tables/selections.*", "tables/selection_*.csv"),
)
OURS = "singles"  # how the default selections begin, which the paper calls by the name of a network


def analyse(
    folder: Path,
    scored: Scored,
    wanted: TrainConfig | PredictConfig | SelectConfig,
    device: str,
) -> dict[str, float | int | None]:
    """Make the selections of a scored run, into ``selection.h5``, ``tables/`` and ``figures/``.

    What an earlier selection has left there stays until all is made, and is then replaced.

    Args:
        folder: of the run.
        scored: its patterns and scores; the findings are filled.
        wanted: says which callbacks, steps and selections.
        device: auto, cpu, cuda or cuda:N.

    Returns:
        Patterns and contrast of each selection, by name.
    """
    findings, plans = scored.findings, plans_of(wanted.selections, wanted.steps)
    context = Context(findings, partial(scores_elsewhere, scored.run), scored.unseen)
    callbacks = callbacks_of(wanted.callbacks)
    if callbacks or any(step.looks for plan in plans.values() for _, step in plan):
        findings.measured = candidates(plans, context)
    stage = Stage(scored.run, context, plans, _paper(list(plans), scored.paper))
    new = folder / NEW
    shutil.rmtree(new, ignore_errors=True)  # of a job that was killed
    (new / "tables").mkdir(parents=True)
    run_stage(stage, callbacks, new, choose_device(device))
    rows = selection_rows(findings, scored.truth, stage.paper)
    write_selections(new / "tables", rows, findings)
    write_findings(new / "selection.h5", findings, scored.run.fingerprint(), scored.source)
    _replace(folder, new)
    for note in findings.notes:
        print(note)
    return scalars(rows)


def _paper(names: list[str], paper: str | None) -> dict[str, str]:
    """The paper's names of our default selections."""
    if paper is None:
        return {}
    ours = {name: name.replace(OURS, paper, 1) for name in names if name.startswith(OURS)} | {"labelled": "D_M"}
    return {name: theirs for name, theirs in ours.items() if name in names and theirs in PAPER_SELECTIONS}


def _replace(folder: Path, new: Path) -> None:
    """Put new results in place of all that an earlier selection has left."""
    for pattern in MADE:
        for old in folder.glob(pattern):
            old.unlink()
    for path in [path for path in new.rglob("*") if path.is_file()]:
        place = folder / path.relative_to(new)
        place.parent.mkdir(exist_ok=True)
        path.replace(place)
    shutil.rmtree(new)
