"""spi-predict: the scores of new patterns by a trained ensemble, and those that look like single hits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spi_lightning.config.launch import Rerun, launch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np

    from spi_lightning.config.predict_schema import PredictConfig
    from spi_lightning.config.scope import Job
    from spi_lightning.inference.ranges import Gathered, Scoring, Span
    from spi_lightning.patterns.prepared import PreparedRun


# These matter only once all is scored, or not at all for what is scored.
MAY_CHANGE = ("callbacks", "steps", "selections", "moresh", "export", "parts")
MADE = ("selection.csv", "summary.json", "selection.h5")  # besides the scores


def main() -> None:
    """Entry point of the console script."""
    rerun = Rerun(True, False, MAY_CHANGE, _refuse, _whole, part="part", gatherable=_gatherable)
    launch("predict", _schema, predict, rerun)


def _schema() -> type[PredictConfig]:
    from spi_lightning.config.predict_schema import PredictConfig

    return PredictConfig


def _refuse(config: PredictConfig, folder: Path, config_yaml: str) -> None:
    """Jobs that score a part share the settings of the run, and the one that puts them together waits for them."""
    from spi_lightning.config.scope import is_locked
    from spi_lightning.errors import SpiError

    if config.part is not None:
        whole = folder.parents[1]
        if is_locked(whole):
            raise SpiError(
                f"run: a job that scores all that is missing is at work in {whole}. Wait for it, or stop it and start "
                "again."
            )
        _claim(config, whole, config_yaml)
    elif at_work := [lock.parent for lock in folder.glob("parts/*/lock") if is_locked(lock.parent)]:
        raise SpiError(f"run: a job that scores a part is at work in {at_work[0]}. Wait for it, or stop it.")


def _claim(config: PredictConfig, folder: Path, config_yaml: str) -> None:
    """Let a job that scores a part belong to a run: the first one says what the run is, the others must agree."""
    from omegaconf import OmegaConf

    from spi_lightning.commands.parts import read_config
    from spi_lightning.config.earlier import earlier_state
    from spi_lightning.config.predict_schema import PredictConfig
    from spi_lightning.errors import SpiError
    from spi_lightning.provenance import write_text

    values = OmegaConf.create(config_yaml)
    values.part = None
    text = OmegaConf.to_yaml(values)
    if earlier_state(folder, text, MAY_CHANGE) == "complete":
        return
    path = folder / "config.yaml"
    parts = read_config(PredictConfig, folder, "a prediction").parts if path.exists() else None
    if parts is None:
        write_text(path, text)
    elif parts != config.parts:
        raise SpiError(
            f"parts: {folder} is shared over {parts} jobs, and this is one of {config.parts}. Give parts={parts}, or "
            "score the rest in one go with part=null."
        )


def _whole(config: PredictConfig, folder: Path) -> bool:
    """Whether what a complete job leaves is still there; of a whole run, by this very ensemble of these patterns."""
    from functools import partial

    from spi_lightning.commands.scoring import is_made, scoring_of
    from spi_lightning.inference.ranges import share_of

    if config.part is not None and config.parts is not None:
        return _all_there(folder.parents[1], partial(share_of, part=config.part, parts=config.parts))
    return all((folder / name).exists() for name in MADE) and is_made(scoring_of(config), folder)


def _gatherable(config: PredictConfig, folder: Path) -> bool:
    """Whether all patterns are scored."""
    return _all_there(folder)


def _all_there(folder: Path, of: Callable[[list[Span]], list[Span]] = lambda spans: spans) -> bool:
    """Whether a run has its scores; or the ranges of it, or some of them."""
    from spi_lightning.errors import SpiError
    from spi_lightning.inference.ranges import expected_ranges, found_ranges

    if (folder / "scores.h5").exists():
        return True
    try:
        found = found_ranges(folder)
        expected = expected_ranges(found)
    except SpiError:  # which the job will tell
        return False
    return bool(expected) and all(span in found for span in of(expected))


def predict(config: PredictConfig, job: Job) -> None:
    """Score the run that ``config`` names; write ``scores.h5``, ``selection.csv`` and ``summary.json``, and exports.

    Or score one of several parts of it, in ``RUN/parts/K``.
    """
    from spi_lightning.commands.scoring import score_all, score_part, scoring_of
    from spi_lightning.data.device import computes_with

    scoring = scoring_of(config)
    job.record(
        {
            "ensemble": scoring.ensemble.fingerprint,
            "data": scoring.run.fingerprint(),
            "found": scoring.run.found,
            "device": str(scoring.ensemble.device),
            "computes with": computes_with(str(scoring.ensemble.device)),
        }
    )
    if config.part is not None and config.parts is not None:
        score_part(scoring, config.part, config.parts, job)
        return
    _conclude(config, scoring, score_all(scoring, job), job)


def _conclude(config: PredictConfig, scoring: Scoring[PreparedRun], gathered: Gathered, job: Job) -> None:
    """All that follows the scores."""
    from spi_lightning.commands.downstream import analyse
    from spi_lightning.commands.scored import Scored, labelled
    from spi_lightning.inference.scores import write_selection_csv
    from spi_lightning.provenance import write_json
    from spi_lightning.report.page import write_page
    from spi_lightning.selection.results import Findings

    ensemble, run, preview = scoring.ensemble, scoring.run, scoring.preview
    probabilities = gathered.probabilities
    if preview is not None:
        preview.tally = gathered.tally
    selected = probabilities >= ensemble.threshold
    labels = None if run.labels is None else run.labels[selected]
    write_selection_csv(job.folder / "selection.csv", run.ids[selected], probabilities[selected], labels)
    facts: dict[str, Any] = {
        "patterns": len(run),
        "selected": int(selected.sum()),
        "threshold": ensemble.threshold,
        "networks": len(ensemble.networks),
        "mirrors": list(ensemble.mirrors),
        "patterns per second": round(len(run) / gathered.seconds, 1),
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
