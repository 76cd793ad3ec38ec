from __future__ import annotations

import dataclasses
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from spi_lightning.analysis.contrast import Contrast
from spi_lightning.errors import SpiError
from spi_lightning.selection.results import Findings
from spi_lightning.selection.select import select_all
from spi_lightning.selection.selection_file import read_findings, write_findings
from spi_lightning.selection.steps.em import EM
from spi_lightning.selection.steps.size import Size
from spi_lightning.selection.steps.threshold import Threshold
from tests.unit.selection.known import context, findings


def whole() -> Findings:
    known = findings()
    plans = {"a + EM": [("threshold", Threshold()), ("em", EM())], "größe": [("size", Size())]}
    select_all(plans, context(known))
    contrast = Contrast(
        torch.tensor([0.6], dtype=torch.float64), torch.tensor([[1, 3, -1]]), torch.tensor([[2, 4, -1]]), ("",)
    )
    first = dataclasses.replace(known.selections["a + EM"], psd=np.arange(6.0), contrast=contrast, interval=(0.5, 0.7))
    known.selections["a + EM"] = first
    known.notes.append("a note")
    return known


def same(a: object, b: object) -> bool:
    if dataclasses.is_dataclass(a):
        return all(same(getattr(a, field.name), getattr(b, field.name)) for field in dataclasses.fields(a))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)  # type: ignore[call-overload, index]
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))  # type: ignore[arg-type]
    if isinstance(a, np.ndarray | torch.Tensor | float):
        x, y = np.asarray(a), np.asarray(b)
        return np.array_equal(x, y) if x.dtype.kind in "USb" else np.allclose(x, y, rtol=1e-6, equal_nan=True)
    return a == b


def test_what_is_written_is_read(tmp_path: Path) -> None:
    known = whole()
    write_findings(tmp_path / "selection.h5", known, "data", "source")

    assert same(known, read_findings(tmp_path / "selection.h5"))
    assert [path.name for path in tmp_path.iterdir()] == ["selection.h5"]


def test_what_was_not_found_stays_unknown(tmp_path: Path) -> None:
    bare = Findings(np.array([], np.str_), None, np.empty(0, np.float32), None)
    write_findings(tmp_path / "selection.h5", bare, "data", "source")
    read = read_findings(tmp_path / "selection.h5")

    assert (read.labels, read.q, read.psd, read.sizes, read.threshold, read.range) == (None,) * 6
    assert read.selections == {}
    assert len(read.ids) == 0


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda file: file.attrs.__setitem__("format", "scores"), "not a file of selections"),
        (lambda file: file.attrs.__setitem__("version", 99), "not a file of selections"),
        (lambda file: file.__delitem__("score"), "cannot be read|damaged"),
        (lambda file: file["selections/0"].attrs.__setitem__("reasons", "["), "cannot be read|damaged"),
        (lambda file: file["selections/0"].attrs.__delitem__("steps"), "cannot be read|damaged"),
        (lambda file: file["classes/0/measures"].__delitem__("score"), "damaged"),
        (lambda file: file.__setitem__("q2", h5py.ExternalLink("/etc/other.h5", "/q")), "link"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, harm, said: str) -> None:
    path = tmp_path / "selection.h5"
    write_findings(path, whole(), "data", "source")
    with h5py.File(path, "a") as file:
        harm(file)
    with pytest.raises(SpiError, match=said):
        read_findings(path)
