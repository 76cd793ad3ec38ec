"""Rotation, scaling, elastic deformation, mirroring and shift: where each pixel of the result comes from."""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from spi_lightning.augmentation.draws import Draws


def source_lines(flip: torch.Tensor, shift: torch.Tensor, length: int) -> torch.Tensor:
    """Along one axis: the line of the unmoved pattern that each line of a mirrored, then shifted one shows.

    Args:
        flip: ``(n,)`` bool.
        shift: ``(n,)`` int64, pixels.
        length: lines along the axis.

    Returns:
        ``(n, length)`` int64; below 0 or from ``length`` on where the shift has brought in a border.
    """
    lines = torch.arange(length, device=shift.device) + shift[:, None]
    return torch.where(flip[:, None], length - 1 - lines, lines)


def pick(images: torch.Tensor, which: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Rearrange images by whole lines.

    Args:
        images: ``(n, height, width)`` of any number type.
        which: ``(m,)`` int64, the image that each of the results is made of.
        rows: ``(m, r)`` int64, where each row of the result comes from.
        columns: ``(m, c)`` int64.

    Returns:
        ``(m, r, c)``, ``images[which[k], rows[k, i], columns[k, j]]``.
    """
    # Whole rows first, then the columns: several times faster than one gather with an index for every pixel.
    lines = images.flatten(0, 1).index_select(0, (which[:, None] * images.shape[1] + rows).flatten())
    lines = lines.view(*rows.shape, images.shape[2])
    return lines.gather(2, columns[:, None, :].expand(-1, rows.shape[1], -1))


def moved(patterns: torch.Tensor, draws: Draws, rows: torch.Tensor, columns: torch.Tensor, zero: float) -> torch.Tensor:
    """Rotate, scale, deform, mirror and shift, each pattern in one step.

    A pattern that is only mirrored and shifted keeps its exact values; the others are interpolated once, bilinearly.
    A border that a shift brings in repeats the outermost line, so that what follows sees the values of a pattern; it
    is for the caller to blank it.

    Args:
        patterns: ``(n, 1, rows, columns)`` float32.
        draws: of these patterns.
        rows: ``(n, rows)`` int64, on the patterns' device, as :func:`source_lines` gives them.
        columns: ``(n, columns)`` int64.
        zero: value outside of the image.

    Returns:
        ``(n, 1, rows, columns)`` float32.
    """
    device = patterns.device
    height, width = patterns.shape[-2:]
    rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    bent = (draws.angle != 0) | (draws.scale != 1) | (draws.alpha != 0)
    result = torch.empty_like(patterns, memory_format=torch.contiguous_format)
    for chosen, interpolated in ((~bent, False), (bent, True)):
        places = chosen.nonzero()[:, 0]
        if len(places) == 0:
            continue
        which = places.to(device)
        if interpolated:
            grid = sampling_grid(draws, places, rows[which], columns[which])
            # Outside of its image grid_sample puts 0: make that stand for ``zero`` meanwhile.
            some = functional.grid_sample(patterns[which].sub_(zero), grid, "bilinear", "zeros", align_corners=False)
            some.add_(zero)
        else:
            some = pick(patterns[:, 0], which, rows[which], columns[which])[:, None]
        result.index_copy_(0, which, some)
    return result


def sampling_grid(draws: Draws, places: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Where in its pattern each pixel of a rotated, scaled and deformed one is looked up.

    As in batchgenerators (F. Isensee et al., doi:10.5281/zenodo.3632567, ``augment_spatial``): pixel u, counted from
    the middle of the image, is looked up at ``scale · R(angle) · (u + d(u))``, the displacement d being white noise
    within the image, smoothed by a Gaussian. Smoothing is a product of two matrices with the noise, one an axis; the
    noise is summed over cells as wide as the Gaussian, which changes its statistics by 1e-4 at most.

    Args:
        draws: of the whole batch.
        places: ``(m,)`` int64 on the CPU, which of its patterns.
        rows: ``(m, rows)`` int64, rows of the unmoved pattern that the rows of the result stand for.
        columns: ``(m, columns)`` int64.

    Returns:
        ``(m, rows, columns, 2)`` float32, (x, y) as ``grid_sample`` wants them, -1 and 1 at the image's edges.
    """
    device, (m, height), width = rows.device, rows.shape, columns.shape[1]
    sine, cosine = draws.angle[places].sin(), draws.angle[places].cos()
    turn = torch.stack([torch.stack([-sine, cosine], 1), torch.stack([cosine, sine], 1)], 1)  # [x, y] of [row, column]
    turn = turn * draws.scale[places, None, None] * torch.tensor([2 / width, 2 / height])[:, None]
    turn = turn.to(device)
    # (x, y) of all columns side by side, so that each operation runs along whole lines.
    along_row = (turn[:, None, :, 1] * (columns - (width - 1) / 2)[:, :, None]).flatten(1)[:, None]
    down_rows = turn[:, :, 0].repeat(1, width)[:, None]
    grid = torch.addcmul(along_row, down_rows, (rows - (height - 1) / 2)[:, :, None])
    alpha = draws.alpha[places]
    if bool((alpha != 0).any()):
        coarse = draws.coarse[places]
        down, across = coarse.shape[-2:]
        cell_rms = math.sqrt(height / down * width / across / 3)  # a uniform number between -1 and 1 has variance 1/3
        coarse = (coarse * (alpha * cell_rms)[:, None, None, None]).to(device)
        sigma = draws.sigma[places].to(device)
        half = torch.einsum("mxb,mbkl,mcl->mkcx", turn, coarse, _gaussians(columns, across, sigma))
        grid.baddbmm_(_gaussians(rows, down, sigma), half.reshape(m, down, -1))
    return grid.view(m, height, width, 2)


def _gaussians(lines: torch.Tensor, cells: int, sigma: torch.Tensor) -> torch.Tensor:
    """``(m, lines, cells)``: normalised Gaussians of width ``sigma`` ``(m,)`` between lines and the cells' middles."""
    size = lines.shape[1] / cells
    middles = (torch.arange(cells, device=lines.device) + 0.5) * size - 0.5
    distance = (lines[:, :, None] - middles) / sigma[:, None, None]
    return (-0.5 * distance.square()).exp() / (math.sqrt(2 * math.pi) * sigma[:, None, None])
