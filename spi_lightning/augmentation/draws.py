"""What happens to each pattern of a batch: random numbers turned into angles, factors, shifts, rectangles."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from spi_lightning.augmentation.settings import Cutout, Elastic, Mirroring, Range, Transforms


@dataclass(frozen=True)
class Draws:
    """One entry a pattern, on the CPU; a transform that a pattern is spared has the value that changes nothing.

    Attributes:
        angle: ``(n,)`` float32, rad.
        scale: ``(n,)`` float32; above 1 shrinks.
        alpha: ``(n,)`` float32, strength of the elastic deformation, pixels.
        sigma: ``(n,)`` float32, its width, pixels.
        coarse: ``(n, 2, cells, cells)`` float32, normal noise from which its displacements along rows and columns grow.
        inverted_gamma: ``(n,)`` float32, exponent.
        gamma: ``(n,)`` float32, exponent.
        noise: ``(n,)`` float32, standard deviation.
        blur: ``(n,)`` float32, width in pixels.
        flip: ``(n, 2)`` bool, along rows, columns.
        shift: ``(n, 2)`` int64, along rows, columns: a pixel takes the value of that one so many further on.
        rectangles: ``(n, most, 4)`` int64, first row, row after the last, first column, column after the last.
    """

    angle: torch.Tensor
    scale: torch.Tensor
    alpha: torch.Tensor
    sigma: torch.Tensor
    coarse: torch.Tensor
    inverted_gamma: torch.Tensor
    gamma: torch.Tensor
    noise: torch.Tensor
    blur: torch.Tensor
    flip: torch.Tensor
    shift: torch.Tensor
    rectangles: torch.Tensor


def draw(transforms: Transforms, n: int, shape: tuple[int, int], generator: torch.Generator) -> Draws:
    """Draw what happens to each of ``n`` patterns of ``shape`` (rows, columns).

    Args:
        transforms: probabilities and ranges.
        n: patterns.
        shape: of a pattern.
        generator: of the CPU, so that the same seed means the same on every device.
    """
    dice = _Dice(n, generator)
    t = transforms
    return Draws(
        angle=dice.maybe(t.rotation.probability, dice.uniform(*t.rotation.degrees) * (math.pi / 180), 0.0),
        scale=dice.maybe(t.scaling.probability, dice.about_one(t.scaling.factor), 1.0),
        alpha=dice.maybe(t.elastic.probability, dice.uniform(*t.elastic.alpha), 0.0),
        sigma=dice.uniform(*t.elastic.sigma),
        coarse=torch.randn((n, 2, *cells(t.elastic, shape)), generator=generator),
        inverted_gamma=dice.maybe(t.gamma.inverted_probability, dice.about_one(t.gamma.exponent), 1.0),
        gamma=dice.maybe(t.gamma.probability, dice.about_one(t.gamma.exponent), 1.0),
        noise=dice.maybe(t.noise.probability, dice.uniform(*t.noise.sd), 0.0),
        blur=dice.maybe(t.blur.probability, dice.uniform(*t.blur.sigma), 0.0),
        flip=_flips(dice, t.mirroring),
        shift=_shifts(dice, t.shift.probability, t.shift.sd),
        rectangles=_rectangles(dice, t.cutout, shape),
    )


def cells(elastic: Elastic, shape: tuple[int, int]) -> tuple[int, int]:
    """Into how many cells along rows and columns an image is cut for the coarse noise of the elastic deformation.

    A cell is no wider than the narrowest Gaussian: the sum of Gaussians so far apart is even to 1e-4.
    """
    return math.ceil(shape[0] / elastic.sigma[0]), math.ceil(shape[1] / elastic.sigma[0])


class _Dice:
    """Random numbers for the ``n`` patterns of a batch."""

    def __init__(self, n: int, generator: torch.Generator):
        self.n = n
        self.generator = generator

    def uniform(self, low: float, high: float, *more: int) -> torch.Tensor:
        """``(n, *more)`` float32 between ``low`` and ``high``."""
        return torch.rand((self.n, *more), generator=self.generator) * (high - low) + low

    def whole(self, low: torch.Tensor | int, high: torch.Tensor | int, *more: int) -> torch.Tensor:
        """``(n, *more)`` int64 from ``low`` to ``high``, both included; they may differ from one to the next."""
        share = torch.rand((self.n, *more), generator=self.generator, dtype=torch.float64)
        return (share * (high - low + 1)).floor().long() + low

    def about_one(self, values: Range) -> torch.Tensor:
        """``(n,)`` float32 within the range, above or below 1 with equal chance, as in batchgenerators."""
        below, above = self.uniform(values[0], 1.0), self.uniform(1.0, values[1])
        return torch.where(self.chosen(0.5), below, above) if values[0] < 1 else above

    def chosen(self, probability: float) -> torch.Tensor:
        """``(n,)`` bool."""
        return torch.rand(self.n, generator=self.generator) < probability

    def maybe(self, probability: float, values: torch.Tensor, otherwise: float) -> torch.Tensor:
        """Values where chosen with a probability, and ``otherwise`` elsewhere."""
        return torch.where(self.chosen(probability), values, otherwise)


def _flips(dice: _Dice, mirroring: Mirroring) -> torch.Tensor:
    allowed = torch.tensor(["rows" in mirroring.axes, "columns" in mirroring.axes])
    even = torch.rand((dice.n, 2), generator=dice.generator) < 0.5
    return even & allowed & dice.chosen(mirroring.probability)[:, None]


def _shifts(dice: _Dice, probability: float, sd: float) -> torch.Tensor:
    pixels = (torch.randn((dice.n, 2), generator=dice.generator) * sd).round().long()
    return pixels * dice.chosen(probability)[:, None]


def _rectangles(dice: _Dice, cutout: Cutout, shape: tuple[int, int]) -> torch.Tensor:
    most = cutout.rectangles[1]
    count = dice.whole(*cutout.rectangles) * dice.chosen(cutout.probability)
    used = torch.arange(most) < count[:, None]
    edges = []
    for length in shape:
        side = dice.whole(*cutout.pixels(length), most) * used
        first = dice.whole(0, length - side, most)
        edges += [first, first + side]
    return torch.stack(edges, -1)
