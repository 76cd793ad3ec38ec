"""The authors' own program finds the same sizes in simulated spheres as in spheres written down in closed form."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.integration.conftest import BIN

PERFECT = (
    "simulate.beam.centre_jitter=0",
    "simulate.background.gas_level=0",
    "simulate.background.flat_level=0",
    "simulate.background.streak_share=0",
)
FIT = ("-m", "300", "-M", "1200", "-r", "8", "-R", "55", "-w", "7.9", "-d", "0.581", "--pix", "0.0006", "-i", "5")


def sizes(file: Path, out: Path) -> np.ndarray:
    """Diameters by spi_estimate_size, nm."""
    out.mkdir()
    command = [BIN / "spi_estimate_size.py", "-o", out, "-p", "1", "-n", "300", *FIT, file]
    subprocess.run(command, check=True, capture_output=True, cwd=file.parent)
    with h5py.File(out / file.name, "r") as result:
        return result["entry_1/image_1/psd/size"][()] / 10


@pytest.mark.slow
def test_sizes_of_simulated_spheres(spi, tmp_path: Path) -> None:
    if not (BIN / "spi_estimate_size.py").exists():
        pytest.skip("spi-processing, which comes with the development extra, is not installed")
    spheres = ("particle@simulate.particles.virus=sphere", "simulate.particles.virus.diameter.spread=8")
    bright = ("simulate.composition.single.share=1e6", "simulate.least_photons=60000")
    spi(
        "spi-simulate", "simulate=amo86615", "simulate.n_patterns=24", *spheres, *bright, *PERFECT, "run=a", "workers=1"
    )
    ours, exact = tmp_path / "spheres.cxi", tmp_path / "exact.cxi"
    shutil.copy(tmp_path / "a/patterns.cxi", ours)
    with h5py.File(ours, "r") as file:
        diameters = file["entry_1/image_1/truth/diameter"][:, 0].astype(np.float64)
        photons = file["entry_1/image_1/truth/signal"][()]
    y, x = np.indices((128, 128))
    q = 4 * np.pi / 0.79 * np.sin(np.arctan(np.hypot(x - 63.5, y - 63.5) * 0.0006 / 0.581) / 2)
    s = q * diameters[:, None, None] / 2
    shape = (3 * (np.sin(s) - s * np.cos(s)) / s**3) ** 2
    shutil.copy(ours, exact)
    with h5py.File(exact, "r+") as file:
        image = file["entry_1/image_1"]
        good = image["mask"][()] == 0
        rates = shape * (photons / (shape * good).sum((1, 2)))[:, None, None]
        image["data"][...] = np.random.default_rng(0).poisson(rates).clip(max=65535)
    difference = sizes(ours, tmp_path / "of_ours") - sizes(exact, tmp_path / "of_exact")
    assert abs(np.median(difference)) < 0.15  # half a step of the size grid
    assert np.quantile(np.abs(difference), 0.9) < 0.7
