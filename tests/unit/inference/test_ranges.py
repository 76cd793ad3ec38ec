from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from spi_lightning.errors import SpiError
from spi_lightning.inference.cascade import Cascade
from spi_lightning.inference.low_precision import LowPrecision
from spi_lightning.inference.predict import score_run
from spi_lightning.inference.ranges import (
    Gathered,
    Scoring,
    Span,
    check_ranges,
    expected_ranges,
    found_ranges,
    gather,
    score_ranges,
    share_of,
)
from spi_lightning.inference.scores import Origin, read_scores
from tests.unit.inference.small import small_ensemble
from tests.unit.patterns.fake_run import FakeRun, photons

RUN = FakeRun(photons(100))
RUN.labels = np.arange(100, dtype=np.int8) % 2
SIZE = 16  # of a range: six of them, and four patterns more
ORIGIN = Origin("ensemble", RUN.fingerprint(), 0.5, ("none",))


def scoring(preview: str | None = None, run: FakeRun = RUN) -> Scoring[FakeRun]:
    """As a job of its own would open it: nothing is shared with others but the files."""
    ensemble = small_ensemble(2, mirrors=("none", "both"))
    middle = float(np.median(np.concatenate([models for _, models in score_run(ensemble, RUN)]).mean(1)))
    ensemble = dataclasses.replace(ensemble, threshold=middle)
    look = {
        None: lambda: None,
        "cascade": lambda: Cascade(ensemble, middle, 0.3),
        "bfloat16": lambda: LowPrecision(ensemble, "bfloat16"),
    }[preview]()
    return Scoring(ensemble, run, dataclasses.replace(ORIGIN, cascade=getattr(look, "bound", None)), SIZE, 5, look)


def make(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class Stopped(Exception):
    """As a kill would end it."""


def in_one_go(folder: Path, preview: str | None) -> Gathered:
    job = scoring(preview)
    score_ranges(job, job.spans, folder, lambda n: None)
    return gather(job, found_ranges(folder), folder / "scores.h5")


def stopped_twice(folder: Path, preview: str | None) -> Gathered:
    for most in (20, 37):
        looked = 0

        def advance(n: int, most: int = most) -> None:
            nonlocal looked
            looked += n
            if looked > most:
                raise Stopped

        job = scoring(preview)
        with pytest.raises(Stopped):
            score_ranges(job, [span for span in job.spans if span not in found_ranges(folder)], folder, advance)
    job = scoring(preview)
    found = found_ranges(folder)
    assert list(found) == [(0, 16), (16, 32), (32, 48)]
    score_ranges(job, job.spans[len(found) :], folder, lambda n: None)
    return gather(job, found_ranges(folder), folder / "scores.h5")


def in_parts(folder: Path, preview: str | None, parts: int) -> Gathered:
    for part in reversed(range(parts)):
        job = scoring(preview)
        score_ranges(job, share_of(job.spans, part, parts), make(folder / "parts" / str(part)), lambda n: None)
    return gather(scoring(preview), found_ranges(folder), folder / "scores.h5")


@pytest.mark.parametrize("preview", [None, "cascade", "bfloat16"])
def test_scores_and_tallies_do_not_depend_on_who_scored_what(tmp_path: Path, preview: str | None) -> None:
    """One go; stopped twice; three parts; one part of one; more parts than ranges."""
    whole = in_one_go(make(tmp_path / "one"), preview)
    others = {
        "stopped": stopped_twice(make(tmp_path / "stopped"), preview),
        **{f"of {n}": in_parts(make(tmp_path / f"of {n}"), preview, n) for n in (3, 1, 9)},
    }
    for name, other in others.items():
        assert (tmp_path / name / "scores.h5").read_bytes() == (tmp_path / "one/scores.h5").read_bytes(), name
        assert other.tally == whole.tally, name
    job, scores = scoring(preview), read_scores(tmp_path / "one/scores.h5")
    expected = np.concatenate([models for _, models in score_run(job.ensemble, RUN, batch=5, preview=job.preview)])
    np.testing.assert_allclose(scores.models, expected, atol=1e-6)
    np.testing.assert_array_equal(scores.labels, RUN.labels)
    if job.preview is not None:
        rounded = 1e-6 if preview == "bfloat16" else 0
        for field in dataclasses.fields(whole.tally):
            total = getattr(job.preview.tally, field.name)
            assert getattr(whole.tally, field.name) == pytest.approx(total, abs=rounded)
        assert whole.tally != type(whole.tally)()


def test_each_pattern_belongs_to_one_job() -> None:
    spans = scoring().spans
    assert spans == [*((start, start + 16) for start in range(0, 96, 16)), (96, 100)]
    for parts in (1, 2, 3, 7, 12):
        shares = [share_of(spans, part, parts) for part in range(parts)]
        assert [span for share in shares for span in share] == spans
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_seconds_are_those_of_all_jobs(tmp_path: Path) -> None:
    in_parts(tmp_path, None, 2)
    for number, path in enumerate(found_ranges(tmp_path).values()):
        with h5py.File(path, "r+") as file:
            assert file.attrs["seconds"] > 0
            file.attrs["seconds"] = 2.0**number
    assert gather(scoring(), found_ranges(tmp_path), tmp_path / "scores.h5").seconds == 127.0


def test_what_is_expected_is_known_from_one_range(tmp_path: Path) -> None:
    assert expected_ranges(found_ranges(tmp_path)) == []
    job = scoring()
    score_ranges(job, job.spans[4:5], tmp_path, lambda n: None)
    (tmp_path / "ranges/64-80.h5.partial-1").touch()
    (tmp_path / "ranges/notes.h5").touch()
    assert list(found_ranges(tmp_path)) == [(64, 80)]
    assert expected_ranges(found_ranges(tmp_path)) == job.spans


def attribute(**values: object) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            file.attrs.update(values)

    return change


def other_ids(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["id"][0] = b"run8:0"


def renamed(path: Path) -> None:
    path.rename(path.with_name("17-33.h5"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (attribute(source="another"), r"scored by another ensemble \(another… there, ensemble… here\)"),
        (attribute(data="another"), "its patterns are others, or were prepared in another way"),
        (attribute(threshold=0.25), r"its 'threshold' is 0\.25, and here it is 0\.5"),
        (attribute(mirrors="none,both"), r"its 'mirrors' is \('none', 'both'\), and here it is \('none',\)"),
        (attribute(precision="bfloat16"), "its 'precision' is bfloat16, and here it is float32"),
        (attribute(cascade=0.1), r"its 'cascade' is 0\.1, and here it is None"),
        (attribute(audit=0.1), r"its 'audit' is 0\.1, and here it is 0\.0"),
        (attribute(range=32), "its 'range' is 32, and here it is 16"),
        (attribute(patterns=90), "its 'patterns' is 90, and here it is 100"),
        (attribute(start=32), "its 'start' is 32, and here it is 16"),
        (attribute(seconds="two"), "does not say how it was scored"),
        (other_ids, "its patterns have other ids"),
        (renamed, "its 'start' is 16, and here it is 17"),
        (lambda path: path.write_bytes(b"damaged"), "cannot be opened as HDF5"),
    ],
)
def test_ranges_that_do_not_belong_together_are_told(tmp_path: Path, change: Callable, message: str) -> None:
    job = scoring()
    score_ranges(job, job.spans[:2], tmp_path, lambda n: None)
    change(tmp_path / "ranges/16-32.h5")
    with pytest.raises(SpiError, match=rf"ranges/.*{message}.*Remove it and start spi-predict again"):
        check_ranges(job, found_ranges(tmp_path))


def test_a_tally_that_is_none_is_told(tmp_path: Path) -> None:
    in_parts(tmp_path, "cascade", 1)
    path = tmp_path / "parts/0/ranges/16-32.h5"
    for tally, message in (("{", "tally"), ('{"left_out": "many"}', "left_out")):
        attribute(tally=tally)(path)
        with pytest.raises(SpiError, match=rf"16-32\.h5.*{message}"):
            gather(scoring("cascade"), found_ranges(tmp_path), tmp_path / "scores.h5")


def test_gaps_and_overlaps_are_told(tmp_path: Path) -> None:
    in_parts(tmp_path, None, 2)
    (tmp_path / "scores.h5").unlink()
    gone = tmp_path / "parts/0/ranges/16-32.h5"
    content = gone.read_bytes()
    gone.unlink()
    with pytest.raises(SpiError, match=r"patterns 16 to 31 are not scored, .* first of 1 ranges .* Start spi-predict"):
        gather(scoring(), found_ranges(tmp_path), tmp_path / "scores.h5")
    assert not (tmp_path / "scores.h5").exists()
    for folder in (tmp_path / "ranges", tmp_path / "parts/1/ranges"):
        (make(folder) / "16-32.h5").write_bytes(content)
    with pytest.raises(SpiError, match=r"16-32\.h5 and .*16-32\.h5 both hold the scores of pattern 16.*Remove one"):
        found_ranges(tmp_path)
    (tmp_path / "ranges/16-32.h5").rename(tmp_path / "ranges/20-30.h5")
    with pytest.raises(SpiError, match="both hold the scores of pattern 20"):
        found_ranges(tmp_path)


def test_nothing_is_left_of_a_range_that_cannot_be_read(tmp_path: Path) -> None:
    class Damaged(FakeRun):
        def read(self, indices: np.ndarray) -> np.ndarray:
            if indices[-1] >= 40:
                raise SpiError("row 40 cannot be read")
            return super().read(indices)

    job = scoring(run=Damaged(RUN.frames))
    with pytest.raises(SpiError, match="row 40"):
        score_ranges(job, job.spans, tmp_path, lambda n: None)
    assert sorted(path.name for path in (tmp_path / "ranges").iterdir()) == ["0-16.h5", "16-32.h5"]
    with pytest.raises(SpiError, match=r"The folder .*ranges cannot be made \(No such file"):
        score_ranges(job, [Span(0, 16)], tmp_path / "no/folder", lambda n: None)
