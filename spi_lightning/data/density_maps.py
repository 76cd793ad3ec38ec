"""Electron density maps: MRC files."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from spi_lightning.errors import SpiError


def read_density_map(path: str | Path) -> tuple[np.ndarray, float]:
    """Read a density map (MRC2014, also gzip or bzip2).

    Returns:
        Density ``(z, y, x)`` float32 and the side of a voxel in nm.

    Raises:
        SpiError: no such file, no valid MRC file, not a volume, or voxels that are not cubes.
    """
    import mrcfile

    if not Path(path).is_file():
        raise SpiError(f"{path}: there is no such density map.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what matters of an odd header is checked below
            with mrcfile.open(path, permissive=False) as file:
                density = np.array(file.data)
                sides = [float(file.voxel_size[axis]) / 10 for axis in ("x", "y", "z")]  # Å → nm
                order = [int(file.header[name]) for name in ("mapc", "mapr", "maps")]
    except (ValueError, OSError, EOFError) as error:
        raise SpiError(f"{path}: not a readable MRC file ({error}).") from None
    if sorted(order) != [1, 2, 3]:
        raise SpiError(f"{path}: the header's axis order {order} is not one of 1, 2, 3.")
    if density.ndim != 3 or np.iscomplexobj(density):
        raise SpiError(f"{path}: expected a volume of real numbers, found {density.ndim}-D {density.dtype} data.")
    if min(sides) <= 0 or max(sides) > 1.001 * min(sides):
        raise SpiError(f"{path}: the voxels must be cubes of positive size; the header says {sides} nm along x, y, z.")
    if order != [1, 2, 3]:
        density = density.transpose(*(order[::-1].index(axis) for axis in (3, 2, 1)))
    return density.astype(np.float32), sides[0]
