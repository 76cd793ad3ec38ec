"""Findings of eight patterns, made up so that every step has something to drop."""

from __future__ import annotations

import numpy as np
import torch

from spi_lightning.analysis.class_choice import ClassMeasures
from spi_lightning.analysis.size import FLAGS, Sizes
from spi_lightning.errors import SpiError
from spi_lightning.selection.results import Classes, Findings
from spi_lightning.selection.step import Context

NAN = float("nan")
SCORES = np.array([0.9, 0.8, 0.7, 0.6, 0.4, 0.2, 0.1, NAN], np.float32)
LABELS = np.array([1, 1, 0, 1, 0, 0, -1, 1], np.int8)
DIAMETERS = (60.0, 84.0, 90.0, NAN, 55.0, 70.0, 20.0, 66.0)
PHOTONS = np.array([5000.0, 900.0, 3000.0, 0.0, 1000.0, 2000.0, 50.0, 7000.0])
CLASSES = np.array([0, 1, 1, -1, 2, 2, 0, 0])
AGREEMENT = np.array([1.0, 0.4, 1.0, 0.0, 1.0, 1.0, 1.0, 0.6], np.float32)


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def findings() -> Findings:
    """All eight measured."""
    end = FLAGS.index("size at the end of the grid")
    sizes = Sizes(
        diameter=tensor(*DIAMETERS),
        misfit=tensor(*[0.1] * 8),
        fidelity=tensor(1.5, 1.0, 1.2, NAN, 1.05, 2.0, 1.1, 1.3),
        scale=tensor(*[diameter**6 * fluence for diameter, fluence in zip(DIAMETERS, range(1, 9), strict=True)]),
        flag=torch.tensor([0, 0, 0, FLAGS.index("no signal"), 0, 0, end, 0], dtype=torch.uint8),
    )
    return Findings(
        ids=np.array([f"run1:{place}" for place in range(8)]),
        labels=LABELS.copy(),
        scores=SCORES.copy(),
        threshold=0.5,
        q=np.linspace(0, 0.5, 6),
        measured=np.arange(8),
        photons=PHOTONS.copy(),
        psd=np.arange(48, dtype=np.float32).reshape(8, 6),
        sizes=sizes,
        range=(55.0, 84.0),
    )


def classes(members: np.ndarray, chosen: tuple[int, ...] = (0, 2), by_hand: bool = False) -> Classes:
    """The classes of some of the eight."""
    measures = ClassMeasures(*(tensor(1.0, 2.0, NAN) for _ in range(7)))
    return Classes(
        members=members,
        classes=CLASSES[members],
        angles=np.linspace(0, 90, len(members), dtype=np.float32),
        certainty=np.ones(len(members), np.float32),
        agreement=AGREEMENT[members],
        images=np.arange(27, dtype=np.float32).reshape(3, 3, 3),
        measures=measures,
        chosen=np.isin(np.arange(3), chosen),
        by_hand=by_hand,
        similarity=0.8,
    )


def context(known: Findings | None = None) -> Context:
    """A context in which the scores of another run are those of this one, reversed."""
    known = known or findings()

    def classify(patterns: np.ndarray, by_hand: tuple[int, ...] | None) -> int:
        known.classes.append(classes(patterns, by_hand or (0, 2), by_hand is not None))
        return len(known.classes) - 1

    def scores_of(name: str) -> tuple[np.ndarray, float | None]:
        if name != "other":
            raise SpiError(f"{name} holds the scores of other patterns")
        return known.scores[::-1], 0.3

    labelled = (known.scores[:6], LABELS[:6])
    return Context(known, scores_of, labelled, classify)
