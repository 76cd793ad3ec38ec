"""How well EM recovers known classes, over the number of photons in a pattern.

    python docs/figures/make_em_agreement.py [--out FILE.png]

Half-plane patterns of pairs of spheres, five classes by the distance of the two, at random angles, with a gap in the
detector; five data sets for each number of photons. The curve is printed as CSV and drawn.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from spi_lightning.analysis.consensus import adjusted_rand_index, classify_by_consensus
from spi_lightning.analysis.em_images import EMPixels, em_pixels
from spi_lightning.analysis.em_settings import EMSettings
from spi_lightning.report.figures import save

SHAPE, CENTRE, RING = (64, 32), (-0.5, 31.5), (4, 31)
DISTANCES = (0.0, 0.3, 0.36, 0.43, 0.5)  # radians a pixel
PHOTONS = (100, 200, 400, 1000, 3000, 10_000, 100_000)
PATTERNS, SEEDS, STARTS = 200, 5, 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("em_agreement.png"))
    arguments = parser.parse_args()
    print("photons,logarithm,seed,adjusted Rand index with the truth,agreement of starts")
    curves: dict[bool, list[list[float]]] = {}
    for logarithm in (True, False):
        curves[logarithm] = []
        for photons in PHOTONS:
            found = []
            for seed in range(SEEDS):
                index, similarity = recovered(photons, logarithm, seed)
                print(f"{photons},{logarithm},{seed},{index:.3f},{similarity:.3f}", flush=True)
                found.append(index)
            curves[logarithm].append(found)
    save(drawn(curves), arguments.out)


def recovered(photons: float, logarithm: bool, seed: int) -> tuple[float, float]:
    """Adjusted Rand index of the consensus of the starts with the truth, and of the starts with each other."""
    counts, pixels, classes = pairs(photons, seed)
    settings = EMSettings(len(DISTANCES), 24, logarithm=logarithm, iterations=25, starts=STARTS, seed=10 * seed)
    consensus = classify_by_consensus(counts, pixels, settings)
    return adjusted_rand_index(consensus.classification.classes, classes), consensus.similarity


def pairs(photons: float, seed: int) -> tuple[torch.Tensor, EMPixels, torch.Tensor]:
    """Counts, pixels and true classes of patterns with so many photons on average."""
    random = np.random.default_rng(seed)
    mask = torch.ones(SHAPE, dtype=torch.bool)
    mask[29:35] = False
    pixels = em_pixels(mask, CENTRE, *RING)
    classes = random.integers(len(DISTANCES), size=PATTERNS)
    turned = random.uniform(0, math.pi, (PATTERNS, 1))
    along = np.cos(turned) * pixels.x.numpy() + np.sin(turned) * pixels.y.numpy()
    rates = np.exp(-pixels.radius.numpy() / 10) * (1.5 + np.cos(np.array(DISTANCES)[classes, None] * along))
    brightness = photons * random.uniform(0.5, 1.5, (PATTERNS, 1)) / rates.sum(1, keepdims=True)
    return torch.from_numpy(random.poisson(rates * brightness)), pixels, torch.from_numpy(classes)


def drawn(curves: dict[bool, list[list[float]]]) -> Figure:
    """The median of the seeds, and each of them as a dot."""
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axis = figure.subplots()
    for logarithm, colour in ((True, "#1f5a94"), (False, "#c0392b")):
        found = np.array(curves[logarithm])
        name = "log(1 + photons)" if logarithm else "photons"
        axis.semilogx(PHOTONS, np.median(found, axis=1), color=colour, label=f"{name}, median of {SEEDS}")
        axis.semilogx(np.repeat(PHOTONS, SEEDS), found.ravel(), ".", color=colour, alpha=0.6)
    axis.axhline(0.95, color="#8a8a8a", lw=0.8, ls="--")
    axis.set(xlabel="photons in a pattern", ylabel="adjusted Rand index with the truth", ylim=(-0.03, 1.03))
    axis.legend(frameon=False, loc="lower right")
    return figure


if __name__ == "__main__":
    main()
