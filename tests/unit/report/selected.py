"""A run of 40 patterns with four selections, small enough to count by hand."""

from __future__ import annotations

import math

import numpy as np
import torch

from spi_lightning.analysis.contrast import Contrast
from spi_lightning.analysis.size import Sizes
from spi_lightning.selection.results import Findings, Selection, StepTaken

RINGS = 40
NO_FRINGES = "1 of 3 fringes was found."


def selection(name: str, kept: np.ndarray, steps: list[tuple[str, int, int]], contrast: float = math.nan) -> Selection:
    found = math.isfinite(contrast)
    extrema = (torch.tensor([[6, 12, 18]]), torch.tensor([[9, 15, 21]]))
    none = torch.full((1, 3), -1)
    reason = np.ones(40, np.uint8)
    reason[kept] = 0
    return Selection(
        name,
        kept,
        reason,
        ("", f"dropped | by <b>{name}</b>"),
        tuple(StepTaken(what.split()[0], what, before, after) for what, before, after in steps),
        psd=np.exp(-np.arange(RINGS) / 5) + 0.01 if len(kept) else None,
        contrast=Contrast(
            torch.tensor([contrast], dtype=torch.float64),
            *(extrema if found else (none, none)),
            ("" if found else NO_FRINGES,),
        )
        if len(kept)
        else None,
        interval=(contrast - 0.1, contrast + 0.1),
        other_pairing=contrast - 0.2,
    )


def findings() -> Findings:
    """Patterns 0 to 9 are single hits by label; 0 to 3 were trained on. 12 has no size, nor have 20 and on."""
    labels = (np.arange(40) < 10).astype(np.int8)
    labels[39] = -1
    scores = np.linspace(1, 0, 40).astype(np.float32)
    scores[:4] = np.nan
    measured = np.arange(20)
    diameter = torch.arange(50.0, 70.0, dtype=torch.float64)
    diameter[12] = math.nan
    nothing = torch.zeros(20, dtype=torch.float64)
    sizes = Sizes(diameter, nothing, nothing, nothing, nothing.to(torch.uint8))
    first = [("threshold: score of 0.6 or more", 40, 14)]
    chosen = [
        selection("singles", np.arange(4, 18), first, 0.61),
        selection("singles + size", np.arange(5, 12), [*first, ("size from 55 to 61 nm", 14, 7)], 0.7),
        selection("labelled", np.arange(10), [("labelled", 40, 10)]),
        selection("nothing", np.arange(0), [("threshold: score of 1 or more", 40, 0)]),
    ]
    return Findings(
        ids=np.array([f"run:{index}" for index in range(40)]),
        labels=labels,
        scores=scores,
        threshold=0.6,
        q=np.arange(RINGS) * 0.01,
        measured=measured,
        sizes=sizes,
        range=(55.0, 61.0),
        selections={each.name: each for each in chosen},
    )
