"""What each transform draws from: probabilities and ranges, the same for both pipelines."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

from spi_lightning.errors import require

Range = tuple[float, float]
Axis = Literal["rows", "columns"]
Transform = Literal["rotation", "scaling", "elastic", "gamma", "noise", "blur", "mirroring", "shift", "cutout"]


def _check_probability(name: str, value: float) -> None:
    require(0 <= value <= 1, f"transforms.{name}", value, "between 0 (never) and 1 (always)")


def _check_range(name: str, values: Range, lowest: float, highest: float = float("inf")) -> None:
    fits = lowest <= values[0] <= values[1] <= highest and values[1] < float("inf")
    limits = f"from {lowest:g} on" if highest == float("inf") else f"between {lowest:g} and {highest:g}"
    require(fits, f"transforms.{name}", list(values), f"the lowest and the highest value, {limits}")


def _check_range_about_one(name: str, values: Range) -> None:
    fits = 0.1 <= values[0] <= 1 <= values[1] <= 10
    expected = "the lowest value, between 0.1 and 1, and the highest, between 1 and 10"
    require(fits, f"transforms.{name}", list(values), expected)


@dataclass(frozen=True)
class Rotation:
    """Turns the pattern about the middle of the image.

    Attributes:
        probability: of a pattern to be turned.
        degrees: lowest and highest angle, counter-clockwise for one who sees row 0 at the top.
    """

    probability: float = 0.2
    degrees: Range = (-180.0, 180.0)

    def __post_init__(self) -> None:
        _check_probability("rotation.probability", self.probability)
        _check_range("rotation.degrees", self.degrees, -360.0, 360.0)


@dataclass(frozen=True)
class Scaling:
    """Shrinks or magnifies the pattern about the middle of the image.

    Attributes:
        probability: of a pattern to be scaled.
        factor: lowest and highest, at most and at least 1; below 1 and above 1 are equally likely. A pattern is
            looked up at ``factor`` times the distance: it shrinks with a factor above 1.
    """

    probability: float = 0.2
    factor: Range = (0.7, 1.4)

    def __post_init__(self) -> None:
        _check_probability("scaling.probability", self.probability)
        _check_range_about_one("scaling.factor", self.factor)


@dataclass(frozen=True)
class Elastic:
    """Displaces every pixel along rows and columns by smooth noise.

    The noise is uniform between -1 and 1, smoothed by a Gaussian of width sigma, times alpha; its root mean square is
    0.163 alpha / sigma pixels.

    Attributes:
        probability: of a pattern to be deformed.
        alpha: lowest and highest strength, in pixels.
        sigma: lowest and highest width, in pixels.
    """

    probability: float = 0.2
    alpha: Range = (0.0, 200.0)
    sigma: Range = (9.0, 13.0)

    def __post_init__(self) -> None:
        _check_probability("elastic.probability", self.probability)
        _check_range("elastic.alpha", self.alpha, 0.0)
        _check_range("elastic.sigma", self.sigma, 1.0)


@dataclass(frozen=True)
class Gamma:
    """Raises the values, brought to 0–1, to a power, and restores their mean and standard deviation.

    Attributes:
        probability: of a pattern to be changed.
        inverted_probability: of a pattern to be changed upside down, counted from its highest value; this comes first.
        exponent: lowest and highest, at most and at least 1; below 1 and above 1 are equally likely.
    """

    probability: float = 0.3
    inverted_probability: float = 0.1
    exponent: Range = (0.7, 1.5)

    def __post_init__(self) -> None:
        _check_probability("gamma.probability", self.probability)
        _check_probability("gamma.inverted_probability", self.inverted_probability)
        _check_range_about_one("gamma.exponent", self.exponent)


@dataclass(frozen=True)
class Noise:
    """Adds normal noise to every pixel.

    Attributes:
        probability: of a pattern to get noise.
        sd: lowest and highest standard deviation, in normalised values.
    """

    probability: float = 0.1
    sd: Range = (0.0, 0.1)

    def __post_init__(self) -> None:
        _check_probability("noise.probability", self.probability)
        _check_range("noise.sd", self.sd, 0.0)


@dataclass(frozen=True)
class Blur:
    """Smooths the pattern by a Gaussian.

    Attributes:
        probability: of a pattern to be smoothed.
        sigma: lowest and highest width, in pixels.
    """

    probability: float = 0.2
    sigma: Range = (0.5, 1.0)

    def __post_init__(self) -> None:
        _check_probability("blur.probability", self.probability)
        _check_range("blur.sigma", self.sigma, 0.1)


@dataclass(frozen=True)
class Mirroring:
    """Flips the pattern, with even chance along each axis on its own.

    Attributes:
        probability: of a pattern to be dealt one of the mirror states, of which one is as it was.
        axes: along which: rows upside down, columns left to right.
    """

    probability: float = 1.0
    axes: tuple[Axis, ...] = ("rows", "columns")

    def __post_init__(self) -> None:
        _check_probability("mirroring.probability", self.probability)
        fits = len(self.axes) > 0 and len(set(self.axes)) == len(self.axes) and {*self.axes} <= {"rows", "columns"}
        require(fits, "transforms.mirroring.axes", list(self.axes), "[rows], [columns] or [rows, columns]")


@dataclass(frozen=True)
class Shift:
    """Moves the pattern by whole pixels.

    Attributes:
        probability: of a pattern to be moved.
        sd: standard deviation of the normal distribution that is rounded to pixels, along rows and columns alike.
    """

    probability: float = 0.5
    sd: float = 3.0

    def __post_init__(self) -> None:
        _check_probability("shift.probability", self.probability)
        require(0 <= self.sd < float("inf"), "transforms.shift.sd", self.sd, "0 or more pixels")


@dataclass(frozen=True)
class Cutout:
    """Blanks rectangles.

    Attributes:
        probability: of a pattern to get any.
        rectangles: fewest and most.
        side: shortest and longest side of a rectangle, as shares of the image's.
    """

    probability: float = 0.4
    rectangles: tuple[int, int] = (1, 5)
    side: Range = (0.1, 0.333)

    def __post_init__(self) -> None:
        _check_probability("cutout.probability", self.probability)
        fewest, most = self.rectangles
        require(
            1 <= fewest <= most, "transforms.cutout.rectangles", list(self.rectangles), "fewest and most, from 1 on"
        )
        _check_range("cutout.side", self.side, 0.0, 0.9)

    def pixels(self, length: int) -> tuple[int, int]:
        """Shortest and longest side, in pixels, along an axis of ``length`` pixels."""
        shortest = max(1, round(self.side[0] * length))
        return shortest, max(shortest, round(self.side[1] * length))


@dataclass(frozen=True)
class Transforms:
    """The nine transforms of Assalauova et al., J. Appl. Cryst. 55 (2022), 444-454, section 3.3, in their order.

    The paper gives the order only; the numbers are those of pipelines that one of its authors published at the time.
    A probability of 0 switches a transform off.

    Attributes:
        leave_out: name of a transform that is switched off whatever its probability, or "all".
    """

    rotation: Rotation = Rotation()
    scaling: Scaling = Scaling()
    elastic: Elastic = Elastic()
    gamma: Gamma = Gamma()
    noise: Noise = Noise()
    blur: Blur = Blur()
    mirroring: Mirroring = Mirroring()
    shift: Shift = Shift()
    cutout: Cutout = Cutout()
    leave_out: Transform | Literal["all"] | None = None

    def __post_init__(self) -> None:
        for name in get_args(Transform):
            if self.leave_out in (name, "all"):
                off = {"probability": 0.0} | ({"inverted_probability": 0.0} if name == "gamma" else {})
                object.__setattr__(self, name, replace(getattr(self, name), **off))  # as frozen dataclasses are made
