"""HDF5 files neither run code nor show what is in others."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from spi_lightning.errors import SpiError
from spi_lightning.inference.scores import read_scores
from spi_lightning.patterns import open_run
from spi_lightning.selection.selection_file import read_findings
from tests.integration.payload import ran, refused

VALUE = 0.625


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file of numbers that is nobody's business."""
    path = tmp_path / "secret.bin"
    np.full(120, VALUE, np.float32).tofile(path)
    return path


def leak(kind: str, file: h5py.Group, name: str, secret: Path) -> None:
    """Put a dataset of the secret's values into a file; the plain reader sees them."""
    raw = secret.with_suffix(".h5")
    with h5py.File(raw, "w") as other:
        if kind == "a virtual one of raw bytes":
            other.create_dataset("x", (120,), np.float32, external=[(str(secret), 0, 480)])
        else:
            other["x"] = np.fromfile(secret, np.float32)
    if name in file:
        del file[name]
    if kind == "raw bytes elsewhere":
        file.create_dataset(name, (120,), np.float32, external=[(str(secret), 0, 480)])
    elif kind == "an external link":
        file[name] = h5py.ExternalLink(str(raw), "/x")
    else:
        layout = h5py.VirtualLayout((120,), np.float32)
        layout[:] = h5py.VirtualSource(str(raw), "x", (120,))
        file.create_virtual_dataset(name, layout)
    assert (file[name][()] == VALUE).all()


LEAKS = ["raw bytes elsewhere", "an external link", "a virtual one of raw bytes"]


@pytest.mark.parametrize("kind", LEAKS)
@pytest.mark.parametrize(
    ("file", "name", "read", "said"),
    [
        ("scores.h5", "probability", read_scores, "refused"),
        ("selection.h5", "score", read_findings, "not read"),
    ],
)
def test_results_from_another_file(
    kind: str, file: str, name: str, read: Callable[[Path], object], said: str, here: Path, secret: Path
) -> None:
    path = here / "predicted" / file
    with h5py.File(path, "a") as opened:
        leak(kind, opened, name, secret)
    with pytest.raises(SpiError, match=said):
        read(path)


@pytest.mark.parametrize("kind", LEAKS)
@pytest.mark.parametrize("name", ["mask", "labels", "source_1/energy"])
def test_what_lies_beside_patterns_from_another_file(kind: str, name: str, here: Path, secret: Path) -> None:
    with h5py.File(here / "bad.cxi", "w") as file:
        image = file.create_group("entry_1/image_1")
        image["data"] = np.ones((120, 12, 10), np.uint8)
        leak(kind, image, name, secret)
    said: list[object] = []
    with contextlib.suppress(SpiError):
        run = open_run(here / "bad.cxi")
        said = [run.labels, run.mask, run.geometry.photon_energy]
    assert not any(np.any(np.asarray(each, dtype=np.float64) == VALUE) for each in said)


def test_a_link_to_a_pipe_does_not_wait_for_it(here: Path) -> None:
    os.mkfifo(here / "pipe")
    with h5py.File(here / "bad.h5", "w") as file:
        file["frames"] = h5py.ExternalLink("pipe", "/x")
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run(["head", "-c", "1", "pipe"], timeout=0.3, check=True)  # a plain reader waits for ever
    refused("spi-inspect data.path=bad.h5 data.dataset=frames run=out", "pipe", "not a regular file")


PLUGIN = r"""
#include <stddef.h>
#include <stdio.h>
typedef struct { int version, id; unsigned encoder, decoder; const char *name; void *can, *set; size_t (*filter)(
    unsigned, size_t, const unsigned *, size_t, size_t *, void **); } H5Z_class2_t;
static size_t pass(unsigned f, size_t n, const unsigned *v, size_t bytes, size_t *size, void **data) { return bytes; }
static const H5Z_class2_t ours = {1, 32123, 1, 1, "marker", NULL, NULL, pass};
__attribute__((constructor)) static void run(void) { FILE *file = fopen(MARKER, "w"); if (file) fclose(file); }
int H5PLget_plugin_type(void) { return 0; }
const void *H5PLget_plugin_info(void) { return &ours; }
"""


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc to make a filter plugin with")
def test_a_filter_plugin_beside_a_file(here: Path, marker: Path) -> None:
    """A file can ask for a filter by number; which libraries are looked at, only HDF5_PLUGIN_PATH says."""
    (here / "plugin.c").write_text(PLUGIN)
    build = ["gcc", "-shared", "-fPIC", f'-DMARKER="{marker}"', "-o", "libmarker.so", "plugin.c"]
    subprocess.run(build, cwd=here, check=True)
    read = (
        "import h5py, numpy; file = h5py.File('bad.h5', 'w'); "
        "made = file.create_dataset('frames', (2, 8, 8), 'u1', chunks=(1, 8, 8), compression=32123); "
        "made[:] = numpy.ones((2, 8, 8))"
    )
    plugins = os.environ | {"HDF5_PLUGIN_PATH": str(here)}
    subprocess.run([sys.executable, "-c", read], cwd=here, env=plugins, check=True, timeout=60)
    assert ran(marker)
    refused("spi-inspect data.path=bad.h5 run=out", "filter 32123", "not installed")
    assert not ran(marker)
