"""The cascade on a trained ensemble: how much faster, and whether it selects the same.

    python -m benchmarks.cascade [--quick] [--results FOLDER] [--ensemble FOLDER --data FILE [--patterns N]]

By default on the ensemble and the fresh run that ``make demo`` leaves. Ours is all of spi-predict's work but writing:
reading, preparing, predicting. The paper-faithful loop has its patterns normalised in memory.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks import record
from benchmarks.paper_faithful import NORMALISATION, new_networks, normalised_patterns, pattern_counts
from benchmarks.prediction import LOOP
from benchmarks.record import Row, fact_row, interleaved, rate_row, share_row
from benchmarks.remote import Remote
from spi_lightning.errors import SpiError
from spi_lightning.inference.cascade import Cascade, CascadeSettings
from spi_lightning.inference.ensemble import Ensemble, TrainedOn, ready
from spi_lightning.inference.ensemble_file import load_ensemble, save_ensemble
from spi_lightning.inference.first_looks import FirstLooks, choose_bound
from spi_lightning.inference.mirroring import MIRRORS
from spi_lightning.inference.predict import score_run
from spi_lightning.inference.preparation import as_trained
from spi_lightning.inference.thresholds import ThresholdSettings
from spi_lightning.instrument import Geometry
from spi_lightning.patterns import open_run
from spi_lightning.patterns.export_cxi import write_cxi
from spi_lightning.patterns.prepare import prepare
from spi_lightning.patterns.prepared import PreparedRun

DEMO = Path("outputs/demo")
TARGET, SAME = 15.0, 0.999
LOOPED = 64  # patterns that the paper-faithful loop is given


def rows(
    quick: bool,
    ensemble: Path = DEMO / "training/ensemble",
    data: Path = DEMO / "fresh_simulation/patterns.cxi",
    patterns: int | None = None,
) -> list[Row]:
    """Rows of the table."""
    if quick:
        with tempfile.TemporaryDirectory() as folder:
            return _measured(*_small(Path(folder)), None, 1)
    if not ensemble.exists() or not data.exists():
        raise SpiError(f"{ensemble} or {data} is missing: run make demo first, or give --ensemble and --data.")
    return _measured(ensemble, data, patterns, 3)


def _measured(folder: Path, data: Path, n: int | None, repeats: int) -> list[Row]:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    ensemble = load_ensemble(folder)
    if ensemble.first_looks is None:
        raise SpiError(f"{folder} does not know what a first look shows: run spi-evaluate on its training.")
    bound = choose_bound(ensemble.first_looks, ensemble.threshold, CascadeSettings().missed)
    run = _prepared(ensemble, data)
    n = len(run) if n is None else min(n, len(run))
    looped = ensemble.normalisation(torch.from_numpy(run.read(np.arange(min(LOOPED, n))))).numpy()
    weights = [network.state_dict() for network in ensemble.networks]
    architecture = {name: value for name, value in ensemble.architecture.items() if name != "_target_"}
    with (
        Remote("benchmarks.paper_faithful:full_ensemble", looped, weights, 1, device, architecture) as loop,
        Remote("benchmarks.cascade:ours", str(folder), str(data), n, device, None) as full,
        Remote("benchmarks.cascade:ours", str(folder), str(data), n, device, bound) as cascade,
    ):
        everything, _ = full()
        spared, facts = cascade()
        seconds = interleaved({"loop": loop, "cascade": cascade}, repeats)
        memory = cascade.peak_memory()
    speed = {"loop": [len(looped) / s for s in seconds["loop"]], "cascade": [n / s for s in seconds["cascade"]]}
    ours, theirs = spared >= ensemble.threshold, everything >= ensemble.threshold
    same, either = int((ours & theirs).sum()), int((ours | theirs).sum())
    size = "{} x {}".format(*run.shape)
    note = f"{facts['share']:.1%} needed more than a first look; bound {facts['cascade bound']:g}"
    return [
        rate_row(f"patterns of {size} by a cascade, from disk", speed["cascade"], LOOP, speed["loop"], TARGET, note),
        share_row(f"share of {n} patterns that needed more than a first look", [facts["share"]]),
        fact_row(
            "selected by cascade and full ensemble alike",
            f"{same} of {either}",
            f"≥ {SAME:.1%}",
            same >= SAME * either > 0,
            f"{(ours == theirs).mean():.4%} of {n} decisions are the same",
        ),
        fact_row("memory of the cascade's process, at most", f"{memory / 1e9:.2f} GB"),
    ]


def ours(folder: str, data: str, n: int, device: str, bound: float | None) -> Callable[[], tuple[np.ndarray, dict]]:
    """What spi-predict does; gives probabilities ``(n,)`` and what the cascade has to say."""
    ensemble = load_ensemble(folder, device)
    run = _prepared(ensemble, Path(data))

    def work() -> tuple[np.ndarray, dict]:
        preview = None if bound is None else Cascade(ensemble, bound, CascadeSettings().audit)
        indices = None if n == len(run) else np.arange(n)
        found = np.concatenate([models for _, models in score_run(ensemble, run, indices, preview=preview)])
        return np.nanmean(found, axis=1, dtype=np.float64), {} if preview is None else preview.facts(n)

    return work


def _prepared(ensemble: Ensemble, data: Path) -> PreparedRun:
    settings = as_trained(ensemble.trained_on.prepare, {"sample_frames": 200})
    return prepare(open_run(data, mask_bits=ensemble.trained_on.mask_bits), settings, Geometry())


def _small(folder: Path) -> tuple[Path, Path]:
    """An untrained ensemble, and some patterns: enough to see that it runs."""
    shape, n = (64, 32), 40
    write_cxi(folder / "run.cxi", [pattern_counts(n, shape)], n, shape=shape, dtype=np.uint16, geometry=Geometry())
    architecture = {"filters": [4, 8], "blocks": [1, 1], "strides": [[1, 1], [2, 2]]}
    networks = new_networks(2, normalised_patterns(n, shape), 1, architecture)
    ensemble = Ensemble(
        networks=tuple(ready(network) for network in networks),
        architecture={"_target_": "spi_lightning.models.preact_resnet.PreActResNet", **architecture},
        normalisation=NORMALISATION,
        mirrors=MIRRORS,
        threshold=0.5,
        chosen_by=ThresholdSettings(),
        trained_on=TrainedOn(shape, None, {"crop": {"shape": None}}, "", ""),
        description={},
        first_looks=FirstLooks(tuple(np.linspace(0.0, 0.4, 20).tolist()), (0.6,) * 20, (0, 1) * 10, 0.1),
    )
    save_ensemble(folder / "ensemble", ensemble)
    return folder / "ensemble", folder / "run.cxi"


def main() -> None:
    """By the command line."""
    arguments = record.parser(__doc__)
    arguments.add_argument("--ensemble", type=Path, default=DEMO / "training/ensemble")
    arguments.add_argument("--data", type=Path, default=DEMO / "fresh_simulation/patterns.cxi")
    arguments.add_argument("--patterns", type=int, help="so many of them; default: all")
    arguments.add_argument("--name", default="cascade", help="of the table")
    given = arguments.parse_args()
    facts = record.load_at_start()
    try:
        found = rows(given.quick, given.ensemble, given.data, given.patterns)
    except SpiError as error:
        sys.exit(f"error: {error}")
    if (folder := record.folder_of(given)) is None:
        record.show(found)
    else:
        record.store(given.name, found, {**facts, "ensemble": str(given.ensemble), "data": str(given.data)}, folder)


if __name__ == "__main__":
    main()
