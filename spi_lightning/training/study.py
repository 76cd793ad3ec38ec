"""A search's study: the journal that its jobs report to, and whether a trial is worth going on with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from spi_lightning.errors import Pruned, SpiError, require

if TYPE_CHECKING:
    import optuna

    from spi_lightning.data.splits import Splits

# What is searched for, by its name in provenance.json: of patterns that the networks had not seen, at no threshold.
OBJECTIVE = "cross-validation average_precision"
NAME = "search"


@dataclass(frozen=True)
class SearchSettings:
    """Which trial of a search a training is.

    Attributes:
        study: the journal.
        trial: its number.
        startup: trials that are not given up.
    """

    study: str
    trial: int
    startup: int

    def __post_init__(self) -> None:
        require(self.trial >= 0, "search.trial", self.trial, "0 or more")


def open_study(path: Path, startup: int, seed: int | None = None) -> optuna.Study:
    """The study in a journal, which is made where there is none. Several processes may have it open.

    Args:
        path: of the journal.
        startup: trials that are drawn at random, and not given up.
        seed: of the sampler; None for one who does not draw.

    Raises:
        SpiError: Optuna is not installed, or the file is none of its journals.
    """
    try:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
    except ImportError:
        raise SpiError("A search needs Optuna: pip install 'spi-lightning[search]'.") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler: optuna.samplers.BaseSampler = optuna.samplers.RandomSampler()
    try:
        storage = JournalStorage(JournalFileBackend(str(path)))
        if seed is not None:
            # Another seed after each start: the same one would draw again what has been tried.
            found = [each for each in optuna.get_all_study_summaries(storage) if each.study_name == NAME]
            sampler = optuna.samplers.TPESampler(
                n_startup_trials=startup, seed=seed + (found[0].n_trials if found else 0)
            )
        return optuna.create_study(
            storage=storage,
            sampler=sampler,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=startup),
            study_name=NAME,
            direction="maximize",
            load_if_exists=True,
        )
    except (OSError, ValueError, KeyError) as error:
        raise SpiError(
            f"{path}: cannot be used as the journal of a search ({error}). Remove it, or give another run=FOLDER."
        ) from None


def report_folds(settings: SearchSettings, folder: Path, splits: Splits) -> None:
    """Tell the study how the folds that are finished do, in their order.

    Args:
        settings: which trial.
        folder: of the folds' folders.
        splits: of the run.

    Raises:
        Pruned: after as many folds, half of the other trials were better.
    """
    import optuna
    import torch

    from spi_lightning.analysis.classification import average_precision
    from spi_lightning.inference.scores import read_scores
    from spi_lightning.training.fold import PREDICTIONS

    study = open_study(Path(settings.study), settings.startup)
    known = study.get_trials(deepcopy=False)[settings.trial]
    trial = optuna.trial.Trial(study, known._trial_id)
    values: list[float] = []
    for fold, indices in enumerate(splits.folds):
        path = folder / str(fold) / PREDICTIONS
        if not path.exists():
            break
        scores = torch.from_numpy(read_scores(path).probabilities)
        values.append(float(average_precision(scores, torch.from_numpy(splits.labels[indices]))))
        if fold not in known.intermediate_values:
            trial.report(sum(values) / len(values), fold)
    if values and len(values) < len(splits.folds) and trial.should_prune():
        raise Pruned(
            f"Trial {settings.trial} is given up after {len(values)} folds: its average precision of "
            f"{sum(values) / len(values):.3f} is below the median of the other trials."
        )
