from __future__ import annotations

import numpy as np

from spi_lightning.augmentation.batched import BatchedPipeline
from spi_lightning.data.normalisation import Normalisation
from spi_lightning.report.augmentation import augmentation_grid
from tests.unit.augmentation.alone import only


def test_each_row_has_the_pattern_and_its_variants() -> None:
    """Mirrored only, every variant is the pattern in one of four states; masked pixels are grey in the first column."""
    patterns = np.random.default_rng(0).poisson(0.5, (2, 12, 8)).astype(np.uint16)
    mask = np.ones((12, 8), dtype=bool)
    mask[5] = False
    patterns[:, ~mask] = 0
    normalisation = Normalisation("none", 0.4, 1.3)
    figure = augmentation_grid(patterns, mask, BatchedPipeline(only(mirroring={})), normalisation, range(5))
    pictures = [axis.images[0].get_array() for axis in figure.axes if axis.images]
    assert len(pictures) == 2 * 6
    for row, pattern in zip((pictures[:6], pictures[6:]), patterns, strict=True):
        assert np.isnan(np.asarray(row[0].filled(np.nan)))[~mask].all()
        np.testing.assert_allclose(row[0][mask], pattern[mask] / 1.3, atol=1e-6)
        states = [pattern, pattern[::-1], pattern[:, ::-1], pattern[::-1, ::-1]]
        for variant in row[1:]:
            assert sum(np.allclose(variant, state / 1.3, atol=1e-5) for state in states) >= 1


def test_an_empty_pattern_can_be_drawn() -> None:
    empty, mask = np.zeros((1, 8, 8), dtype=np.uint8), np.ones((8, 8), dtype=bool)
    figure = augmentation_grid(empty, mask, BatchedPipeline(), Normalisation("none", 0.1, 1.0), [1])
    figure.canvas.draw()
    assert sum(len(axis.images) for axis in figure.axes) == 2
