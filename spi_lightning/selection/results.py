"""What is known of a run's patterns once selections were made: the content of ``selection.h5``."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from spi_lightning.analysis.class_choice import ClassMeasures
from spi_lightning.analysis.contrast import Contrast
from spi_lightning.analysis.size import Sizes


@dataclass(frozen=True)
class StepTaken:
    """One step of a selection, and what it did.

    Attributes:
        name: of the step, such as ``size``.
        what: the step with its values, such as ``size from 55 to 84 nm``.
        before: patterns that came to it.
        after: patterns that it kept.
    """

    name: str
    what: str
    before: int
    after: int


@dataclass(frozen=True, eq=False)
class Selection:
    """A named selection of the patterns of a run.

    Attributes:
        name: as given in the config.
        kept: int64 ``(k,)``, ascending, of the patterns in the run.
        reason: uint8 ``(n,)`` over the whole run: why each was dropped, a place in ``reasons``; 0 where it is kept.
        reasons: sentences; the first is empty.
        steps: in the order in which they were taken.
        classes: which of :attr:`Findings.classes` its EM step used; None without one.
        psd: float64 ``(rings,)``, mean of its patterns' PSDs, photons a pixel; None where it was not measured.
        contrast: of that PSD, a batch of one; None where it was not measured.
        interval: 95 % interval of the contrast; NaN where unknown.
        other_pairing: the contrast where each minimum is paired with the maximum on its other side; NaN where unknown.
        step_of: for each of ``reasons``, the step that it belongs to, a place in ``steps``; -1 for the first.
    """

    name: str
    kept: np.ndarray
    reason: np.ndarray
    reasons: tuple[str, ...]
    steps: tuple[StepTaken, ...]
    classes: int | None = None
    psd: np.ndarray | None = None
    contrast: Contrast | None = None
    interval: tuple[float, float] = (float("nan"), float("nan"))
    other_pairing: float = float("nan")
    step_of: tuple[int, ...] = (-1,)


@dataclass(frozen=True, eq=False)
class Classes:
    """An EM classification of some patterns of a run.

    Attributes:
        members: int64 ``(m,)``, ascending, of the patterns in the run.
        classes: int64 ``(m,)``, from 0; -1 for a pattern without photons in the range of EM.
        angles: float32 ``(m,)``, in-plane rotation, degrees.
        certainty: float32 ``(m,)``, posterior probability of the class.
        agreement: float32 ``(m,)``, share of the starts that agree.
        images: float32 ``(K, S, S)``, class averages of the photons a pixel, or of log(1 + photons) where EM works on
            these; the beam in the middle; NaN where never seen.
        measures: of every class.
        chosen: bool ``(K,)``, the classes taken for single hits.
        by_hand: whether an expert has chosen them.
        similarity: mean pairwise adjusted Rand index of the starts; NaN for one start.
    """

    members: np.ndarray
    classes: np.ndarray
    angles: np.ndarray
    certainty: np.ndarray
    agreement: np.ndarray
    images: np.ndarray
    measures: ClassMeasures
    chosen: np.ndarray
    by_hand: bool
    similarity: float


@dataclass(eq=False)
class Findings:
    """All that the selection of a run has found; filled step by step.

    Attributes:
        ids: str ``(n,)``, of the whole run.
        labels: int8 ``(n,)``: 1 single hit, 0 other, -1 unknown; None where nothing is known.
        scores: float32 ``(n,)``, probability of a single hit; NaN where the pattern was not scored (trained on).
        threshold: of the scores; None where none is chosen.
        q: float64 ``(rings,)``, momentum transfer of each ring, nm⁻¹; None where the geometry is not known.
        measured: int64 ``(m,)``, ascending: the patterns that were looked at.
        photons: float64 ``(m,)``, in good pixels; empty where nothing was looked at.
        psd: float32 ``(m, rings)``, photons a pixel; None where it was not measured.
        sizes: of the measured patterns, ``(m,)`` each; None where they were not fitted.
        range: of sizes that are drawn as those wanted, nm; None where there is none.
        selections: by name, in the order of the config.
        classes: EM classifications, each used by one selection or more.
        notes: what could not be done, and why.
    """

    ids: np.ndarray
    labels: np.ndarray | None
    scores: np.ndarray
    threshold: float | None
    q: np.ndarray | None = None
    measured: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    photons: np.ndarray = field(default_factory=lambda: np.empty(0))
    psd: np.ndarray | None = None
    sizes: Sizes | None = None
    range: tuple[float, float] | None = None
    selections: dict[str, Selection] = field(default_factory=dict)
    classes: list[Classes] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def rows(self, patterns: np.ndarray) -> np.ndarray:
        """Where patterns of the run, all of them measured, stand among the measured ones."""
        return np.searchsorted(self.measured, patterns)
