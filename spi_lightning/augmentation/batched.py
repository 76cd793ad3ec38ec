"""All nine transforms on a whole batch at once, in torch, on any device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from spi_lightning.augmentation.covering import covered, hide, moved_mask
from spi_lightning.augmentation.draws import draw
from spi_lightning.augmentation.intensities import blurred, gamma_curved, noisy
from spi_lightning.augmentation.resampling import moved, source_lines
from spi_lightning.augmentation.seeds import scrambled
from spi_lightning.augmentation.settings import Transforms

Change = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class BatchedPipeline:
    """The paper's augmentation, for the device that the network is on.

    Rotation, scaling, elastic deformation, mirroring and shift are one look-up of each pattern; gamma, noise and blur
    follow, then masked pixels, borders and cutouts get the value of no photons. In distribution the result is that of
    :class:`~spi_lightning.augmentation.with_batchgenerators.BatchgeneratorsPipeline`, whose transforms are applied one
    after the other in the paper's order, but for bilinear interpolation in the place of cubic splines.

    Attributes:
        transforms: probabilities and ranges.
    """

    transforms: Transforms = field(default_factory=Transforms)
    in_workers = False

    def __call__(self, patterns: torch.Tensor, mask: torch.Tensor, zero: float, seed: int) -> torch.Tensor:
        """See :class:`~spi_lightning.augmentation.pipeline.Pipeline`."""
        # Under the autocast of a training step the coordinates would lose their last bits.
        with torch.no_grad(), torch.autocast(patterns.device.type, enabled=False):
            return self._augment(patterns, mask, zero, scrambled(seed))

    def _augment(self, patterns: torch.Tensor, mask: torch.Tensor, zero: float, seed: int) -> torch.Tensor:
        device, (height, width) = patterns.device, mask.shape
        generator = torch.Generator().manual_seed(seed)
        # Everything but the pixels' noise is drawn on the CPU: it is then the same on every device, and which patterns
        # a transform is for is known without waiting for the device.
        draws = draw(self.transforms, len(patterns), (height, width), generator)
        if device.type != "cpu":
            generator = torch.Generator(device).manual_seed(seed)
        rows = source_lines(draws.flip[:, 0], draws.shift[:, 0], height).to(device)
        columns = source_lines(draws.flip[:, 1], draws.shift[:, 1], width).to(device)
        result = moved(patterns, draws, rows, columns, zero)
        _change(result, draws.inverted_gamma, 1.0, lambda some, exponents: gamma_curved(some, exponents, True))
        _change(result, draws.gamma, 1.0, lambda some, exponents: gamma_curved(some, exponents, False))
        _change(result, draws.noise, 0.0, lambda some, sd: noisy(some, sd, generator))
        widest = self.transforms.blur.sigma[1]
        _change(result, draws.blur, 0.0, lambda some, sigma: blurred(some, sigma, widest))
        shown = moved_mask(mask, rows, columns)
        cut = (draws.rectangles[:, 0, 0] < draws.rectangles[:, 0, 1]).nonzero()[:, 0]
        if len(cut) > 0:
            places = cut.to(device)
            shown[places] &= ~covered(draws.rectangles[cut].to(device), (height, width))
        return hide(result, shown, zero)


def _change(patterns: torch.Tensor, strengths: torch.Tensor, neutral: float, change: Change) -> None:
    """Change, in place, those patterns whose strength ``(n,)``, on the CPU, is not the neutral one."""
    chosen = (strengths != neutral).nonzero()[:, 0]
    if len(chosen) > 0:
        places = chosen.to(patterns.device)
        patterns.index_copy_(0, places, change(patterns[places], strengths[chosen].to(patterns.device)))
