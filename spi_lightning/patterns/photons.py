"""From detector units (ADU) to photons: finding the gain in the data, and rounding.

A pixel that caught k photons reads about ``offset + k * gain``, spread by the electronic noise. Where the noise is
below a quarter of the gain, the histogram of pixel values shows these peaks one by one, and their distance is the gain.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage, optimize, signal, special

from spi_lightning.errors import SpiError

FEWEST_PIXELS = 1000  # below, a histogram has no peaks worth the name
COARSEST = 5.0  # ADU per photon below which whole ADU beat with the photon peaks
MOST_PEAKS = 4  # one-photon to four-photon peak; those above are thinly populated and add little
SIGNIFICANCE = 5.0  # how far a peak must stand above the valley before it, in units of the Poisson noise
MISPLACED = 0.02  # how far detectors put their peaks from an even ladder (charge sharing, thresholds), in gains

GIVE_THE_GAIN = "Give the gain: data.prepare.photons.mode=gain data.prepare.photons.gain=ADU_PER_PHOTON."


@dataclass(frozen=True)
class Gain:
    """What the photon peaks say of a detector.

    Attributes:
        gain: ADU per photon.
        offset: ADU of a pixel without a photon.
        noise: standard deviation of a pixel without a photon, ADU.
        peaks: how many photon peaks were used, that of zero photons not counted.
    """

    gain: float
    offset: float
    noise: float
    peaks: int


def find_gain(pixels: np.ndarray) -> Gain:
    """Gain, offset and noise from the photon peaks in a sample of pixel values.

    The peaks are found in a lightly smoothed histogram; Gaussians on a falling background (charge shared with
    neighbours) are then fitted to the square roots of its counts, all as wide as the noise or wider. The peaks stand
    on a ladder of even steps up to a tolerance, so that the well-populated ones do not decide alone.

    Args:
        pixels: ADU of good pixels of many frames, any shape and real dtype; values that are not finite are left out.

    Returns:
        The gain, which is right to about 1 % where 1,000 pixels or more lie in the one-photon peak.

    Raises:
        SpiError: too few pixels, no noise, or no photon peak that stands out.
    """
    values = np.asarray(pixels, dtype=np.float64).ravel()
    values = values[np.isfinite(values)]
    if values.size < FEWEST_PIXELS:
        raise SpiError(
            f"{values.size} pixel values are too few to find the gain in their histogram; {FEWEST_PIXELS} are needed. "
            f"{GIVE_THE_GAIN}"
        )
    whole = bool(np.all(values == np.rint(values)))
    if whole:  # spread whole ADU over their width: a histogram of whole numbers in odd bins has peaks of its own
        values = values + np.random.default_rng(0).uniform(-0.5, 0.5, values.size)
    low, quarter = np.percentile(values, [5, 25])
    if quarter - low <= 1e-6 * max(abs(low), abs(quarter)):
        raise SpiError(
            f"A fifth of the pixels have the same value {low:g}: without electronic noise the zero-photon peak cannot "
            "be told from zeros put in by a threshold. Choose data.prepare.photons.mode=none if these are photons "
            f"already. {GIVE_THE_GAIN}"
        )
    zero, noise = _zero_peak(values, low, quarter - low)
    edges = np.arange(zero - 5 * noise, zero + 150 * noise, noise / 6)
    counts = np.histogram(values, edges)[0].astype(np.float64)
    middles = (edges[1:] + edges[:-1]) / 2
    first, n_peaks = _first_photon(counts, middles, zero, noise)
    gain, offset, noise = _fit(counts, middles, zero, first - zero, noise, n_peaks)
    if whole:
        noise = float(np.sqrt(max(noise**2 - 1 / 12, 0.0)))
        if gain < COARSEST:
            raise SpiError(
                f"The pixel values are whole ADU, and {gain:.2g} ADU per photon, which the histogram seems to show, "
                f"may as well be an effect of rounding. {GIVE_THE_GAIN}"
            )
    if not (0.8 < gain / (first - zero) < 1.25 and noise < gain / 2):
        raise SpiError(
            f"The photon peaks in the histogram do not fit an even ladder: the first stands {first - zero:.4g} ADU "
            f"above that of zero photons, the fit says {gain:.4g} ADU per photon with noise {noise:.4g} ADU. "
            f"{GIVE_THE_GAIN}"
        )
    return Gain(gain=float(gain), offset=float(offset), noise=float(noise), peaks=n_peaks)


def adu_to_photons(adu: np.ndarray, gain: float, offset: float = 0.0, threshold: float = 0.7) -> np.ndarray:
    """Number of photons in each pixel.

    What was caught, ``(adu - offset) / gain`` photons, is rounded to the nearest number; from ``threshold`` on, and
    only from there on, it is at least one.

    Args:
        adu: pixel values, any shape and real dtype.
        gain: ADU per photon.
        offset: ADU of a pixel without a photon.
        threshold: part of a photon, above 0 and at most 1.

    Returns:
        uint32 of the same shape. Negative values and NaN give 0; more than uint32 holds gives the most that it does
        (in float32: the largest number below 2**32).
    """
    wide = adu.dtype.kind != "f" and adu.dtype.itemsize >= 4  # float32 holds whole numbers only up to 2**24
    precision = np.dtype(np.float64) if wide else np.result_type(adu.dtype, np.float32)
    largest = np.nextafter(precision.type(2**32), precision.type(0))
    with np.errstate(invalid="ignore", over="ignore"):  # NaN compares as false and so becomes 0
        caught = (adu.astype(precision) - precision.type(offset)) / precision.type(gain)
        photons = np.clip(np.floor(caught + precision.type(0.5)), 1, largest)
        return np.where(caught >= threshold, photons, 0).astype(np.uint32)


def _zero_peak(values: np.ndarray, low: float, spread: float) -> tuple[float, float]:
    """Position and width of the lowest large peak; ``low`` and ``spread`` are its percentiles, roughly."""
    edges = np.arange(low - 3 * spread, low + 150 * spread, spread / 6)
    smooth = ndimage.gaussian_filter1d(np.histogram(values, edges)[0].astype(np.float64), 3.0)
    peaks, _ = signal.find_peaks(smooth)
    large = peaks[smooth[peaks] > 0.3 * smooth.max()] if len(peaks) else peaks
    if not len(large):
        raise SpiError(f"The histogram of pixel values has no peak at zero photons. {GIVE_THE_GAIN}")
    zero = float(edges[large[0]] + spread / 12)
    below = zero - values[values < zero]  # photons only add: the lower half of the peak is noise alone
    return zero, float(1.4826 * np.median(below))


def _first_photon(counts: np.ndarray, middles: np.ndarray, zero: float, noise: float) -> tuple[float, int]:
    """Where the one-photon peak stands, and how many peaks follow each other without a gap."""
    width = 0.4 * noise / (middles[1] - middles[0])
    smooth = ndimage.gaussian_filter1d(counts, width)
    peaks, _ = signal.find_peaks(smooth)
    prominence = signal.peak_prominences(smooth, peaks)[0]
    averaged = 2 * np.sqrt(np.pi) * width  # bins that a Gaussian filter averages, which is what lowers the noise
    significance = prominence * np.sqrt(averaged) / np.sqrt(2 * smooth[peaks] - prominence + 1 / averaged)
    found = middles[peaks[(significance > SIGNIFICANCE) & (middles[peaks] > zero + 2.5 * noise)]]
    if not len(found):
        raise SpiError(
            f"The histogram of pixel values shows no photon peak above that of zero photons (which stands at "
            f"{zero:.4g} ADU, noise {noise:.4g} ADU): too few photons in the frames looked at, or noise above a "
            f"quarter of the gain. Raise data.prepare.sample_frames. {GIVE_THE_GAIN}"
        )
    first = float(found[0])
    ladder = [np.abs(found - zero - k * (first - zero)).min() < 0.25 * (first - zero) for k in range(1, MOST_PEAKS + 1)]
    return first, ladder.index(False) if False in ladder else MOST_PEAKS


def _fit(
    counts: np.ndarray, middles: np.ndarray, zero: float, step: float, noise: float, n_peaks: int
) -> tuple[float, float, float]:
    """Gain, offset and noise of ``n_peaks + 1`` Gaussians with a common floor, by least squares."""
    used = (middles > zero - 2 * noise) & (middles < zero + (n_peaks + 0.4) * step)
    x, y = middles[used], counts[used]
    k = np.arange(n_peaks + 1)
    height = np.maximum(np.interp(zero + k * step, x, y), 1.0)

    def model(p: np.ndarray) -> np.ndarray:
        offset, gain, width, widening = p[:4]
        places, heights, floor, decay = p[4 : 5 + n_peaks], p[5 + n_peaks : -2], p[-2], p[-1]
        middle = offset + gain * (k + places)
        variance = width**2 + k * widening**2
        peaks = np.exp(heights[:, None] - (x - middle[:, None]) ** 2 / (2 * variance[:, None])).sum(axis=0)
        return peaks + np.exp(floor - decay * (x - offset) / gain) * special.ndtr((x - offset) / abs(width))

    def residuals(p: np.ndarray) -> np.ndarray:
        # The square root of a Poisson count has variance 1/4 whatever its mean.
        return np.concatenate([2 * (np.sqrt(model(p)) - np.sqrt(y)), p[4 : 5 + n_peaks] / MISPLACED])

    floor = np.log(max(0.3 * np.percentile(y, 10), 0.01))
    start = np.concatenate([[zero, step, noise, 0.3 * noise], np.zeros(n_peaks + 1), np.log(height), [floor, 0.0]])
    scale = np.concatenate([np.full(4, noise), np.full(n_peaks + 1, MISPLACED), np.ones(n_peaks + 3)])
    # Bounds keep the exponentials finite on the way; none is reached by a fit that is any good.
    reach = np.concatenate(
        [[2 * noise, step / 2, noise, 5 * noise], np.full(n_peaks + 1, 0.2), np.full(n_peaks + 3, 9.0)]
    )
    lower, upper = start - reach, start + reach
    lower[2], lower[3] = 0.2 * noise, -reach[3]
    fit = optimize.least_squares(residuals, start, bounds=(lower, upper), x_scale=scale, loss="soft_l1", max_nfev=500)
    return float(fit.x[1]), float(fit.x[0]), float(abs(fit.x[2]))
