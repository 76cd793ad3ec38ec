"""Taking the steps of named selections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from spi_lightning.errors import SpiError
from spi_lightning.selection.results import Selection, StepTaken
from spi_lightning.selection.step import Context, Step

Plan = Sequence[tuple[str, Step]]  # a selection's steps, each with its name


def candidates(plans: Mapping[str, Plan], context: Context) -> np.ndarray:
    """Patterns that have to be looked at: those that some selection has not dropped when its first look begins.

    Args:
        plans: by name of the selection.
        context: of which only scores and labels are asked for.

    Returns:
        int64 ``(m,)``, ascending places in the run. Selections that cannot be made ask for none.
    """
    wanted = np.zeros(len(context.findings.ids), np.bool_)
    for plan in plans.values():
        kept = np.arange(len(wanted))
        try:
            for _, step in plan:
                if step.looks:
                    break
                kept = kept[step.verdict(kept, context).reason == 0]
        except SpiError:  # told when the selection is made
            continue
        wanted[kept] = True
    return np.flatnonzero(wanted)


def select(name: str, plan: Plan, context: Context) -> Selection:
    """Take the steps of a selection, in order.

    Args:
        name: of the selection.
        plan: its steps; what they look at must have been measured.
        context: what they may ask for.

    Raises:
        SpiError: a step cannot be taken; names it.
    """
    kept = np.arange(len(context.findings.ids))
    reason = np.zeros(len(kept), np.uint8)
    reasons: list[str] = [""]
    taken: list[StepTaken] = []
    step_of = [-1]
    classes = None
    for place, (step_name, step) in enumerate(plan):
        if not len(kept):  # nothing is left to decide
            break
        try:
            verdict = step.verdict(kept, context)
        except SpiError as error:
            raise SpiError(f"step {step_name}: {error}") from None
        dropped = verdict.reason > 0
        reason[kept[dropped]] = verdict.reason[dropped] + (len(reasons) - 1)
        reasons += verdict.reasons[1:]
        step_of += [place] * (len(verdict.reasons) - 1)
        taken.append(StepTaken(step_name, verdict.what, len(kept), int((~dropped).sum())))
        kept = kept[~dropped]
        classes = verdict.classes if verdict.classes is not None else classes
    return Selection(name, kept, reason, tuple(reasons), tuple(taken), classes, step_of=tuple(step_of))


def select_all(plans: Mapping[str, Plan], context: Context) -> None:
    """Make all selections into :attr:`Findings.selections`; one that cannot be made is noted, and left out."""
    findings = context.findings
    for name, plan in plans.items():
        try:
            findings.selections[name] = made = select(name, plan, context)
        except SpiError as error:
            findings.notes.append(f"Selection '{name}' is left out: {error}")
            continue
        if made.steps and not len(made.kept):
            last = made.steps[-1]
            findings.notes.append(
                f"Selection '{name}' is empty: step {last.name} ({last.what}) dropped all {last.before} patterns."
            )
