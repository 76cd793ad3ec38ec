"""Any part of a run, in the formats of other programs."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from spi_lightning.errors import SpiError
from spi_lightning.instrument import Geometry
from spi_lightning.patterns import frames as frames_module
from spi_lightning.patterns import open_run
from spi_lightning.patterns.export import export_cxi, export_dragonfly
from spi_lightning.patterns.export_cxi import write_cxi
from spi_lightning.patterns.prepare import prepare


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


def test_a_selection_may_be_true_and_false(run, tmp_path: Path) -> None:
    chosen = run.labels == 1
    export_cxi(run, chosen, tmp_path / "part.cxi", program="test", command="")
    part = open_run(tmp_path / "part.cxi")
    assert part.ids.tolist() == run.ids[chosen].tolist()
    assert np.array_equal(part.read([0]), run.read(np.flatnonzero(chosen)[:1]))


@pytest.mark.parametrize(
    ("indices", "expected"),
    [
        ([1.7], "whole numbers from 0 on, or by 600 times"),
        ([True, False], "got bool of shape"),
        ([[1, 2]], r"int64 of shape \(1, 2\)"),
        (["a"], "whole numbers"),
        ([-1, 2, 600], "2 of the 3 indices .* such as -1, 600: .*0 to 599"),
        (np.array([2**64 - 1], np.uint64), "no such pattern"),
        ([3, 1, 3, 1, 2], "2 of the 5 indices .* such as 1, 3: chosen more than once"),
        (np.zeros(600, bool), "the selection is empty"),
    ],
)
def test_indices_that_are_none(run, tmp_path: Path, indices: object, expected: str) -> None:
    before = set(tmp_path.iterdir())
    with pytest.raises(SpiError, match=expected):
        export_cxi(run, indices, tmp_path / "part.cxi", program="test", command="")
    with pytest.raises(SpiError, match=expected):
        export_dragonfly(run, indices, tmp_path / "photons.emc", tmp_path / "detector.h5")
    assert set(tmp_path.iterdir()) == before


def test_the_run_s_own_files_are_not_written_over(run, tmp_path: Path) -> None:
    (tmp_path / "link.h5").symlink_to(tmp_path / "run7.cxi")
    content = (tmp_path / "run7.cxi").read_bytes()
    for patterns in (run, prepare(run)):
        for name in ("run7.cxi", "link.h5", "../" + tmp_path.name + "/run7.cxi"):
            with pytest.raises(SpiError, match="one of the files that the patterns are read from"):
                export_cxi(patterns, [1], tmp_path / name, program="test", command="")
            with pytest.raises(SpiError, match="one of the files that the patterns are read from"):
                export_dragonfly(patterns, [1], tmp_path / "photons.emc", tmp_path / name)
    with pytest.raises(SpiError, match="one of the files that the patterns are read from"):
        export_dragonfly(run, [1], tmp_path / "link.h5", tmp_path / "detector.h5")
    assert (tmp_path / "run7.cxi").read_bytes() == content
    with pytest.raises(SpiError, match="a file each"):
        export_dragonfly(run, [1], tmp_path / "same.h5", f"{tmp_path}/./same.h5")


def test_a_failed_export_leaves_photons_and_detector_as_they_were(tmp_path: Path) -> None:
    frames = np.ones((4, 6, 5), np.float32)
    frames[3, 2, 2] = 0.5
    geometry = Geometry(1700.0, 0.13, 75e-6, (2.0, 3.0))
    write_cxi(tmp_path / "adu.cxi", [frames], 4, shape=(6, 5), dtype=np.float32, geometry=geometry)
    raw = open_run(tmp_path / "adu.cxi")
    for existing in (b"", b"an older one"):
        for name in ("photons.emc", "detector.h5"):
            (tmp_path / name).unlink(missing_ok=True)
            if existing:
                (tmp_path / name).write_bytes(existing)
        before = {path: path.read_bytes() for path in tmp_path.iterdir()}
        with pytest.raises(SpiError, match=r"frame 3 has 0\.5"):
            export_dragonfly(raw, range(4), tmp_path / "photons.emc", tmp_path / "detector.h5")
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_memory_does_not_grow_with_the_frames(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames_module, "BLOCK_BYTES", 5 * 12 * 10 * 2)
    sizes, read = [], run.read
    monkeypatch.setattr(run, "read", lambda indices: sizes.append(len(indices)) or read(indices))
    export_cxi(run, range(12), tmp_path / "part.cxi", program="test", command="")
    assert [size for size in sizes if size > 1] == [5, 5, 2]


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
