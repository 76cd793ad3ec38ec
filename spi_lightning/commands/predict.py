"""spi-predict: the scores of new patterns by a trained ensemble, and those that look like single hits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spi_lightning.config.launch import launch

if TYPE_CHECKING:
    import numpy as np

    from spi_lightning.config.predict_schema import PredictConfig
    from spi_lightning.config.scope import Job
    from spi_lightning.inference.cascade import Cascade
    from spi_lightning.inference.ensemble import Ensemble
    from spi_lightning.inference.low_precision import LowPrecision
    from spi_lightning.patterns.prepared import PreparedRun


def main() -> None:
    """Entry point of the console script."""
    launch("predict", _schema, predict)


def _schema() -> type[PredictConfig]:
    from spi_lightning.config.predict_schema import PredictConfig

    return PredictConfig


def predict(config: PredictConfig, job: Job) -> None:
    """Score the run that ``config`` names; write ``scores.h5``, ``selection.csv`` and ``summary.json``, and exports."""
    from spi_lightning.commands.downstream import analyse
    from spi_lightning.commands.parts import open_predicted
    from spi_lightning.commands.scored import Scored, labelled
    from spi_lightning.inference.scores import write_selection_csv
    from spi_lightning.provenance import write_json
    from spi_lightning.report.page import write_page
    from spi_lightning.selection.results import Findings

    ensemble = _ensemble(config)
    preview = _preview(config, ensemble)
    run = open_predicted(config, ensemble)
    job.record({"ensemble": ensemble.fingerprint, "data": run.fingerprint(), "found": run.found})
    probabilities, seconds = _scored(config, ensemble, run, preview, job)
    selected = probabilities >= ensemble.threshold
    labels = None if run.labels is None else run.labels[selected]
    write_selection_csv(job.folder / "selection.csv", run.ids[selected], probabilities[selected], labels)
    facts: dict[str, Any] = {
        "patterns": len(run),
        "selected": int(selected.sum()),
        "threshold": ensemble.threshold,
        "networks": len(ensemble.networks),
        "mirrors": list(ensemble.mirrors),
        "patterns per second": round(len(run) / seconds, 1),
        **(preview.facts(len(run)) if preview else {}),
        **_agreement(probabilities, run.labels, ensemble.threshold),
        "notes": run.notes,
        "files": [str(job.folder / name) for name in ("scores.h5", "selection.csv")],
    }
    if selected.any():
        facts["files"] += _exported(config, run, selected, job)
    else:
        facts["notes"].append(f"No pattern reaches the threshold of {ensemble.threshold:g}; nothing is selected.")
    findings = Findings(run.ids, run.labels, probabilities, ensemble.threshold)
    scored = Scored(run, findings, labelled(run, probabilities), None, ensemble.fingerprint)
    write_json(job.folder / "summary.json", facts)  # whatever becomes of the selections
    analyse(job.folder, scored, config, config.device)
    facts["selections"] = {name: len(selection.kept) for name, selection in findings.selections.items()}
    write_json(job.folder / "summary.json", facts)
    write_page(job.folder)
    job.record(facts)
    for name, fact in facts.items():
        for line in fact if name in ("notes", "files") else [fact]:
            print(f"{name:>24}  {', '.join(line) if isinstance(line, list) else line}")


def _ensemble(config: PredictConfig) -> Ensemble:
    """The ensemble, with the config's threshold and mirrors in place of its own."""
    import dataclasses

    from spi_lightning.data.device import choose_device
    from spi_lightning.inference.ensemble_file import load_ensemble
    from spi_lightning.inference.thresholds import ThresholdSettings

    ensemble = load_ensemble(config.ensemble, choose_device(config.device))
    if config.mirrors is not None:
        ensemble = dataclasses.replace(ensemble, mirrors=config.mirrors)
    if config.threshold is not None:
        rule = ThresholdSettings("fixed", config.threshold)
        ensemble = dataclasses.replace(ensemble, threshold=config.threshold, chosen_by=rule)
    return ensemble


def _preview(config: PredictConfig, ensemble: Ensemble) -> Cascade | LowPrecision | None:
    """The cheaper look that every pattern is given first, if any."""
    from spi_lightning.errors import SpiError
    from spi_lightning.inference.cascade import Cascade
    from spi_lightning.inference.first_looks import choose_bound
    from spi_lightning.inference.low_precision import LowPrecision, check_native

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


def _scored(
    config: PredictConfig, ensemble: Ensemble, run: PreparedRun, preview: Cascade | LowPrecision | None, job: Job
) -> tuple[np.ndarray, float]:
    """Write ``scores.h5``. Returns the mean probabilities ``(n,)`` float32, and how many seconds it took."""
    import time

    from spi_lightning.inference.predict import score_run
    from spi_lightning.inference.scores import Origin, score_file
    from spi_lightning.progress import progress

    origin = Origin(
        ensemble.fingerprint,
        run.fingerprint(),
        ensemble.threshold,
        ensemble.mirrors,
        getattr(preview, "bound", None),
        config.precision,
    )
    networks = len(ensemble.networks)
    with (
        score_file(job.folder / "scores.h5", run.ids, networks, origin, run.labels) as write,
        progress("Scoring", len(run)) as advance,
    ):
        begin = time.perf_counter()
        for start, models in score_run(ensemble, run, batch=config.batch, advance=advance, preview=preview):
            write(start, models)
        return write.probabilities, time.perf_counter() - begin


def _agreement(probabilities: np.ndarray, labels: np.ndarray | None, threshold: float) -> dict[str, float | int]:
    """How the selection compares with the labels, where there are any; what is 0/0 is left out."""
    import math

    import torch

    from spi_lightning.analysis.classification import confusion, f1, precision, recall

    if labels is None or not (labels >= 0).any():
        return {}
    counts = confusion(torch.from_numpy(probabilities), torch.from_numpy(labels), threshold)
    values = {"precision": precision(counts), "recall": recall(counts), "F1": f1(counts)}
    agreement = {name: round(float(value), 4) for name, value in values.items() if not math.isnan(value)}
    return {"labelled": int((labels >= 0).sum()), "labelled single hits": int((labels == 1).sum()), **agreement}


def _exported(config: PredictConfig, run: PreparedRun, selected: np.ndarray, job: Job) -> list[str]:
    """Write the selected patterns for other programs, in the order of the run. Returns the files."""
    from spi_lightning.patterns.export import export_cxi, export_dragonfly
    from spi_lightning.provenance import provenance

    files = []
    if config.export.cxi:
        files.append(job.folder / "selected.cxi")
        export_cxi(run, selected, files[-1], program="spi-predict", command=" ".join(provenance()["command"]))
    if config.export.emc:
        files += [job.folder / "selected.emc", job.folder / "detector.h5"]
        export_dragonfly(run, selected, *files[-2:])
    return [str(file) for file in files]
