"""A run that does not fit is read through all the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from spi_lightning.patterns.export_cxi import write_cxi
from tests.integration.conftest import BIN

# In a process of its own: a child's peak is only known as the largest of all children.
MEASURE = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, capture_output=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory of a child in Linux's unit")
def test_a_run_larger_than_the_memory_it_takes(tmp_path: Path) -> None:
    n, shape = 32_000, (192, 96)
    block = np.random.default_rng(0).poisson(0.05, (500, *shape)).astype(np.uint16)
    write_cxi(tmp_path / "long.cxi", [block] * (n // 500), n, shape=shape, dtype=np.uint16, compression="bitshuffle")
    command = [sys.executable, "-c", MEASURE, str(BIN / "spi-inspect"), "data.path=long.cxi", "run=look"]
    peak = int(subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout)
    assert n * block[0].nbytes > 1.1e9
    assert peak < 0.7e9  # most of it torch and matplotlib
