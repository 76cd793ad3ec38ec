"""Bad labels, masks, backgrounds, truth and geometry."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.integration.bad_inputs import PATTERNS, PREDICT, TRAIN, Bad
from tests.integration.bad_patterns import COUNTS, frames, replaced

LABELS = f"spi-inspect run=out {PATTERNS} data.prepare.labels.path="
MASK = f"spi-inspect run=out {PATTERNS} data.prepare.mask_file="


def text(name: str, content: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(content)


def raw(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def array(name: str, values: np.ndarray) -> Callable[[Path], object]:
    return lambda folder: np.save(folder / name, values)


def few_singles(folder: Path) -> None:
    replaced("labels", (np.arange(120) < 1).astype(np.int8))(folder)


BAD = [
    Bad("labels that are not there", LABELS + "nowhere.csv", ("nowhere.csv", "does not exist")),
    Bad("no labels at all", f"{TRAIN} data.path=bad.h5", ("no labels", "data.prepare.labels.path"), frames(COUNTS)),
    Bad(
        "labels: one too few in the file of patterns",
        f"{TRAIN} data.path=bad.cxi",
        ("bad.cxi", "labels", "(119,)"),
        replaced("labels", np.ones(119, np.int8)),
    ),
    Bad(
        "labels: a value of 7 in the file of patterns",
        f"{TRAIN} data.path=bad.cxi",
        ("bad.cxi", "7"),
        replaced("labels", np.full(120, 7, np.int8)),
    ),
    Bad(
        "labels: NaN in the file of patterns",
        f"{TRAIN} data.path=bad.cxi",
        ("0 single hits", "data.prepare.labels.path"),
        replaced("labels", np.full(120, np.nan)),
    ),
    Bad(
        "labels: all single hits", f"{TRAIN} data.path=bad.cxi", ("others",), replaced("labels", np.ones(120, np.int8))
    ),
    Bad("labels: one single hit for two folds", f"{TRAIN} data.path=bad.cxi", ("single hit", "fold"), few_singles),
    Bad("labels: an empty file", LABELS + "bad.csv", ("bad.csv is empty",), text("bad.csv", "")),
    Bad(
        "labels: a picture",
        LABELS + "bad.csv",
        ("bad.csv", "binary file"),
        raw("bad.csv", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"),
    ),
    Bad(
        "labels: words that are no labels",
        LABELS + "bad.csv",
        ("bad.csv", "maybe"),
        text("bad.csv", "id,label\nsim1:0,1\nsim1:1,maybe\n"),
    ),
    Bad(
        "labels: ids of another run",
        LABELS + "bad.csv",
        ("bad.csv", "r7:15", "not in the data"),
        text("bad.csv", "id,label\nr7:15,1\n"),
    ),
    Bad(
        "labels: a pattern with two of them",
        LABELS + "bad.csv",
        ("bad.csv", "sim1:0", "contradictory"),
        text("bad.csv", "id,label\nsim1:0,1\nsim1:0,0\n"),
    ),
    Bad(
        "labels: indices that count from 1",
        LABELS + "bad.csv",
        ("bad.csv", "120", "count from 1"),
        text("bad.csv", "index\n" + "\n".join(map(str, range(100, 121)))),
    ),
    Bad(
        "labels: a table with other columns",
        LABELS + "bad.csv",
        ("bad.csv",),
        text("bad.csv", "time,temperature\n12.5,301.2\n13.5,301.3\n"),
    ),
    Bad("labels: JSON nested without end", LABELS + "bad.json", ("bad.json",), text("bad.json", "[" * 100_000)),
    Bad(
        "labels: a dataset that is not there",
        f"{LABELS}simulated/patterns.cxi data.prepare.labels.dataset=entry_1/x",
        ("patterns.cxi", "entry_1/x", "The file holds"),
    ),
    Bad(
        "mask of another shape",
        MASK + "bad.npy",
        ("bad.npy", "(9, 9)", "(96, 48)"),
        array("bad.npy", np.zeros((9, 9), np.uint8)),
    ),
    Bad(
        "mask of true and false without saying which is good",
        MASK + "bad.npy",
        ("bad.npy", "mask_kind=good"),
        array("bad.npy", np.ones((96, 48), np.bool_)),
    ),
    Bad("mask of NaN", MASK + "bad.npy", ("bad.npy", "NaN"), array("bad.npy", np.full((96, 48), np.nan))),
    Bad(
        "mask that leaves nothing",
        MASK + "bad.npy",
        ("bad.npy", "no good pixel"),
        array("bad.npy", np.ones((96, 48), np.uint8)),
    ),
    Bad("mask of objects", MASK + "bad.npy", ("bad.npy", "cannot be read"), array("bad.npy", np.full((96, 48), None))),
    Bad(
        "background of too few frames",
        "spi-inspect run=out data.path=bad.h5 data.prepare.background.mode=level",
        ("too few", "background"),
        frames(COUNTS[:5]),
    ),
    Bad(
        "a crop that the binning does not divide",
        f"spi-inspect run=out {PATTERNS} data.prepare.crop.shape=[95,48] data.prepare.crop.binning=2",
        ("data.prepare.crop.shape", "binning=2"),
    ),
    Bad(
        "a centre far off the frames",
        f"spi-inspect run=out {PATTERNS} data.prepare.crop.shape=[32,32] instrument.centre=[900,900]",
        ("centre",),
    ),
    Bad(
        "a negative photon energy",
        f"{PREDICT} {PATTERNS} instrument.photon_energy=-1700.0",
        ("instrument.photon_energy", "-1700"),
    ),
    Bad("a distance of zero", f"spi-inspect run=out {PATTERNS} instrument.distance=0.0", ("instrument.distance",)),
    Bad(
        "a centre that is not a number",
        f"spi-inspect run=out {PATTERNS} instrument.centre=[nan,3.0]",
        ("instrument.centre",),
    ),
    Bad(
        "truth of another length",
        f"{TRAIN} {PATTERNS} truth.path=bad.csv",
        ("bad.csv", "121"),
        text("bad.csv", "\n".join(["index,label", *(f"{i},0" for i in range(122))])),
    ),
    Bad(
        "truth in a dataset that is not there",
        f"{TRAIN} {PATTERNS} truth.dataset=entry_1/nothing",
        ("entry_1/nothing",),
    ),
    Bad(
        "no photon peaks to find the gain from",
        "spi-inspect run=out data.path=bad.h5 data.prepare.photons.mode=histogram",
        ("gain",),
        frames(np.zeros((12, 16, 20), np.float32)),
    ),
    Bad(
        "a detector file that is none",
        "spi-inspect run=out data.path=bad.emc data.detector=bad.h5",
        ("bad.emc",),
        raw("bad.emc", b"\5\0\0\0"),
    ),
]
