from __future__ import annotations

import errno
import json
import logging
from pathlib import Path

import pytest

from spi_lightning.config.scope import job_scope, sole_job
from spi_lightning.errors import SpiError, disk_trouble

FULL = "No space left on device"


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, FULL),
        RuntimeError("Can't decrement id ref count (file write failed: errno = 28, error message = 'No space')"),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
        OSError("[Errno 28] Can't synchronously write data"),
    ],
)
def test_a_full_disk_is_known_by_what_libraries_say(error: Exception) -> None:
    assert disk_trouble(error) == FULL


@pytest.mark.parametrize("error", [ValueError("28"), OSError(errno.ENOENT, "No such file"), KeyError("errno")])
def test_other_errors_are_not_taken_for_it(error: Exception) -> None:
    assert disk_trouble(error) is None


def test_a_job_on_a_full_disk_ends_with_a_sentence(tmp_path: Path) -> None:
    told = rf"could not be written \({FULL}\). Free some space, and start the same command"
    with pytest.raises(SpiError, match=told), sole_job(tmp_path), job_scope(tmp_path, "a: 1\n"):
        raise OSError(errno.ENOSPC, FULL)
    assert json.loads((tmp_path / "status.json").read_text())["state"] == "failed"


def test_other_errors_of_a_job_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), sole_job(tmp_path):
        _ = 1 / 0
    with pytest.raises(SpiError, match=r"^as it was$"), sole_job(tmp_path):
        raise SpiError("as it was")


def test_the_log_does_not_tell_every_line_of_a_full_disk(tmp_path: Path) -> None:
    assert logging.raiseExceptions
    with sole_job(tmp_path):
        assert not logging.raiseExceptions
    assert logging.raiseExceptions
