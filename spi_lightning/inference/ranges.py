"""The scores of a long run in ranges of patterns, each a file of its own, until all are there and are put together.

Whoever scores a range scores it alike, from its first pattern on: so the scores of a run do not depend on how often it
was interrupted, or on how many jobs shared it. A range's file is that of :mod:`~spi_lightning.inference.scores` for its
patterns, without labels, and has the attributes

======================  ================================================================
attribute ``start``     place of its first pattern in the run
attribute ``patterns``  of the whole run
attribute ``range``     patterns of a whole range
attribute ``audit``     share of what the cascade left out that was scored all the same
attribute ``seconds``   that scoring took
attribute ``tally``     what the preview counted, in JSON; null without one
======================  ================================================================
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import operator
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from spi_lightning.config.check import checked
from spi_lightning.errors import SpiError
from spi_lightning.inference.engine import Engine
from spi_lightning.inference.ensemble import Ensemble
from spi_lightning.inference.predict import Preview, score_run
from spi_lightning.inference.scores import Origin, Scores, read_scores, score_file
from spi_lightning.patterns.frames import Frames

R = TypeVar("R", bound=Frames)
FOLDER = "ranges"  # of a job that scores
PLACES = (FOLDER, f"parts/*/{FOLDER}")  # in a run's folder


class Span(NamedTuple):
    """Patterns from ``start`` to before ``stop``."""

    start: int
    stop: int


@dataclass(frozen=True, eq=False)
class Scoring(Generic[R]):
    """How a run is scored; the same for all jobs that share it.

    Attributes:
        ensemble: that scores.
        run: the prepared patterns.
        origin: what the scores say of themselves.
        size: patterns of a range; the last one may have fewer.
        batch: patterns that go through a network at once; None for what suits the device.
        preview: a cheaper look at every pattern; None for none.
        audit: share of what is left out by it that is scored all the same.
    """

    ensemble: Ensemble
    run: R
    origin: Origin
    size: int
    batch: int | None = None
    preview: Preview | None = None
    audit: float = 0.0

    @property
    def spans(self) -> list[Span]:
        """The ranges, without gap or overlap."""
        return _spans(len(self.run), self.size)


class Gathered(NamedTuple):
    """A whole run's scores.

    Attributes:
        probabilities: ``(n,)`` float32, mean over the networks.
        seconds: that all ranges took together, whoever scored them.
        tally: what the preview counted; None without one.
    """

    probabilities: np.ndarray
    seconds: float
    tally: Any


def share_of(spans: Sequence[Span], part: int, parts: int) -> list[Span]:
    """The ranges that one of several jobs scores: neighbours, as many as the other jobs' but for one."""
    return list(spans[len(spans) * part // parts : len(spans) * (part + 1) // parts])


def score_ranges(scoring: Scoring[Any], spans: Sequence[Span], folder: Path, advance: Callable[[int], object]) -> None:
    """Score ranges, each of which appears as a file once it is whole.

    Args:
        scoring: how.
        spans: which of them.
        folder: of the job; the files go into ``ranges/`` in it.
        advance: told how many more patterns have been looked at.

    Raises:
        SpiError: patterns cannot be read, or files cannot be written.
    """
    run, preview, engine = scoring.run, scoring.preview, Engine(scoring.ensemble)
    if spans:
        _make(folder / FOLDER)
    for span in spans:
        path = folder / FOLDER / f"{span.start}-{span.stop}.h5"
        with score_file(path, run.ids[span.start : span.stop], len(engine), scoring.origin) as write:
            if preview is not None:
                preview.tally = type(preview.tally)()
            begin = time.perf_counter()
            for start, models in score_run(
                scoring.ensemble, run, None, scoring.batch, advance, preview, (span.start, span.stop), engine
            ):
                write(start - span.start, models)
            write.attributes = {
                **_settings(scoring, span),
                "seconds": time.perf_counter() - begin,
                "tally": json.dumps(dataclasses.asdict(preview.tally) if preview is not None else None),
            }


def found_ranges(folder: Path) -> dict[Span, Path]:
    """The files of ranges in a run's folder, whichever job wrote them, by their patterns and in order of these.

    Raises:
        SpiError: two of them hold the same patterns.
    """
    found = sorted((span, path) for place in PLACES for path in folder.glob(f"{place}/*.h5") for span in _named(path))
    for (span, path), (later, other) in itertools.pairwise(found):
        if later.start < span.stop:
            raise SpiError(
                f"{path} and {other} both hold the scores of pattern {later.start}: the folder was put together from "
                "several runs. Remove one of the two."
            )
    return dict(found)


def expected_ranges(found: Mapping[Span, Path]) -> list[Span]:
    """The ranges of the whole run, as those that are there say; none where none are there.

    Raises:
        SpiError: the first one that is there cannot be read.
    """
    for path in found.values():
        said = read_scores(path).attributes
        return _spans(int(said.get("patterns", 0)), int(said.get("range", 1)))
    return []


def check_ranges(scoring: Scoring[Any], found: Mapping[Span, Path]) -> None:
    """Raise :class:`SpiError` where one of the ranges that are there was not scored as this run is."""
    for span, path in found.items():
        _read(scoring, span, path)


def gather(scoring: Scoring[Any], found: Mapping[Span, Path], path: Path) -> Gathered:
    """Put the ranges of a run together.

    Args:
        scoring: how all of them must have been made.
        found: the files, see :func:`found_ranges`.
        path: of the scores of the whole run; one that is there is replaced.

    Raises:
        SpiError: patterns are missing; or a range cannot be read, or was made in another way.
    """
    if missing := [span for span in scoring.spans if span not in found]:
        raise SpiError(
            f"{path.parent}: the patterns {missing[0].start} to {missing[0].stop - 1} are not scored, which are the "
            f"first of {len(missing)} ranges that are missing. Start spi-predict again with the settings of this run "
            f"and run={path.parent}."
        )
    run, seconds, tallies = scoring.run, 0.0, []
    with score_file(path, run.ids, len(scoring.ensemble.networks), scoring.origin, run.labels) as write:
        for span, place in found.items():
            scores = _read(scoring, span, place)
            write(span.start, scores.models)
            seconds += float(scores.attributes["seconds"])
            tallies.append(_tally(scoring, scores, place))
    tally = None if scoring.preview is None else functools.reduce(operator.add, tallies, type(scoring.preview.tally)())
    return Gathered(write.probabilities, seconds, tally)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise SpiError(
            f"The folder {folder} cannot be made ({error.strerror}). Free some space, or choose another run=FOLDER."
        ) from None


def _spans(patterns: int, size: int) -> list[Span]:
    return [Span(start, min(start + size, patterns)) for start in range(0, patterns, size)]


def _named(path: Path) -> Iterator[Span]:
    """What the name of a file says of its patterns, if it is one of a range."""
    if match := re.fullmatch(r"(\d+)-(\d+)\.h5", path.name):
        yield Span(int(match[1]), int(match[2]))


def _settings(scoring: Scoring[Any], span: Span) -> dict[str, int | float]:
    """What a range's file says of how the run is cut and looked at."""
    return {"start": span.start, "patterns": len(scoring.run), "range": scoring.size, "audit": scoring.audit}


def _read(scoring: Scoring[Any], span: Span, path: Path) -> Scores:
    """A range that was scored as the others are.

    Raises:
        SpiError: it cannot be read, or was made in another way.
    """
    again = "Remove it and start spi-predict again, which scores these patterns anew; or give another run=FOLDER."
    try:
        scores = read_scores(path)
    except SpiError as error:
        raise SpiError(f"{error} {again}") from None
    if differences := _differences(scores, scoring, span):
        raise SpiError(f"{path} does not belong to this run: {differences[0]}. {again}")
    return scores


def _differences(scores: Scores, scoring: Scoring[Any], span: Span) -> list[str]:
    there, here = scores.origin, scoring.origin
    found = []
    if there.source != here.source:
        found.append(f"it was scored by another ensemble ({there.source[:12]}… there, {here.source[:12]}… here)")
    if there.data != here.data:
        found.append("its patterns are others, or were prepared in another way")
    values = {
        name: (getattr(there, name), getattr(here, name)) for name in ("threshold", "mirrors", "precision", "cascade")
    }
    values |= {name: (scores.attributes.get(name), value) for name, value in _settings(scoring, span).items()}
    found += [f"its '{name}' is {old}, and here it is {new}" for name, (old, new) in values.items() if old != new]
    if not found and not np.array_equal(scores.ids, scoring.run.ids[span.start : span.stop]):
        found.append("its patterns have other ids")
    if not isinstance(scores.attributes.get("seconds"), float) or not isinstance(scores.attributes.get("tally"), str):
        found.append("it does not say how it was scored")
    return found


def _tally(scoring: Scoring[Any], scores: Scores, path: Path) -> Any:
    if scoring.preview is None:
        return None
    try:
        values = json.loads(scores.attributes["tally"])
    except ValueError:
        values = None
    return checked(type(scoring.preview.tally), values, f"{path}: tally")
