from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from matplotlib.colors import to_hex
from matplotlib.image import imread

from spi_lightning.analysis.class_choice import ClassMeasures
from spi_lightning.report.classes import class_page
from spi_lightning.report.curves import SINGLE
from spi_lightning.report.figures import save

NAN = math.nan


def measures() -> ClassMeasures:
    columns = (
        [120.0, 0.0, 300.0, 1.0],  # patterns
        [0.21, NAN, 0.66, NAN],  # contrast
        [88.4, NAN, 66.6, 30.0],  # diameter
        [0.31, NAN, 0.15, math.inf],  # misfit
        [0.4, NAN, 0.68, NAN],  # symmetry
        [0.5, NAN, 0.25, NAN],  # spread
        [0.35, NAN, 0.93, 0.01],  # score
    )
    return ClassMeasures(*(torch.tensor(column, dtype=torch.float64) for column in columns))


def images() -> tuple[torch.Tensor, torch.Tensor]:
    grid = torch.arange(41, dtype=torch.float64) - 20
    radius = torch.hypot(grid[:, None], grid[None, :])
    seen = ((radius > 4) & (radius < 19)).double()
    brightness = torch.tensor([1.0, 0.0, 30.0, 3.0], dtype=torch.float64)[:, None, None]
    return brightness * (torch.exp(-radius / 6) * (1.1 + radius.cos())) * seen, seen.expand(4, -1, -1).clone()


def test_classes_stand_in_order_of_score_with_their_numbers() -> None:
    pictures, coverage = images()
    coverage[1] = 0
    figure = class_page(pictures, coverage, measures(), torch.tensor([False, False, True, False]))
    shown = [axis for axis in figure.axes if axis.get_visible()]
    assert [axis.get_title(loc="left") for axis in shown] == ["2  chosen", "0", "3", "1"]
    texts = [axis.texts[0].get_text() for axis in shown]
    assert texts[0] == "300 patterns   score 0.93\ncontrast 0.66   misfit 0.15   67 nm\nsymmetry 0.68   spread 0.25"
    assert texts[2] == "1 pattern   score 0.01\ncontrast –   misfit ∞   30 nm\nsymmetry –   spread –"
    assert texts[3].strip() == "empty"
    assert figure.get_suptitle() == "1 of 4 classes chosen (framed): 300 of 421 patterns"
    framed = [to_hex(axis.spines["left"].get_edgecolor()) == SINGLE for axis in shown]
    assert framed == [True, False, False, False]


def test_never_seen_is_masked_and_the_rest_is_logarithmic_on_a_scale_of_its_own() -> None:
    pictures, coverage = images()
    figure = class_page(pictures, coverage, measures(), torch.zeros(4, dtype=torch.bool))
    (axis,) = [axis for axis in figure.axes if axis.get_title(loc="left") == "2"]
    drawn = axis.images[0].get_array()
    assert np.array_equal(np.ma.getmaskarray(np.ma.masked_invalid(drawn)), ~(coverage[2] > 0).numpy())
    low, top = axis.images[0].get_clim()
    brightest = float(pictures[2].max().log10())
    assert abs(top - brightest) < 0.1
    assert 0 < top - low <= 2.5 + 1e-9
    y, x = np.unravel_index(np.argmax(np.where(coverage[2] > 0, pictures[2], 0)), pictures[2].shape)
    assert np.isclose(drawn[y, x], brightest)


def test_logarithms_are_shown_as_photons() -> None:
    pictures, coverage = images()
    nothing = torch.zeros(4, dtype=torch.bool)
    plain = class_page(pictures, coverage, measures(), nothing).axes[0].images[0]
    back = class_page(pictures.log1p(), coverage, measures(), nothing, logarithm=True).axes[0].images[0]
    assert np.allclose(plain.get_array().filled(0), back.get_array().filled(0))


def test_the_page_is_a_picture_that_grows_with_the_classes(tmp_path: Path) -> None:
    pictures, coverage = images()
    many = ClassMeasures(*(torch.cat([values] * 3) for values in vars(measures()).values()))
    page = class_page(pictures.repeat(3, 1, 1), coverage.repeat(3, 1, 1), many, torch.ones(12, dtype=torch.bool))
    few = class_page(
        pictures[:1],
        coverage[:1],
        ClassMeasures(*(v[:1] for v in vars(measures()).values())),
        torch.ones(1, dtype=torch.bool),
    )
    save(page, tmp_path / "many.png", dpi=60)
    save(few, tmp_path / "few.png", dpi=60)
    large, small = imread(tmp_path / "many.png"), imread(tmp_path / "few.png")
    assert large.shape[0] > 2 * small.shape[0]
    assert np.ptp(small[..., :3]) > 0.5
