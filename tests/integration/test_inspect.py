"""spi-inspect on real and foreign files."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest


def summary(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text())


def is_picture(path: Path, at_least: int = 100) -> bool:
    from PIL import Image

    with Image.open(path) as picture:
        spread = np.asarray(picture.convert("L")).std()
        return min(picture.size) >= at_least and spread > 5


def test_real_labelled_frames(spi, tmp_path: Path, shared_data: Path) -> None:
    done = spi("spi-inspect", f"data.path={shared_data / 'pr772_amo86615_20_labelled.cxi'}", "run=look")
    facts = summary(tmp_path / "look")
    assert facts["patterns"] == 20
    assert facts["labels"] == "8 single hits, 12 others"
    assert facts["centre (x, y)"] == [63.5, 63.5]
    assert facts["lowest, highest"] == [0.0, 841.0]
    assert "8 single hits" in done.stdout
    assert is_picture(tmp_path / "look/contact_sheet.png")
    assert is_picture(tmp_path / "look/mean_and_psd.png")


def test_raw_real_frames_are_shown_even_where_they_cannot_be_prepared(spi, tmp_path: Path, shared_data: Path) -> None:
    raw = shared_data / "pr772_amo86615_10_adu.cxi"
    spi("spi-inspect", f"data.path={raw}", "run=raw")
    assert "photons.mode=histogram" in summary(tmp_path / "raw")["not prepared"]
    assert is_picture(tmp_path / "raw/contact_sheet.png")
    spi("spi-inspect", "data=raw_adu", f"data.path={raw}", "run=photons")
    facts = summary(tmp_path / "photons")
    assert facts["found"]["gain"] == pytest.approx(7.8, rel=0.03)
    assert "not prepared" not in facts


def test_the_paper_crop_finds_its_edge(spi, tmp_path: Path) -> None:
    """A panel whose beam is below its long edge: the half plane lies along the columns."""
    rng = np.random.default_rng(0)
    y, x = np.indices((150, 260))
    rate = 300 / (1 + np.hypot(x - 130.0, y - 152.0) / 6) ** 3
    with h5py.File(tmp_path / "panel.h5", "w") as file:
        file["frames"] = rng.poisson(rate, (5, 150, 260)).astype(np.uint16)
    geometry = ("instrument=pnccd_front", "instrument.centre=[130,152]")
    spi("spi-inspect", "data=paper_crop", "data.path=panel.h5", *geometry, "run=look")
    facts = summary(tmp_path / "look")
    assert sorted(facts["shape used"]) == [96, 192]
    assert facts["centre (x, y)"][0] == pytest.approx(96, abs=1)


def test_several_files_are_one_run(spi, tmp_path: Path) -> None:
    for number in (2, 10):
        with h5py.File(tmp_path / f"run{number}.h5", "w") as file:
            file["frames"] = np.full((3, 8, 8), number, np.uint8)
    spi("spi-inspect", "data.path=run*.h5", "run=look")
    facts = summary(tmp_path / "look")
    assert (facts["files"], facts["patterns"]) == (2, 6)
    assert facts["first and last id"] == ["run2:0", "run10:2"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "data.path: this value must be given"),
        (("data.path=nowhere.cxi",), "nowhere.cxi"),
        (("data.path=text.h5",), "not an HDF5"),
        (("data.path=empty.h5",), "empty.h5"),
        (("data.path=two.h5",), "data.dataset=PATH"),
        (("data.path=two.h5", "data.dataset=missing"), "missing"),
        (("data.path=two.h5", "data.dataset=a", "data.prepare.labels.path=labels.csv"), "labels.csv"),
        (("data.pth=two.h5",), "Did you mean 'path'?"),
        (("data.path=two.h5", "data.prepare.crop.binnning=2"), "Did you mean 'binning'?"),
        (("data.path=two.h5", "data.prepare.crop.binning=0"), "crop.binning is 0"),
        (("data.path=two.h5", "data.prepare.crop.binning=two"), "found 'two'"),
        (("data=papercrop", "data.path=two.h5"), "Did you mean 'paper_crop'?"),
        (("patterns=many", "data.path=two.h5"), "patterns: found 'many'"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_sentence(spi, tmp_path: Path, arguments, message: str) -> None:
    (tmp_path / "text.h5").write_text("no HDF5 at all\n")
    (tmp_path / "labels.csv").write_text("two:99,1\n")
    with h5py.File(tmp_path / "empty.h5", "w") as file:
        file.create_group("nothing")
    with h5py.File(tmp_path / "two.h5", "w") as file:
        file["a"] = file["b"] = np.zeros((2, 8, 8), np.uint8)
        file["b2"] = np.zeros((2, 8, 8), np.uint8)
    done = spi("spi-inspect", *arguments, "run=look", ok=False)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "look").glob("*.png")) if (tmp_path / "look").exists() else True
