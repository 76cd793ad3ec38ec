"""Settings of the EM classification."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from spi_lightning.errors import require


@dataclass(frozen=True)
class EMSettings:
    """How patterns are sorted into classes.

    The defaults for classes, rotations, symmetry, logarithm and starts are the paper's, as its authors' program
    spi-em-class has them.

    Attributes:
        classes: of particles, aggregates and whatever else is among the patterns.
        rotations: in the plane, at equal steps: of half a turn with Friedel symmetry, of a whole turn without.
        friedel: class images are centro-symmetric, as diffraction at low resolution is.
        logarithm: sort log(1 + photons) rather than photons, which gives the faint rings more weight.
        assignment: a pattern belongs to all classes and rotations by its posterior, or to the best one alone.
        beta: exponent of the likelihood. 1 is that of the data. spi-em-class counts every photon twice where there is
            Friedel symmetry, which is 2.
        iterations: at most.
        tolerance: the end is reached once a smaller share of patterns changes class in an iteration, and the mean
            log-likelihood by a smaller share of all that it has gained since the first.
        revivals: a class without a pattern is restarted, as a varied copy of a populated one, at most so many times.
            Soft assignment only; with hard assignment such a class takes patterns by their posterior.
        starts: independent ones, merged by consensus.
        margin: a start has a vote if the log-likelihood that it gained falls short of the best start's by this share at
            most: EM gets caught in worse optima, and a majority of those would outvote the better one.
        seed: of the first start; the others count on from it.
    """

    classes: int = 20
    rotations: int = 100
    friedel: bool = True
    logarithm: bool = True
    assignment: Literal["soft", "hard"] = "soft"
    beta: float = 1.0
    iterations: int = 100
    tolerance: float = 0.002
    revivals: int = 2
    starts: int = 5
    margin: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("classes", "rotations", "iterations", "starts"):
            require(getattr(self, name) >= 1, f"em.{name}", getattr(self, name), "1 or more")
        for name in ("revivals", "seed"):
            require(getattr(self, name) >= 0, f"em.{name}", getattr(self, name), "0 or more")
        require(self.assignment in ("soft", "hard"), "em.assignment", self.assignment, "soft or hard")
        require(self.beta > 0, "em.beta", self.beta, "above 0")
        require(0 <= self.tolerance < 1, "em.tolerance", self.tolerance, "from 0 to below 1")
        require(0 <= self.margin <= 1, "em.margin", self.margin, "from 0 (the best start alone) to 1 (all starts vote)")
