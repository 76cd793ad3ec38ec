"""What can be set of a simulated experiment. Lengths are in nm unless a line says otherwise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from spi_lightning.errors import SpiError, nearest, require


@dataclass(frozen=True)
class Beam:
    """The pulses and where particles cross them."""

    pulse_energy: float  # mean energy of a pulse at the source, J
    pulse_energy_spread: float  # its relative standard deviation from shot to shot
    transmission: float  # share of that energy that arrives in the focus
    focus: float  # full width at half maximum of the focus, nm
    halo_share: float  # share of the energy in a wider Gaussian around the focus
    halo_focus: float  # full width at half maximum of that halo, nm
    centre_jitter: float  # standard deviation of the beam's position on the detector along x and y, pixels

    def __post_init__(self) -> None:
        for name in ("pulse_energy", "transmission", "focus", "halo_focus"):
            positive("simulate.beam." + name, getattr(self, name))
        share("simulate.beam.halo_share", self.halo_share)
        not_negative("simulate.beam.pulse_energy_spread", self.pulse_energy_spread)
        # The momentum transfer follows the beam to first order, which holds to 3e-5 nm⁻¹ over 5 pixels.
        require(0 <= self.centre_jitter <= 5, "simulate.beam.centre_jitter", self.centre_jitter, "0 to 5 pixels")


@dataclass(frozen=True)
class Detector:
    """The pixels that record, and their faults."""

    shape: tuple[int, int]  # rows, columns
    centre: tuple[float, float]  # where the beam meets the detector: x (column), y (row); instrument.centre goes first
    shadows: tuple[tuple[int, int, int, int], ...]  # rectangles without data: first row, end row, first column, end
    beamstop_radius: float  # pixels nearer to the beam than this hold no data
    saturation: int | None  # highest count that a pixel can hold, photons; null: none
    dead_share: float  # share of pixels that never see a photon; flagged in the mask
    hot_share: float  # share of pixels that always read high; flagged in the mask
    unmasked_hot: int  # number of hot pixels that the mask has missed
    hot_level: float  # mean photons in a hot pixel
    adu_per_photon: float | None  # null: photon counts; otherwise raw frames in detector units (float32)
    adu_noise: float  # standard deviation of the read-out noise, ADU; used with adu_per_photon

    def __post_init__(self) -> None:
        require(
            min(self.shape) >= 1,
            "simulate.detector.shape",
            self.shape,
            "two positive numbers of pixels, [rows, columns]",
        )
        for name in ("dead_share", "hot_share"):
            share("simulate.detector." + name, getattr(self, name))
        for name in ("beamstop_radius", "unmasked_hot", "hot_level", "adu_noise"):
            not_negative("simulate.detector." + name, getattr(self, name))
        for name in ("saturation", "adu_per_photon"):
            if getattr(self, name) is not None:
                positive("simulate.detector." + name, getattr(self, name))
        for shadow in self.shadows:
            first_row, end_row, first_column, end_column = shadow
            inside = 0 <= first_row < end_row <= self.shape[0] and 0 <= first_column < end_column <= self.shape[1]
            require(
                inside,
                "simulate.detector.shadows",
                list(shadow),
                f"[row, end, column, end] on {list(self.shape)} pixels",
            )


@dataclass(frozen=True)
class Background:
    """Light that no particle scattered: expected photons per pixel, by momentum transfer q in nm⁻¹."""

    gas_level: float  # photons a pixel at q = 0 from carrier gas
    gas_width: float  # nm⁻¹; the gas falls as exp(−(q/width)^exponent)
    gas_exponent: float
    flat_level: float  # photons a pixel everywhere: fluorescence, stray light
    spread: float  # standard deviation of the logarithm of the level from shot to shot
    streak_share: float  # share of patterns with a streak
    streak_level: float  # photons a pixel of a streak at q = 0
    streak_width: float  # its standard deviation across, pixels
    streak_length: float  # it falls as 1/(1 + (r/length)²), pixels
    streak_angle: float  # mean direction from the detector's rows, degrees
    streak_angle_spread: float  # its standard deviation, degrees

    def __post_init__(self) -> None:
        for name in ("gas_width", "gas_exponent", "streak_width", "streak_length"):
            positive("simulate.background." + name, getattr(self, name))
        for name in ("gas_level", "flat_level", "spread", "streak_level", "streak_angle_spread"):
            not_negative("simulate.background." + name, getattr(self, name))
        share("simulate.background.streak_share", self.streak_share)


@dataclass(frozen=True)
class Ingredient:
    """One sort of pattern in the mixture."""

    share: float  # how many of the hits, relative to the other ingredients' shares
    single: bool  # true: this is what the experiment is after, one whole particle of the right sort
    particles: tuple[str, ...]  # names under simulate.particles; one is drawn for each particle. Empty: a blank
    count: tuple[int, int]  # fewest and most particles in a pattern; each further one is half as likely
    separation: tuple[float, float] | None  # nm, drawn evenly in its logarithm; null: they touch, as spheres
    expert_rate: float  # chance that the expert calls a very bright one a single hit
    expert_photons: float  # scattered photons on the detector at which that chance has fallen to half


@dataclass(frozen=True)
class Expert:
    """The person who labels. What is a single hit and what is called one are two things."""

    width: float  # decades of brightness over which the expert's eye gives out
    labelled: int | None  # total number of patterns called single hits; null: as many as the chances give

    def __post_init__(self) -> None:
        positive("simulate.expert.width", self.width)
        if self.labelled is not None:
            not_negative("simulate.expert.labelled", self.labelled)


@dataclass(frozen=True)
class Simulation:
    """A whole simulated run."""

    n_patterns: int
    seed: int
    beam: Beam
    detector: Detector
    background: Background
    least_photons: float  # the hit finder keeps a shot if about this many photons or more were scattered
    particles: dict[str, dict[str, Any]]  # name → class (_target_) and settings of a sort of particle
    composition: dict[str, Ingredient]
    expert: Expert

    def __post_init__(self) -> None:
        require(self.n_patterns >= 1, "simulate.n_patterns", self.n_patterns, "1 or more")
        require(self.seed >= 0, "simulate.seed", self.seed, "0 or more")
        positive("simulate.least_photons", self.least_photons)
        total = sum(ingredient.share for ingredient in self.composition.values())
        require(total > 0, "simulate.composition: the sum of the shares", total, "above 0")
        quota = self.expert.labelled
        require(quota is None or quota <= self.n_patterns, "simulate.expert.labelled", quota, "at most n_patterns")
        for name, ingredient in self.composition.items():
            self._check(f"simulate.composition.{name}", ingredient)

    def _check(self, key: str, ingredient: Ingredient) -> None:
        not_negative(f"{key}.share", ingredient.share)
        share(f"{key}.expert_rate", ingredient.expert_rate)
        positive(f"{key}.expert_photons", ingredient.expert_photons)
        low, high = ingredient.count
        if ingredient.particles:
            require(1 <= low <= high <= 255, f"{key}.count", [low, high], "[fewest, most], from 1 to 255")
        else:
            require(low == high == 0, f"{key}.count", [low, high], "[0, 0] where there are no particles")
        if ingredient.separation is not None:
            near, far = ingredient.separation
            require(0 < near <= far, f"{key}.separation", [near, far], "[nearest, farthest] in nm, above 0")
        for particle in ingredient.particles:
            if particle not in self.particles:
                raise SpiError(
                    f"{key}.particles names '{particle}', but simulate.particles has no such sort."
                    f"{nearest(particle, self.particles)} There are: {', '.join(self.particles)}."
                )


@dataclass(frozen=True)
class Size:
    """A distribution of sizes, cut off at ``low`` and ``high``. Lengths in nm."""

    distribution: Literal["normal", "lognormal", "uniform"]
    centre: float  # mean (normal) or median (lognormal)
    spread: float  # standard deviation: nm (normal) or of the natural logarithm (lognormal)
    low: float
    high: float
    broad_share: float = 0.0  # share of particles from a second, wider distribution of the same kind and centre
    broad_spread: float = 0.0  # its spread

    def __post_init__(self) -> None:
        require(0 < self.low <= self.high, "size: low and high", [self.low, self.high], "0 < low <= high, nm")
        share("size: broad_share", self.broad_share)
        for name in ("spread", "broad_spread"):
            not_negative(f"size: {name}", getattr(self, name))
        if self.distribution == "lognormal":
            positive("size: centre", self.centre)


def positive(name: str, value: float) -> None:
    """Refuse zero, negative and infinite values of a setting."""
    require(0 < value < math.inf, name, value, "a positive number")


def not_negative(name: str, value: float) -> None:
    """Refuse negative and infinite values of a setting."""
    require(0 <= value < math.inf, name, value, "0 or more")


def share(name: str, value: float) -> None:
    """Refuse what is no share."""
    require(0 <= value <= 1, name, value, "a share from 0 to 1")
