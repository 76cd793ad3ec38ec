"""Any part of a run, in the formats of other programs."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from spi_lightning.errors import SpiError
from spi_lightning.instrument import Geometry
from spi_lightning.patterns import open_run
from spi_lightning.patterns.export import export_cxi, export_dragonfly
from spi_lightning.patterns.export_cxi import write_cxi


@pytest.fixture
def run(tmp_path: Path):
    rng = np.random.default_rng(3)
    mask = rng.random((12, 10)) > 0.1
    frames = rng.poisson(0.7, (600, 12, 10)).astype(np.uint16) * mask
    write_cxi(
        tmp_path / "run7.cxi",
        [frames],
        600,
        shape=(12, 10),
        dtype=np.uint16,
        mask=mask,
        geometry=Geometry(1700.0, 0.13, 75e-6, (4.5, 6.0), "horizontal"),
        labels=rng.integers(0, 2, 600),
    )
    return open_run(tmp_path / "run7.cxi")


def test_a_subset_keeps_frames_ids_labels_mask_and_geometry(run, tmp_path: Path) -> None:
    chosen = np.random.default_rng(1).permutation(600)[:300]
    export_cxi(run, chosen, tmp_path / "part.cxi", program="test", command="test x=1")
    part = open_run(tmp_path / "part.cxi")
    assert np.array_equal(part.read(range(300)), run.read(chosen))
    assert part.ids.tolist() == run.ids[chosen].tolist()
    assert np.array_equal(part.labels, run.labels[chosen])
    assert np.array_equal(part.mask, run.mask)
    assert part.geometry.photon_energy == pytest.approx(1700.0)
    assert part.geometry.centre == run.geometry.centre
    with h5py.File(tmp_path / "part.cxi", "r") as file:
        process = file["entry_1/image_1/process_1"]
        assert process["command"][()] == b"test x=1"
        assert run.fingerprint() in process["source"][()].decode()


@pytest.mark.parametrize("name", ["photons.emc", "photons.h5"])
def test_a_subset_for_dragonfly_reads_back_equal(run, tmp_path: Path, name: str) -> None:
    export_dragonfly(run, [5, 3, 599], tmp_path / name, tmp_path / "detector.h5")
    back = open_run(tmp_path / name, detector=tmp_path / "detector.h5")
    assert np.array_equal(back.read(range(3)), run.read([5, 3, 599]))
    assert np.array_equal(back.mask, run.mask)


def test_what_cannot_be_exported_is_told_and_leaves_nothing(run, tmp_path: Path) -> None:
    before = set(tmp_path.iterdir())
    with pytest.raises(SpiError, match="the selection is empty"):
        export_cxi(run, [], tmp_path / "none.cxi", program="test", command="")
    with pytest.raises(SpiError, match=r"\.emc or \.h5"):
        export_dragonfly(run, [1], tmp_path / "photons.txt", tmp_path / "detector.h5")
    run.geometry = Geometry(centre=(1.0, 1.0))
    with pytest.raises(SpiError, match="photon_energy, distance, pixel_size is not known"):
        export_dragonfly(run, [1], tmp_path / "photons.emc", tmp_path / "detector.h5")
    assert set(tmp_path.iterdir()) == before
