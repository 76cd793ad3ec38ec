"""spi-predict that is killed and goes on, and that several jobs share: the results are those of one go."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from spi_lightning.commands import predict as command
from spi_lightning.config.scope import sole_job
from spi_lightning.inference import ranges
from spi_lightning.inference.ensemble_file import load_ensemble, save_ensemble
from spi_lightning.inference.first_looks import FirstLooks
from spi_lightning.inference.scores import read_scores
from spi_lightning.instrument import Geometry
from spi_lightning.patterns.export_cxi import write_cxi
from spi_lightning.patterns.settings import PrepareSettings
from spi_lightning.progress import Standing, progress_told_to
from tests.unit.inference.small import small_ensemble

N, SIZE = 60, 8
MADE = ("scores.h5", "selection.csv", "selection.h5", "selected.cxi", "tables/selections.csv")
CASCADE = ("cascade.enabled=true", "cascade.missed=0.1", "cascade.audit=0.4")
KILLED = """
import os, signal
from spi_lightning.commands import predict
from spi_lightning.inference import ranges
scored = ranges.score_run
def killed_in_the_third_range(ensemble, run, indices, batch, advance, preview, span, engine):
    for start, models in scored(ensemble, run, indices, batch, advance, preview, span, engine):
        yield start, models
        if span[0] == 16:
            os.kill(os.getpid(), signal.SIGKILL)
ranges.score_run = killed_in_the_third_range
predict.main()
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of patterns, and an ensemble that selects half of them, or nearly, and knows what a first look shows."""
    folder = tmp_path_factory.mktemp("made")
    rng = np.random.default_rng(3)
    counts = rng.poisson(rng.gamma(0.5, 1.0, N)[:, None, None], (N, 24, 30)).astype(np.uint16)
    labels = np.array([-1, 1, 0, 0, 0])[np.arange(N) % 5]
    ids = [f"run1:{i}" for i in range(N)]
    kept = {"shape": (24, 30), "dtype": np.uint16, "geometry": Geometry(1700.0, 0.13, 75e-6, (14.5, 11.5))}
    write_cxi(folder / "run.cxi", [counts], N, ids=ids, labels=labels, **kept)
    write_cxi(folder / "other.cxi", [counts[::-1].copy()], N, ids=ids, labels=labels, **kept)
    ensemble = small_ensemble(2, (24, 30))
    middle = float(ensemble.probabilities(torch.from_numpy(counts)).mean(1).median())
    odds = np.linspace(middle - 0.01, middle + 0.02, 30)
    ensemble = dataclasses.replace(
        ensemble,
        threshold=middle,
        trained_on=dataclasses.replace(ensemble.trained_on, prepare=dataclasses.asdict(PrepareSettings())),
        first_looks=FirstLooks(tuple(np.log(odds / (1 - odds)).tolist()), (middle,) * 30, (0,) * 30, 0.05),
    )
    save_ensemble(folder / "ensemble", ensemble)
    return folder


@pytest.fixture
def arguments(made: Path) -> list[str]:
    return [
        *(f"ensemble={made}/ensemble", f"data.path={made}/run.cxi", "run=out", f"range={SIZE}", "batch=3"),
        *("callbacks=none", "export.cxi=true", "device=cpu"),
    ]


@pytest.fixture
def spi_predict(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys) -> Iterator[Callable[..., str]]:
    """Call spi-predict in this process, in the current folder; gives what it printed, or its error."""
    before = signal.getsignal(signal.SIGTERM)

    def run(*more: str, ok: bool = True) -> str:
        monkeypatch.setattr(sys, "argv", ["spi-predict", *arguments, *more])
        capsys.readouterr()
        try:
            command.main()
        except SystemExit as end:
            failed = bool(end.code)
        else:
            failed = False
        told = capsys.readouterr()
        assert failed != ok, told.out + told.err
        assert "Traceback" not in told.err
        return told.out if ok else told.err

    yield run
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Go to a folder of one's own, where the run is called out."""

    def go(name: str) -> Path:
        (tmp_path / name).mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / name)
        return tmp_path / name / "out"

    return go


def results(folder: Path) -> dict[str, bytes | dict]:
    """All that a prediction leaves, but for what depends on time."""
    summary = json.loads((folder / "summary.json").read_text())
    assert summary.pop("patterns per second") > 0
    values = {name: (folder / name).read_bytes() for name in MADE}
    with h5py.File(folder / "selected.cxi") as file:  # which says when it was made, and by which command
        values["selected.cxi"] = file["entry_1/image_1/data"][()].tobytes()
    return values | {"summary.json": summary}


def state(folder: Path) -> str:
    return json.loads((folder / "status.json").read_text())["state"]


def test_one_go_a_kill_and_jobs_that_share_it_give_the_same(spi_predict, arguments, at) -> None:
    one = at("one")
    spi_predict()
    expected = results(one)
    assert 10 < expected["summary.json"]["selected"] < 50

    killed = at("killed")
    done = subprocess.run(
        [sys.executable, "-c", KILLED, *arguments],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    left = {path.name: path.stat().st_mtime_ns for path in (killed / "ranges").glob("*.h5")}
    assert sorted(left) == ["0-8.h5", "8-16.h5"]
    assert list((killed / "ranges").glob("16-24.h5.partial-*"))
    seen: list[Standing] = []
    with progress_told_to(seen.append):
        spi_predict()
    standing = [now.done for now in seen if now.description == "Scoring"]
    assert standing[0] == 0
    assert all(done >= 16 for done in standing[1:])
    assert standing[-1] == N
    assert json.loads((killed / "provenance.json").read_text())["scored before"] == 16
    assert results(killed) == expected

    shared = at("shared")
    spi_predict("-m", "parts=3", "part=0,1,2")
    assert results(shared) == expected
    assert [state(shared / f"parts/{part}") for part in range(3)] == ["complete"] * 3
    for folder in (one, killed, shared):
        assert state(folder) == "complete"
        assert not [*folder.rglob("ranges"), *folder.rglob("*.partial-*")]


def test_a_cascade_leaves_out_and_audits_the_same_in_parts(spi_predict, at) -> None:
    one = at("one")
    spi_predict(*CASCADE)
    shared = at("shared")
    spi_predict("-m", "parts=3", "part=0,1,2", *CASCADE)
    facts = results(one)["summary.json"]
    assert 0 < facts["audited"] < N - facts["needed more than a first look"]
    assert results(shared) == results(one)


def test_parts_one_by_one(spi_predict, at) -> None:
    out = at("here")
    assert "Part 1 of 3: the patterns 16 to 39 are scored" in spi_predict("parts=3", "part=1")
    assert not (out / "status.json").exists()
    assert "nothing is left to do" in spi_predict("parts=3", "part=1")
    (out / "parts/1/ranges/16-24.h5").unlink()
    assert "are scored" in spi_predict("parts=3", "part=1")
    assert "parts: out is shared over 3 jobs, and this is one of 4" in spi_predict("parts=4", "part=0", ok=False)
    assert "threshold is None there and 0.25 here" in spi_predict("parts=3", "part=0", "threshold=0.25", ok=False)
    assert "range is 8 there and 16 here" in spi_predict("range=16", ok=False)
    assert "patterns  60" in spi_predict("parts=3")  # the rest in one go
    assert json.loads((out / "provenance.json").read_text())["scored before"] == 24
    assert "nothing is left to do" in spi_predict("parts=3", "part=1")
    assert not list(out.rglob("ranges"))


def test_more_jobs_than_ranges(spi_predict, at) -> None:
    out = at("here")
    told = spi_predict("parts=2", "part=0", "range=64")
    assert "Part 0 of 2: none of the 1 ranges is left for it" in told
    assert "the patterns 0 to 59 are scored" in spi_predict("parts=2", "part=1", "range=64")
    assert sorted(path.name for path in out.rglob("*-*.h5")) == ["0-60.h5"]


def test_jobs_do_not_disturb_each_other(spi_predict, at) -> None:
    out = at("here")
    spi_predict("parts=2", "part=0")
    with sole_job(out / "parts/0"):
        assert "at work in out/parts/0" in spi_predict(ok=False)
        assert "are scored" in spi_predict("parts=2", "part=1")
    with sole_job(out):
        assert "all that is missing is at work in out" in spi_predict("parts=2", "part=1", ok=False)
    assert not (out / "status.json").exists()


def test_a_complete_run_is_scored_again_where_the_ensemble_has_changed(spi_predict, made, at) -> None:
    out = at("here")
    arguments = ("ensemble=ensemble", "export.cxi=false")
    first, second = small_ensemble(2, (24, 30)), small_ensemble(2, (24, 30), mirrors=("none",))
    trained_on = load_ensemble(made / "ensemble").trained_on
    save_ensemble("ensemble", dataclasses.replace(first, trained_on=trained_on))
    spi_predict(*arguments)
    before = read_scores(out / "scores.h5")
    assert "out is complete: nothing is left to do" in spi_predict(*arguments)
    save_ensemble("ensemble", dataclasses.replace(second, trained_on=trained_on))
    spi_predict(*arguments)
    after = read_scores(out / "scores.h5")
    assert after.origin.source != before.origin.source
    assert (after.models != before.models).any()


def test_ranges_by_another_ensemble_are_told_before_work_begins(spi_predict, made, at, monkeypatch) -> None:
    out = at("here")
    spi_predict("parts=2", "part=0")
    with h5py.File(out / "parts/0/ranges/8-16.h5", "r+") as file:
        file.attrs["source"] = "another"
    monkeypatch.setattr(ranges, "score_run", None)
    told = spi_predict(ok=False)
    assert "8-16.h5 does not belong to this run: it was scored by another ensemble" in told
    assert state(out) == "failed"
    assert not (out / "scores.h5").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("range=0",), "range is 0; it must be 1 or more patterns"),
        (("parts=0",), "parts is 0; it must be 1 or more jobs"),
        (("part=1",), "part is 1; parts is not given"),
        (("parts=4", "part=4"), "part is 4; with parts=4 they go from 0 to 3"),
        (("parts=4", "part=-1"), "part is -1; with parts=4 they go from 0 to 3"),
    ],
)
def test_numbers_that_cannot_be_are_told(spi_predict, at, given: tuple[str, ...], message: str) -> None:
    out = at("here")
    assert message in spi_predict(*given, ok=False)
    assert not out.exists()
