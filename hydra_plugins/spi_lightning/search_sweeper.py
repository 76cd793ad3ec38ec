"""A search by Optuna: what is tried next depends on what was found, and trials that fall behind are given up.

Optuna is asked and told (its ask-and-tell interface): Hydra's own plugin for it needs versions that are not kept any
more. The study is a journal in the folder of the search, to which jobs report while they run, also from other machines.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep

from hydra_plugins.spi_lightning.jobs_sweeper import JobsSweeper
from spi_lightning.config.sweep import SweepJob, SweepRecord
from spi_lightning.errors import SpiError, require
from spi_lightning.training.study import OBJECTIVE, open_study

if TYPE_CHECKING:
    import optuna

STUDY = "study.journal"
FINISHED = ("complete", "failed", "pruned")


class SearchSweeper(JobsSweeper):
    """Launches the jobs of a search, some at a time, until there are as many as wanted.

    A search that was killed goes on: its study is read again, and trials that were at work are started again with their
    own values, and go on from their checkpoints.
    """

    def __init__(
        self, trials: int, at_once: int, startup: int, seed: int, prune: bool, params: dict[str, Any] | None = None
    ):
        """Remember how to search.

        Args:
            trials: in all, also those that failed or were given up.
            at_once: jobs that are handed to the launcher together.
            startup: trials that are drawn at random before the sampler learns from them, and that are not given up.
            seed: of the sampler.
            prune: whether trials are given up that are below the median of the others after as many folds.
            params: key → values, as the command line has them.

        Raises:
            SpiError: a number is too small.
        """
        for name, value, least in (("trials", trials, 1), ("at_once", at_once, 1), ("startup", startup, 0)):
            require(value >= least, f"hydra.sweeper.{name}", value, f"{least} or more")
        require(0 <= seed < 2**32, "hydra.sweeper.seed", seed, "from 0 to 4294967295")
        super().__init__(params)
        self.trials, self.at_once, self.startup, self.seed, self.prune = trials, at_once, startup, seed, prune

    def _run(self, arguments: list[str]) -> SweepRecord:
        parsed = OverridesParser.create(config_loader=self.context.config_loader).parse_overrides(arguments)
        given = {each.get_key_element(): each for each in parsed}  # the last one of a key counts
        space = {key: _distribution(each) for key, each in given.items() if each.is_sweep_override()}
        if not space:
            raise SpiError("A search has nothing to vary. Give KEY=interval(LOW,HIGH), KEY=A,B or sweep=search.")
        fixed = [str(each.input_line) for key, each in given.items() if key not in (*space, "run")]
        root = Path(self.base.hydra.sweep.dir)
        root.mkdir(parents=True, exist_ok=True)
        study = open_study(root / STUDY, self.startup, self.seed)
        record = SweepRecord(root, list(space))
        try:
            while trials := self._next(study, space):
                jobs = [self._trial(trial, fixed, root) for trial in trials]
                self._launch(jobs, record)
                for trial, job in zip(trials, jobs, strict=True):
                    _tell(study, trial.number, job)
                if any(job.state not in FINISHED for job in jobs):
                    break  # it would only be killed again; the same command goes on with it
        finally:
            record.end()
            _print_best(study)
        return record

    def _next(
        self, study: optuna.Study, space: dict[str, optuna.distributions.BaseDistribution]
    ) -> Sequence[optuna.trial.FrozenTrial | optuna.Trial]:
        """Trials that are not finished, or new ones; none where there are as many as wanted."""
        from optuna.trial import TrialState

        known = study.get_trials(deepcopy=False)
        if left := [trial for trial in known if trial.state == TrialState.RUNNING]:
            return left[: self.at_once]
        return [study.ask(space) for _ in range(min(self.at_once, self.trials - len(known)))]

    def _trial(self, trial: optuna.trial.FrozenTrial | optuna.Trial, fixed: list[str], root: Path) -> SweepJob:
        values = {key: _written(value) for key, value in trial.params.items()}
        lines = [*fixed, *(f"{key}={value}" for key, value in values.items()), f"run='{root}'"]
        if self.prune:
            lines.append(f"search={{study:'{root / STUDY}',trial:{trial.number},startup:{self.startup}}}")
        return self._job(lines, values, f"trial-{trial.number}")


def _distribution(override: Override) -> optuna.distributions.BaseDistribution:
    """What Hydra's sweep syntax means to Optuna.

    Raises:
        SpiError: bounds that no number lies between.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    value = override.value()
    try:
        if isinstance(value, IntervalSweep):
            low, high = value.start or 0, value.end or 0
            if isinstance(low, int) and isinstance(high, int):
                return IntDistribution(low, high, log="log" in value.tags)
            return FloatDistribution(low, high, log="log" in value.tags)
        if isinstance(value, RangeSweep) and isinstance(value.step, int) and isinstance(value.start, int):
            assert isinstance(value.stop, int)
            return IntDistribution(value.start, value.stop - 1, step=value.step)
    except ValueError as error:
        raise SpiError(f"{override.input_line}: {error}") from None
    return CategoricalDistribution(list(override.sweep_string_iterator()))


def _written(value: Any) -> str:
    """As it stands on a command line; of a drawn number no more digits than anyone would type."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _tell(study: optuna.Study, number: int, job: SweepJob) -> None:
    """Finish a trial by what its job left; one that was killed stays unfinished."""
    from optuna.trial import TrialState

    if job.state == "complete":
        facts = json.loads((job.folder / "provenance.json").read_text(encoding="utf-8"))
        value = facts.get(OBJECTIVE)
        if value is not None and math.isfinite(value):
            study.tell(number, value, skip_if_finished=True)
            return
    if job.state in FINISHED:
        state = TrialState.PRUNED if job.state == "pruned" else TrialState.FAIL
        study.tell(number, state=state, skip_if_finished=True)


def _print_best(study: optuna.Study) -> None:
    from optuna.trial import TrialState

    if study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        best = study.best_trial
        values = " ".join(f"{key}={_written(value)}" for key, value in best.params.items())
        print(f"Best: trial-{best.number}, {OBJECTIVE} {best.value:.4f}: {values}")
