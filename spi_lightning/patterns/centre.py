"""Where the beam meets the detector, found in the symmetry of a run's mean pattern.

Two symmetries are tried. *Friedel*: at the angles of SPI a pattern equals itself turned by 180° about the beam, so the
masked, normalised correlation of the mean pattern with its own turned copy (Padfield 2012, IEEE Trans. Image Process.
21, 2706, doi:10.1109/TIP.2011.2181402) peaks at twice the centre. *Rings*: particles lie in all orientations, so the
mean pattern is constant along circles; the centre is where circles explain most of its variance. Rings also work where
only a half plane was measured and hardly a pixel has its Friedel mate. The paper's authors use rings too, by fitting
circles through pixels of equal intensity (`spi-processing`, center.py).

Both work on the square root of the mean, which has the same Poisson noise everywhere, and both give as score the share
of the variance that their symmetry explains, so that the better one can be taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import fft, ndimage, optimize

from spi_lightning.errors import SpiError

LEAST_OVERLAP = 0.25  # of the good pixels that must have a good Friedel mate for a centre to be considered
LEAST_SCORE = 0.1  # below, what was found is as likely noise
LEAST_SIGNIFICANCE = 6.0  # the same where few pixels are lit: in standard deviations of a correlation of pure noise
SMOOTHING = 1.0  # pixels; holds the noise of single pixels off the sub-pixel fit
COARSE_SIDE = 96  # binned pixels on the longer side when circles are first tried
MARGIN = 0.25  # how far outside of the detector the centre may lie, in sides of the detector


@dataclass(frozen=True)
class Centre:
    """A beam centre that was found.

    Attributes:
        x, y: column and row in pixels, integers at pixel middles.
        score: share of the variance that the symmetry explains, at most 1.
        uncertainty: standard deviation along the worse direction, pixels: a lower limit. Where the symmetry
            itself is imperfect (few frames, several particles at once), the error is a few times larger.
        method: the symmetry that was used.
    """

    x: float
    y: float
    score: float
    uncertainty: float
    method: Literal["friedel", "rings"]


def find_centre(mean: np.ndarray, mask: np.ndarray, method: Literal["auto", "friedel", "rings"] = "auto") -> Centre:
    """Find the beam centre.

    Args:
        mean: ``(rows, columns)`` mean photons per pixel over many frames.
        mask: bool ``(rows, columns)``, True = good.
        method: ``friedel``, ``rings``, or ``auto``: the one with the higher score.

    Returns:
        The centre; with rings it may lie up to a quarter of the detector's side outside.

    Raises:
        SpiError: no signal, or no symmetry in it.
    """
    good = mask & np.isfinite(mean)
    image = np.sqrt(np.clip(np.where(good, mean, 0.0), 0, None))
    if good.sum() < 100 or np.ptp(image[good]) == 0:
        raise SpiError(
            f"No beam centre can be found: the mean pattern has {int(good.sum())} good pixels and "
            f"{'no signal' if good.any() else 'nothing'} in them. Give it: instrument.centre=[x,y]."
        )
    found = []
    if method in ("auto", "friedel"):
        found.append(_by_friedel(image, good))
    if method in ("auto", "rings"):
        found.append(_by_rings(image, good))
    best = max((centre for centre in found if centre is not None), key=lambda centre: centre.score, default=None)
    lit = int((image[good] > 0).sum())  # among mostly empty pixels, a few chance mates look like symmetry
    needed = max(LEAST_SCORE, LEAST_SIGNIFICANCE * np.sqrt(2 / lit))
    if best is None or best.score < needed:
        score = 0.0 if best is None else best.score
        raise SpiError(
            f"No beam centre can be found: the best symmetry of the mean pattern explains {score:.2f} of its variance; "
            f"with {lit} lit pixels {needed:.2f} are needed. Look at more frames (data.prepare.sample_frames), try "
            "data.prepare.centre.method=rings (for a half plane), or give it: instrument.centre=[x,y]."
        )
    return best


# --- Friedel -----------------------------------------------------------------------------------------------------


def _by_friedel(image: np.ndarray, good: np.ndarray) -> Centre | None:
    """Centre from the correlation with the turned image; None where no true maximum is inside of what is allowed."""
    smooth = _smoothed(image, good)
    correlation, allowed = _self_correlation(smooth, good)
    # A maximum on the rim of what is allowed is the slope of one that lies outside: a half plane has only these.
    inner = ndimage.binary_erosion(allowed, np.ones((3, 3), bool))
    if not inner.any():
        return None
    peak = np.unravel_index(np.argmax(np.where(inner, correlation, -np.inf)), correlation.shape)
    row, column = int(peak[0]), int(peak[1])
    if correlation[row, column] < correlation[row - 1 : row + 2, column - 1 : column + 2].max():
        return None
    score = _likeness(image, good, row, column)
    found = _between_pixels(image, smooth, good, row, column)
    if found is None:
        return None
    shift_x, shift_y, uncertainty = found
    return Centre((column + shift_x) / 2, (row + shift_y) / 2, score, uncertainty / 2, "friedel")


def _self_correlation(image: np.ndarray, good: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Normalised correlation of pixels p and s − p for each sum s = (row, column), and which s have enough pairs.

    With p and s − p both good and each pair counted both ways, the two sides have the same mean and variance, and
    three products of Fourier transforms give all sums.
    """
    rows, columns = 2 * image.shape[0] - 1, 2 * image.shape[1] - 1
    shape = (fft.next_fast_len(rows, real=True), fft.next_fast_len(columns, real=True))
    level = image[good].mean()  # taken off beforehand: less is lost to rounding
    values = np.where(good, image - level, 0.0)
    transforms = [fft.rfft2(a, shape) for a in (good.astype(np.float64), values, values**2)]
    mask_ft, image_ft, square_ft = transforms

    def summed(product: np.ndarray) -> np.ndarray:
        return fft.irfft2(product, shape)[:rows, :columns]

    pairs = np.rint(summed(mask_ft**2))
    allowed = pairs >= max(LEAST_OVERLAP * good.sum(), 50)
    number = np.maximum(pairs, 1)
    mean = summed(image_ft * mask_ft) / number
    variance = summed(square_ft * mask_ft) / number - mean**2
    covariance = summed(image_ft**2) / number - mean**2
    allowed &= variance > 1e-3 * values[good].var()
    return np.where(allowed, covariance / np.where(allowed, variance, 1.0), -1.0), allowed


def _mates(good: np.ndarray, row: int, column: int) -> np.ndarray:
    """bool ``(rows, columns)``: the pixel at ``(row, column)`` minus this one is on the detector and good."""
    mates = np.zeros_like(good)
    rows, columns = good.shape
    top, bottom = max(row - rows + 1, 0), min(row, rows - 1) + 1
    left, right = max(column - columns + 1, 0), min(column, columns - 1) + 1
    if top < bottom and left < right:
        mates[top:bottom, left:right] = good[row - bottom + 1 : row - top + 1, column - right + 1 : column - left + 1][
            ::-1, ::-1
        ]
    return mates


def _likeness(image: np.ndarray, good: np.ndarray, row: int, column: int) -> float:
    """Correlation coefficient of the image, not smoothed, with its turned self."""
    pair = good & _mates(good, row, column)
    y, x = np.nonzero(pair)
    return float(np.corrcoef(image[y, x], image[row - y, column - x])[0, 1])


def _between_pixels(
    image: np.ndarray, smooth: np.ndarray, good: np.ndarray, row: int, column: int
) -> tuple[float, float, float] | None:
    """Sub-pixel shift (x, y) of the sum of coordinates, and its uncertainty, from a paraboloid through nine sums.

    All nine are taken over the same pixels. With a set of its own for each, bright pixels that come and go at the rim
    of a beam stop move the maximum by up to a pixel.
    """
    steps = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    pair = good.copy()
    for i, j in steps:
        pair &= _mates(good, row + i, column + j)
    y, x = np.nonzero(pair)
    if len(y) < 50:
        return None
    vertices = [
        _vertex(
            np.array(steps, dtype=np.float64),
            np.array([((picture[y, x] - picture[row + i - y, column + j - x]) ** 2).sum() for i, j in steps]),
            freedom=len(y),
        )
        for picture in (smooth, image)
    ]
    if vertices[0] is None:
        return None
    # Smoothing makes the residuals small and alike, so how sure the place is must be asked of the image itself.
    return vertices[0][0], vertices[0][1], vertices[1][2] if vertices[1] is not None else float("inf")


def _vertex(steps: np.ndarray, misfit: np.ndarray, freedom: float) -> tuple[float, float, float] | None:
    """Minimum (x, y) of a paraboloid through sums of squares at (y, x) ``steps``, and its standard deviation.

    The covariance of a least-squares estimate is the residual variance times the inverse of half the curvature.
    """
    y, x = steps.T
    terms = np.stack([np.ones_like(x), x, y, x * x / 2, x * y, y * y / 2], axis=1)
    level, slope_x, slope_y, xx, xy, yy = np.linalg.lstsq(terms, misfit, rcond=None)[0]
    curvature = np.array([[xx, xy], [xy, yy]])
    if np.linalg.eigvalsh(curvature)[0] <= 0:
        return None
    shift_x, shift_y = np.clip(-np.linalg.solve(curvature, [slope_x, slope_y]), -1, 1)
    variance = max(level, 0.0) / freedom * np.linalg.eigvalsh(np.linalg.inv(curvature / 2))[-1]
    return float(shift_x), float(shift_y), float(np.sqrt(variance))


def _smoothed(image: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Gaussian mean over good pixels; 0 at bad ones."""
    weight = ndimage.gaussian_filter(good.astype(np.float64), SMOOTHING, mode="constant")
    blurred = ndimage.gaussian_filter(np.where(good, image, 0.0), SMOOTHING, mode="constant")
    return np.where(good, blurred / np.maximum(weight, 1e-9), 0.0)


# --- rings -------------------------------------------------------------------------------------------------------


def _by_rings(image: np.ndarray, good: np.ndarray) -> Centre | None:
    """Centre from circles: tried on a grid on the binned image, then refined on less and less binned ones."""
    factor = max(1, -(-max(image.shape) // COARSE_SIDE))
    binned, usable = _binned(image, good, factor)
    if usable.sum() < 50:
        return None
    rings = _Rings(binned, usable)
    grids = [np.arange(-MARGIN * side, (1 + MARGIN) * side, 3.0) for side in binned.shape]
    tried = np.array([(x, y) for y in grids[0] for x in grids[1]])
    centre = tried[np.argmin([rings.misfit(place) for place in tried])]
    step = 2.0
    while True:
        simplex = centre + step * np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        options = {"initial_simplex": simplex, "xatol": 0.01, "fatol": 1e-9 * rings.total}
        centre = optimize.minimize(rings.misfit, centre, method="Nelder-Mead", options=options).x
        if factor == 1:
            break
        finer = max(factor // 2, 1)
        centre = ((centre + 0.5) * factor) / finer - 0.5
        step = factor / finer
        factor = finer
        rings = _Rings(*_binned(image, good, factor))
    best = rings.misfit(centre)
    freedom = rings.freedom(centre)
    if freedom <= 0:
        return None
    steps = np.array([(i, j) for i in (-1.0, 0.0, 1.0) for j in (-1.0, 0.0, 1.0)])
    around = np.array([rings.misfit(centre + step[::-1]) for step in steps])
    vertex = _vertex(steps, around, freedom)
    # Corrected for the free value of each ring, noise alone scores 0.
    score = 1 - best / freedom * (len(rings.values) - 1) / rings.total
    uncertainty = vertex[2] if vertex is not None else float("inf")
    return Centre(float(centre[0]), float(centre[1]), float(score), uncertainty, "rings")


class _Rings:
    """An image's good pixels, and how badly circles about a point describe them."""

    def __init__(self, image: np.ndarray, good: np.ndarray) -> None:
        self.y, self.x = np.nonzero(good)
        self.values = image[good]
        self.total = float(((self.values - self.values.mean()) ** 2).sum())

    def misfit(self, centre: np.ndarray) -> float:
        """Sum of squares that is left after a profile, linear between whole radii, is taken off."""
        inner, part, number = self._radii(centre)
        weight = np.bincount(inner, 1 - part, number) + np.bincount(inner + 1, part, number)
        summed = np.bincount(inner, (1 - part) * self.values, number)
        summed += np.bincount(inner + 1, part * self.values, number)
        profile = summed / np.maximum(weight, 1e-9)
        rest = self.values - (profile[inner] * (1 - part) + profile[inner + 1] * part)
        return float(rest @ rest)

    def freedom(self, centre: np.ndarray) -> int:
        """Pixels less the values of the profile and the two coordinates."""
        return len(self.values) - len(np.unique(self._radii(centre)[0])) - 2

    def _radii(self, centre: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
        radius = np.hypot(self.x - centre[0], self.y - centre[1])
        inner = radius.astype(np.intp)
        return inner, radius - inner, int(inner.max()) + 2


def _binned(image: np.ndarray, good: np.ndarray, factor: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean over the good pixels of blocks of ``factor`` by ``factor``, and which blocks have any."""
    if factor == 1:
        return image, good
    rows, columns = (side // factor * factor for side in image.shape)
    blocks = (rows // factor, factor, columns // factor, factor)
    number = good[:rows, :columns].reshape(blocks).sum(axis=(1, 3))
    summed = np.where(good, image, 0.0)[:rows, :columns].reshape(blocks).sum(axis=(1, 3))
    return summed / np.maximum(number, 1), number > 0
