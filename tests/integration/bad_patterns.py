"""Bad files of patterns."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tests.integration.bad_inputs import PREDICT, TRAIN, Bad

INSPECT = "spi-inspect run=out data.path="
STRICTLY = "spi-inspect run=out data.prepare.sample_frames=null data.path="  # what cannot be prepared is not shown
RNG = np.random.default_rng(0)
COUNTS = RNG.poisson(0.8, (12, 16, 20)).astype(np.uint16)


def sound(folder: Path, name: str = "bad.cxi") -> Path:
    """A copy of the simulated patterns, to be spoilt."""
    return Path(shutil.copy(folder / "simulated/patterns.cxi", folder / name))


def spoilt(change: Callable[[h5py.Group], object]) -> Callable[[Path], None]:
    """The simulated patterns after a change to their group."""

    def make(folder: Path) -> None:
        with h5py.File(sound(folder), "a") as file:
            change(file["entry_1/image_1"])

    return make


def frames(values: Any, **options: Any) -> Callable[[Path], None]:
    """A file of nothing but frames."""

    def make(folder: Path) -> None:
        with h5py.File(folder / "bad.h5", "w") as file:
            file.create_dataset("frames", data=values, **options)

    return make


def replaced(name: str, values: Any) -> Callable[[Path], None]:
    """The simulated patterns with another dataset in place of one of theirs."""

    def change(image: h5py.Group) -> None:
        del image[name]
        image[name] = values

    return spoilt(change)


def with_pixel(value: float) -> np.ndarray:
    """Frames of floats of which one has an odd pixel."""
    values = COUNTS.astype(np.float32)
    values[3, 4, 5] = value
    return values


def cut_short(folder: Path) -> None:
    path = sound(folder)
    os.truncate(path, path.stat().st_size // 2)


def zeroed_inside(folder: Path) -> None:
    path = sound(folder)
    with h5py.File(path) as file:
        places = [file["entry_1/image_1/data"].id.get_chunk_info(i) for i in range(60)]
    with open(path, "r+b") as file:
        for place in places:
            file.seek(place.byte_offset)
            file.write(b"\0" * place.size)


def declared(shape: tuple[int, ...], chunks: tuple[int, ...]) -> Callable[[Path], None]:
    """A dataset that says how large it is, and holds nothing."""

    def make(folder: Path) -> None:
        with h5py.File(folder / "bad.h5", "w") as file:
            file.create_dataset("frames", shape, np.uint16, chunks=chunks, compression="gzip")

    return make


def linked(link: Any) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        with h5py.File(folder / "bad.h5", "w") as file:
            file["entry_1/data_1/data"] = link

    return make


def loop(folder: Path) -> None:
    with h5py.File(folder / "bad.h5", "w") as file:
        file["a"], file["b"] = h5py.SoftLink("/b"), h5py.SoftLink("/a")


def unknown_filter(folder: Path) -> None:
    frames(COUNTS, chunks=(1, 16, 20), compression="gzip")(folder)
    path = folder / "bad.h5"
    raw = path.read_bytes()
    message = b"\x01\x00\x08\x00\x01\x00\x01\x00deflate\x00"  # id 1, 8 bytes of name, flags, one value, the name
    assert raw.count(message) == 1
    path.write_bytes(raw.replace(message, b"\xfd\x7f\x08\x00\x00\x00\x01\x00deflate\x00"))  # 32765, for tests


def raw_outside(folder: Path) -> None:
    (folder / "secret.bin").write_bytes(bytes(5000))
    with h5py.File(folder / "bad.h5", "w") as file:
        file.create_dataset("frames", (5, 10, 10), np.uint8, external=[("secret.bin", 0, 500)])


def virtual_without_source(folder: Path) -> None:
    layout = h5py.VirtualLayout((6, 10, 10), np.uint16)
    layout[:] = h5py.VirtualSource("gone.h5", "frames", (6, 10, 10))
    with h5py.File(folder / "bad.h5", "w") as file:
        file.create_virtual_dataset("frames", layout)


def two_shapes(folder: Path) -> None:
    for number, size in ((1, 16), (2, 20)):
        with h5py.File(folder / f"run{number}.h5", "w") as file:
            file["frames"] = np.ones((3, size, size), np.uint16)


def same_patterns_twice(folder: Path) -> None:
    sound(folder, "one.cxi"), sound(folder, "two.cxi")


BAD = [
    Bad("a file that is not there", INSPECT + "nowhere.cxi", ("nowhere.cxi", "does not exist", "Check the name")),
    Bad("a glob that matches nothing", INSPECT + "'run*/x.cxi'", ("No file matches run*/x.cxi", "Check the pattern")),
    Bad("a folder in place of a file", INSPECT + "simulated", ("simulated is a folder", "Name the files in it")),
    Bad("an empty file", INSPECT + "bad.h5", ("bad.h5 is empty", "again"), lambda f: (f / "bad.h5").touch()),
    Bad(
        "text in a file called .h5",
        INSPECT + "bad.h5",
        ("bad.h5", "not an HDF5", "Give the file"),
        lambda f: (f / "bad.h5").write_text("these are no patterns\n" * 50),
    ),
    Bad("a named pipe", INSPECT + "pipe", ("pipe is not a regular file",), lambda f: os.mkfifo(f / "pipe")),
    Bad("a file that was cut short", INSPECT + "bad.cxi", ("bad.cxi", "truncated", "again"), cut_short),
    Bad(
        "HDF5 without a dataset",
        INSPECT + "bad.h5",
        ("bad.h5", "no dataset"),
        lambda f: h5py.File(f / "bad.h5", "w").close(),
    ),
    Bad(
        "data.dataset that is not there",
        INSPECT + "simulated/patterns.cxi data.dataset=entry_1/raw",
        ("entry_1/raw", "simulated/patterns.cxi", "The file holds"),
    ),
    Bad("frames, none of them", INSPECT + "bad.h5", ("bad.h5", "no "), frames(np.zeros((0, 16, 20), np.uint16))),
    Bad("a single frame to train on", f"{TRAIN} data.path=bad.h5", ("label",), frames(COUNTS[:1])),
    Bad("frames of no pixels", INSPECT + "bad.h5", ("bad.h5", "(5, 0, 20)"), frames(np.zeros((5, 0, 20), np.uint16))),
    Bad("complex frames", INSPECT + "bad.h5", ("bad.h5", "complex"), frames(COUNTS.astype(np.complex64))),
    Bad(
        "frames of five axes",
        INSPECT + "bad.h5",
        ("bad.h5", "(2, 3, 2, 8, 8)"),
        frames(np.zeros((2, 3, 2, 8, 8), np.uint16)),
    ),
    Bad(
        "frames that are NaN throughout",
        f"{TRAIN} data.path=bad.h5",
        ("bad.h5", "not finite"),
        frames(np.full((12, 16, 20), np.nan, np.float32)),
    ),
    Bad(
        "frames that are infinite, half of them",
        STRICTLY + "bad.h5",
        ("bad.h5", "not finite"),
        frames(np.where(np.arange(12)[:, None, None] % 2, np.inf, COUNTS).astype(np.float32)),
    ),
    Bad("a negative count", f"{TRAIN} data.path=bad.h5", ("bad.h5", "-3"), frames(with_pixel(-3))),
    Bad("a count that is not whole", f"{PREDICT} data.path=bad.h5", ("bad.h5", "1.5"), frames(with_pixel(1.5))),
    Bad("a count of 1e30", STRICTLY + "bad.h5", ("bad.h5", "1e+30"), frames(with_pixel(1e30))),
    Bad(
        "a declared shape of 10 000 million frames",
        INSPECT + "bad.h5",
        ("bad.h5", "only 0%", "ever written"),
        declared((10**10, 1024, 1024), (1, 1024, 1024)),
    ),
    Bad(
        "a declared chunk of 3 GB",
        INSPECT + "bad.h5",
        ("bad.h5", "only 0%"),
        declared((1500, 1024, 1024), (1500, 1024, 1024)),
    ),
    Bad(
        "an external link to nowhere",
        INSPECT + "bad.h5",
        ("bad.h5", "gone.h5 does not exist"),
        linked(h5py.ExternalLink("gone.h5", "/x")),
    ),
    Bad(
        "an external link out of the folder",
        INSPECT + "bad.h5",
        ("/etc/hostname", "refused", "Put both files"),
        linked(h5py.ExternalLink("/etc/hostname", "/x")),
    ),
    Bad("soft links in a circle", INSPECT + "bad.h5 data.dataset=a", ("bad.h5", "circles"), loop),
    Bad("values as raw bytes in another file", INSPECT + "bad.h5", ("secret.bin", "refused"), raw_outside),
    Bad("a virtual dataset without its source", INSPECT + "bad.h5", ("gone.h5", "missing"), virtual_without_source),
    Bad(
        "a filter that nobody has",
        INSPECT + "bad.h5",
        ("bad.h5", "filter 32765", "not installed", "h5repack"),
        unknown_filter,
    ),
    Bad(
        "chunks that were zeroed", f"{PREDICT} data.path=bad.cxi", ("bad.cxi", "cannot be read", "again"), zeroed_inside
    ),
    Bad("two files of different shapes", INSPECT + "'run*.h5'", ("(20, 20)", "(16, 16)", "one shape"), two_shapes),
    Bad("the same patterns in two files", INSPECT + "'[one.cxi,two.cxi]'", ("one.cxi", "two.cxi"), same_patterns_twice),
    Bad(
        "a mask of another shape in the file",
        INSPECT + "bad.cxi",
        ("bad.cxi", "mask", "(9, 9)"),
        replaced("mask", np.zeros((9, 9), np.uint16)),
    ),
    Bad(
        "fewer ids than frames", INSPECT + "bad.cxi", ("bad.cxi", "ids", "120"), replaced("ids", np.array([b"a", b"b"]))
    ),
    Bad("ids that repeat", INSPECT + "bad.cxi", ("bad.cxi", "same"), replaced("ids", np.array([b"same"] * 120))),
    Bad(
        "patterns of another shape than the ensemble's",
        f"{PREDICT} data.path=bad.h5",
        ("96 x 48", "16 x 20"),
        frames(COUNTS),
    ),
]
