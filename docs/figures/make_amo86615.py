"""Real frames of experiment amo86615 and simulated ones, side by side, in pictures and in numbers.

    python docs/figures/make_amo86615.py [--real FILE.cxi] [--out FOLDER]

The real file is the one of 20 labelled PR772 frames; it is read where it lies and never copied.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from spi_lightning.analysis.psd import angular_mean, radial_bins
from spi_lightning.commands.simulate import simulation_recipe
from spi_lightning.config.compose import composed
from spi_lightning.config.launch import conf_folder
from spi_lightning.config.schema import SimulateConfig
from spi_lightning.patterns import open_run
from spi_lightning.report.figures import contact_sheet, save

ROOT = Path(__file__).resolve().parents[2]
SIMULATED = 600


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, default=ROOT.parent / "shared/data/pr772_amo86615_20_labelled.cxi")
    parser.add_argument("--out", type=Path, default=ROOT / "outputs/figures")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)

    real = open_run(arguments.real)
    frames, labels = real.read(range(len(real))), real.labels
    experiment = simulation_recipe(
        composed("simulate", conf_folder(), SimulateConfig, ["simulate=amo86615"])
    ).experiment()
    blocks = [experiment.simulate(range(i, i + 20)) for i in range(0, SIMULATED, 20)]
    simulated = np.concatenate([block.frames for block in blocks])
    called = np.concatenate([block.scores for block in blocks]) > 0
    good = experiment.flags == 0

    order = np.argsort(-labels, kind="stable")
    chosen = np.concatenate([np.flatnonzero(called)[:8], np.flatnonzero(~called)[:12]])
    for name, shown, mask, which, marks in (
        ("real", frames, real.mask, order, labels == 1),
        ("simulated", simulated, good, chosen, called),
    ):
        titles = [f"{'single' if marks[i] else 'other'}, {shown[i][mask].sum():,.0f} photons" for i in which]
        save(contact_sheet(shown[which], mask, titles, columns=5, top=300), arguments.out / f"amo86615_{name}.png")
    save(psds(frames[labels == 1], real.mask, simulated[called], good), arguments.out / "amo86615_psd.png")
    compare("all", frames, real.mask, simulated, good)
    compare("called single", frames[labels == 1], real.mask, simulated[called], good)
    print(f"Pictures in {arguments.out}")


def rings(frames: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """PSD of each frame, ``(n, rings)``."""
    bins = radial_bins((128, 128), (63.5, 63.5))
    return angular_mean(torch.from_numpy(frames.astype(np.float64)), bins, torch.from_numpy(mask)).numpy()


def psds(real: np.ndarray, real_mask: np.ndarray, simulated: np.ndarray, mask: np.ndarray) -> Figure:
    """PSDs of single hits, each on the scale of its own first ring."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axis = figure.subplots()
    for frames, good, colour, name in (
        (simulated[:40], mask, "#c0c0c0", "simulated"),
        (real, real_mask, "#c0392b", "real"),
    ):
        curves = rings(frames, good)
        for number, curve in enumerate(curves / curves[:, 8:12].mean(1, keepdims=True)):
            axis.semilogy(curve, color=colour, lw=0.8, label=name if number == 0 else None)
    axis.set(xlabel="distance from the beam (px)", ylabel="PSD (arbitrary)", xlim=(0, 85))
    axis.legend()
    return figure


def compare(what: str, real: np.ndarray, real_mask: np.ndarray, simulated: np.ndarray, mask: np.ndarray) -> None:
    """Print percentiles of what the eye judges by."""
    print(f"\n{what}: {len(real)} real, {len(simulated)} simulated; 10 %, 50 %, 90 %")
    for name, measure in (
        ("photons", lambda f, m: f[:, m].sum(1)),
        ("lit pixels", lambda f, m: (f[:, m] > 0).mean(1)),
        ("radius of 1st minimum, px", lambda f, m: 13 + np.argmin(smooth(rings(f, m))[:, 13:25], 1)),
        ("1st minimum : next maximum", ring_contrast),
        ("level at 40 px", lambda f, m: np.nanmean(rings(f, m)[:, 38:43], 1)),
        ("level at 60 px", lambda f, m: np.nanmean(rings(f, m)[:, 58:63], 1)),
        ("level at 80 px", lambda f, m: np.nanmean(rings(f, m)[:, 76:84], 1)),
    ):
        a, b = (np.percentile(measure(f, m), [10, 50, 90]) for f, m in ((real, real_mask), (simulated, mask)))
        print(f"  {name:28s} real {a[0]:9.3g} {a[1]:9.3g} {a[2]:9.3g}   simulated {b[0]:9.3g} {b[1]:9.3g} {b[2]:9.3g}")


def smooth(curves: np.ndarray) -> np.ndarray:
    return np.stack([np.convolve(np.nan_to_num(c, nan=np.nanmax(c)), [0.25, 0.5, 0.25], "same") for c in curves])


def ring_contrast(frames: np.ndarray, mask: np.ndarray) -> np.ndarray:
    curves = smooth(rings(frames, mask))
    at = 13 + np.argmin(curves[:, 13:25], 1)
    return np.array([curve[i] / curve[i : i + 12].max() for curve, i in zip(curves, at, strict=True)])


if __name__ == "__main__":
    main()
