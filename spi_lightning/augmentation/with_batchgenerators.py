"""All nine transforms by batchgenerators, the library that the paper used."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from spi_lightning.augmentation.covering import hide
from spi_lightning.augmentation.seeds import seeded_globals
from spi_lightning.augmentation.settings import Shift, Transforms
from spi_lightning.errors import require

AXES = {"rows": 0, "columns": 1}


@dataclass(frozen=True)
class BatchgeneratorsPipeline:
    """The paper's augmentation, pattern by pattern on the CPU: for the data loader's worker processes.

    F. Isensee et al., batchgenerators, doi:10.5281/zenodo.3632567.

    Attributes:
        transforms: probabilities and ranges.
        order: of the splines that interpolate a rotated, scaled or deformed pattern, 0 to 5.
    """

    transforms: Transforms = field(default_factory=Transforms)
    order: int = 3
    in_workers = True

    def __post_init__(self) -> None:
        require(0 <= self.order <= 5, "order", self.order, "0 to 5")

    def __call__(self, patterns: torch.Tensor, mask: torch.Tensor, zero: float, seed: int) -> torch.Tensor:
        """See :class:`~spi_lightning.augmentation.pipeline.Pipeline`."""
        data = patterns.numpy(force=True)  # what SpatialTransform returns is new: the others may write into it
        with seeded_globals(seed), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "This function is deprecated", DeprecationWarning)  # random_integers
            for change in _up_to_the_detector(self.transforms, self.order, zero):
                data = change(data=data)["data"]
            data = hide(torch.from_numpy(data), mask.cpu(), zero).numpy()
            for change in _after_the_detector(self.transforms, (data.shape[2], data.shape[3]), zero):
                data = change(data=data)["data"]
        return torch.from_numpy(data).to(patterns.device)


def _up_to_the_detector(transforms: Transforms, order: int, zero: float) -> list[Callable[..., dict[str, Any]]]:
    """What changes the values, in the paper's order."""
    from batchgenerators.transforms.color_transforms import GammaTransform
    from batchgenerators.transforms.noise_transforms import GaussianBlurTransform, GaussianNoiseTransform
    from batchgenerators.transforms.spatial_transforms import SpatialTransform

    t = transforms
    low, high = (math.radians(degrees) for degrees in t.rotation.degrees)
    return [
        SpatialTransform(
            None,  # as large as it was
            do_elastic_deform=t.elastic.probability > 0,
            alpha=t.elastic.alpha,
            sigma=t.elastic.sigma,
            p_el_per_sample=t.elastic.probability,
            do_rotation=t.rotation.probability > 0,
            angle_x=(low, high),
            p_rot_per_sample=t.rotation.probability,
            do_scale=t.scaling.probability > 0,
            scale=t.scaling.factor,
            p_scale_per_sample=t.scaling.probability,
            border_mode_data="constant",
            border_cval_data=zero,
            order_data=order,
            random_crop=False,
        ),
        GammaTransform(t.gamma.exponent, True, retain_stats=True, p_per_sample=t.gamma.inverted_probability),
        GammaTransform(t.gamma.exponent, False, retain_stats=True, p_per_sample=t.gamma.probability),
        GaussianNoiseTransform(t.noise.sd, p_per_sample=t.noise.probability),  # its "variance" is used as an sd
        GaussianBlurTransform(t.blur.sigma, p_per_sample=t.blur.probability),
    ]


def _after_the_detector(
    transforms: Transforms, shape: tuple[int, int], zero: float
) -> list[Callable[..., dict[str, Any]]]:
    """What moves and covers pixels, the mask's gaps with them, in the paper's order."""
    from batchgenerators.transforms.noise_transforms import BlankRectangleTransform
    from batchgenerators.transforms.spatial_transforms import MirrorTransform

    t = transforms
    fewest, most = t.cutout.rectangles
    return [
        MirrorTransform(tuple(AXES[axis] for axis in t.mirroring.axes), p_per_sample=t.mirroring.probability),
        lambda data: {"data": _shifted(data, t.shift, zero)},
        BlankRectangleTransform(
            [t.cutout.pixels(length) for length in shape],
            zero,
            (fewest, most),
            p_per_sample=t.cutout.probability,
            p_per_channel=1.0,
        ),
    ]


def _shifted(data: np.ndarray, shift: Shift, zero: float) -> np.ndarray:
    """Shift by whole pixels; borders get the value ``zero``.

    In the place of batchgenerators' RandomShiftTransform, which turns an array of one number into an integer: numpy
    2.4 refuses that.

    Args:
        data: ``(n, 1, rows, columns)``.
        shift: probability and width.
        zero: value of what comes in.
    """
    result = data.copy()
    for pattern, target in zip(data[:, 0], result[:, 0], strict=True):
        if np.random.uniform() < shift.probability:  # noqa: NPY002
            sources, targets = [], []
            for length in pattern.shape:
                by = int(np.clip(round(np.random.normal(0.0, shift.sd)), -length, length))  # noqa: NPY002
                sources.append(slice(max(by, 0), length + min(by, 0)))
                targets.append(slice(max(-by, 0), length + min(-by, 0)))
            target[:] = zero
            target[tuple(targets)] = pattern[tuple(sources)]
    return result
