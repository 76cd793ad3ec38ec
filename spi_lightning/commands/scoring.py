"""How spi-predict scores a run: what its config says of it, and whatever no job has scored yet."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from spi_lightning.commands.parts import open_predicted
from spi_lightning.config.predict_schema import PredictConfig
from spi_lightning.config.scope import Job
from spi_lightning.data.device import choose_device
from spi_lightning.errors import SpiError
from spi_lightning.inference.cascade import Cascade
from spi_lightning.inference.ensemble import Ensemble
from spi_lightning.inference.ensemble_file import load_ensemble
from spi_lightning.inference.first_looks import choose_bound
from spi_lightning.inference.low_precision import LowPrecision, check_native
from spi_lightning.inference.ranges import (
    PLACES,
    Gathered,
    Scoring,
    Span,
    check_ranges,
    found_ranges,
    gather,
    score_ranges,
    share_of,
)
from spi_lightning.inference.scores import Origin, read_scores
from spi_lightning.inference.thresholds import ThresholdSettings
from spi_lightning.patterns.prepared import PreparedRun
from spi_lightning.progress import progress


def scoring_of(config: PredictConfig) -> Scoring[PreparedRun]:
    """How the run that a config names is scored.

    Raises:
        SpiError: ensemble or patterns cannot be used, or not in the way that the config asks for.
    """
    ensemble = _ensemble(config)
    preview = _preview(config, ensemble)
    run = open_predicted(config, ensemble)
    origin = Origin(
        ensemble.fingerprint,
        run.fingerprint(),
        ensemble.threshold,
        ensemble.mirrors,
        getattr(preview, "bound", None),
        config.precision,
    )
    audit = config.cascade.audit if config.cascade.enabled else 0.0
    return Scoring(ensemble, run, origin, config.range, config.batch, preview, audit)


def is_made(scoring: Scoring[PreparedRun], folder: Path) -> bool:
    """Whether a folder has the scores of the whole run by this ensemble, made in this way."""
    try:
        return read_scores(folder / "scores.h5").origin == scoring.origin
    except SpiError:
        return False


def score_all(scoring: Scoring[PreparedRun], job: Job) -> Gathered:
    """Score what is missing, and put all of it together in ``scores.h5``.

    Raises:
        SpiError: ranges that are there were made in another way; or patterns cannot be read, or files written.
    """
    _score_missing(scoring, scoring.spans, job.folder, job)
    gathered = gather(scoring, found_ranges(job.folder), job.folder / "scores.h5")
    for place in (place for pattern in PLACES for place in job.folder.glob(pattern)):
        job.remove_when_complete(place)
    return gathered


def score_part(scoring: Scoring[PreparedRun], part: int, parts: int, job: Job) -> None:
    """Score one of several parts of a run, in a folder ``RUN/parts/K``, and tell it.

    Raises:
        SpiError: as :func:`score_all`.
    """
    whole, spans = job.folder.parents[1], share_of(scoring.spans, part, parts)
    if is_made(scoring, whole):
        print(f"{whole} has the scores of all patterns: nothing is left to do.")
        return
    _score_missing(scoring, spans, whole, job)
    told = (
        f"the patterns {spans[0].start} to {spans[-1].stop - 1} are scored"
        if spans
        else f"none of the {len(scoring.spans)} ranges is left for it: give a smaller range, or fewer parts"
    )
    print(f"Part {part} of {parts}: {told}.")


def _score_missing(scoring: Scoring[PreparedRun], spans: Sequence[Span], whole: Path, job: Job) -> None:
    """Score those of the ranges that no job has scored yet."""
    found = found_ranges(whole)
    check_ranges(scoring, found)  # before hours of work
    missing = [span for span in spans if span not in found]
    patterns, todo = (sum(stop - start for start, stop in some) for some in (spans, missing))
    job.record({"patterns to score": patterns, "scored before": patterns - todo})
    with progress("Scoring", patterns) as advance:
        advance(patterns - todo)
        score_ranges(scoring, missing, job.folder, advance)


def _ensemble(config: PredictConfig) -> Ensemble:
    """The ensemble, with the config's threshold and mirrors in place of its own."""
    ensemble = load_ensemble(config.ensemble, choose_device(config.device))
    if config.mirrors is not None:
        ensemble = dataclasses.replace(ensemble, mirrors=config.mirrors)
    if config.threshold is not None:
        rule = ThresholdSettings("fixed", config.threshold)
        ensemble = dataclasses.replace(ensemble, threshold=config.threshold, chosen_by=rule)
    return ensemble


def _preview(config: PredictConfig, ensemble: Ensemble) -> Cascade | LowPrecision | None:
    """The cheaper look that every pattern is given first, if any."""
    check_native(config.precision, ensemble.device)
    settings = config.cascade
    if settings.enabled:
        if ensemble.first_looks is None:
            raise SpiError(
                f"cascade.enabled: {config.ensemble} does not know what a first look shows. Run spi-evaluate on its "
                "training, or choose cascade.enabled=false."
            )
        if config.mirrors is not None:
            raise SpiError(
                "cascade.enabled: the bound was learnt with the ensemble's own views. Leave mirrors=null, or choose "
                "cascade.enabled=false."
            )
        bound = choose_bound(ensemble.first_looks, ensemble.threshold, settings.missed)
        return Cascade(ensemble, bound, settings.audit, config.precision)
    return None if config.precision == "float32" else LowPrecision(ensemble, config.precision)
