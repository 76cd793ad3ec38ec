"""MLflow: runs in a database on disk, which ``mlflow ui`` shows, or on a server."""

from __future__ import annotations

import getpass
import logging
import os
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from spi_lightning.errors import require
from spi_lightning.records import flat
from spi_lightning.tracking.exclusive import exclusive
from spi_lightning.tracking.run import About, Place, Results, State, keep_id, kept_id, plain_name

if TYPE_CHECKING:
    from mlflow.entities import Metric, Run
    from mlflow.tracking import MlflowClient

NAME = "mlflow"
SQLITE = "sqlite:///"
SCHEMES = ("sqlite:///", "postgresql", "mysql", "mssql", "http://", "https://", "databricks")
STATUS = {"complete": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}
AT_ONCE = 100  # parameters in a batch, the most that MLflow takes
LONGEST = 500  # characters of a parameter
OFTEN = 5.0  # seconds between two writings of curves


@dataclass(frozen=True)
class MLflow:
    """A run for the training as a whole, whose children are the folds.

    Lightning's own MLFlowLogger is not used: it knows no parent runs, and sets MLflow's global state.

    Attributes:
        uri: of the database or server. Files of a database in SQLite go beside it.
        experiment: that runs belong to.
    """

    uri: str
    experiment: str

    package: ClassVar[str | None] = "mlflow"

    def __post_init__(self) -> None:
        require(
            self.uri.startswith(SCHEMES),
            "logger.mlflow.uri",
            self.uri,
            "a database or a server, as sqlite:///outputs/mlflow.db; MLflow has given up folders",
        )
        require(bool(self.experiment), "logger.mlflow.experiment", self.experiment, "a name")

    def opened(self, place: Place, about: About) -> _Run:
        """Go on with the run whose id is kept, or begin one."""
        client, experiment = self._connected()
        parent = None
        if place.fold is not None:
            whole = Place(place.run)
            parent = _begun(client, experiment, whole, {"group": place.group}).info.run_id
        tags = {name: str(value) for name, value in about.facts.items()}
        tags |= {"mlflow.source.name": "spi-train", "mlflow.source.type": "LOCAL", "mlflow.user": getpass.getuser()}
        if "commit" in tags:
            tags["mlflow.source.git.commit"] = tags["commit"]
        if parent is not None:
            tags["mlflow.parentRunId"] = parent
        run = _begun(client, experiment, place, tags)
        client.update_run(run.info.run_id, status="RUNNING")
        _describe(client, run, about)
        return _Run(client, run, set(flat(about.config)))

    def _connected(self) -> tuple[MlflowClient, str]:
        """Client, and id of the experiment, both of which are made where they are missing."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when it is imported
        os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
        logging.getLogger("alembic").setLevel(logging.WARNING)
        from mlflow.tracking import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.WARNING)
        path = Path(self.uri.removeprefix(SQLITE)).absolute() if self.uri.startswith(SQLITE) else None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        with nullcontext() if path is None else exclusive(path):  # two processes cannot both make the tables
            client = MlflowClient(self.uri if path is None else f"{SQLITE}{path}")
            found = client.get_experiment_by_name(self.experiment)
            if found is not None:
                return client, str(found.experiment_id)
            files = None if path is None else path.with_name(f"{path.stem}_files").as_uri()
            return client, str(client.create_experiment(self.experiment, files))


class _Run:
    def __init__(self, client: MlflowClient, run: Run, settings: set[str]):
        self._client, self._id, self._settings = client, run.info.run_id, settings
        self._told = {name: -1 for name in run.data.metrics}  # of a killed process: the last steps
        self._waiting: list[Metric] = []
        self._written = time.monotonic()

    def go_on_from(self, step: int) -> None:
        """Look up which steps are there: nothing can be taken back, and what is told anew is the same."""
        for name in self._told:
            self._told[name] = max(metric.step for metric in self._client.get_metric_history(self._id, name))

    def log(self, values: Mapping[str, float], step: int, epoch: int) -> None:
        now = self._metrics(values, step)
        self._waiting += [metric for metric in now if metric.step > self._told.get(metric.key, -1)]
        if time.monotonic() - self._written > OFTEN:
            self.flush()

    def flush(self) -> None:
        self._written = time.monotonic()
        waiting, self._waiting = self._waiting, []
        if waiting:
            self._client.log_batch(self._id, metrics=waiting)

    def publish(self, results: Results) -> None:
        for path in results.tables.values():
            self._client.log_artifact(self._id, str(path), "tables")
        for path in results.figures.values():
            self._client.log_artifact(self._id, str(path), "figures")
        self._client.log_batch(self._id, metrics=self._metrics(results.metrics, 0))
        for name in results.settings.keys() - self._settings:  # the choice of a group, of which no parameter tells
            self._client.set_tag(self._id, plain_name(name), str(results.settings[name]))

    def close(self, state: State) -> None:
        self.flush()
        self._client.set_terminated(self._id, STATUS[state])

    def _metrics(self, values: Mapping[str, float], step: int) -> list[Metric]:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        return [Metric(plain_name(name), value, now, step) for name, value in values.items()]


def _begun(client: MlflowClient, experiment: str, place: Place, tags: dict[str, str]) -> Run:
    """The run of a place; of several processes that ask for it at once, one begins it."""
    from mlflow.exceptions import MlflowException

    place.folder.mkdir(parents=True, exist_ok=True)
    with exclusive(place.folder / NAME):
        known = kept_id(place.folder, NAME)
        if known is not None:
            try:
                run = client.get_run(known)
            except MlflowException:  # it is of another database, or was deleted
                run = None
            if run is not None and run.info.lifecycle_stage == "active":
                for name, value in tags.items():
                    client.set_tag(known, name, value)
                return run
        run = client.create_run(experiment, tags=tags, run_name=place.name)
        keep_id(place.folder, NAME, run.info.run_id)
        return run


def _describe(client: MlflowClient, run: Run, about: About) -> None:
    """Settings as parameters, which MLflow lets nobody change: those of the first start stay."""
    from mlflow.entities import Param

    settings: dict[str, Any] = {plain_name(name): value for name, value in flat(about.config).items()}
    new = [Param(name, str(value)[:LONGEST]) for name, value in settings.items() if name not in run.data.params]
    for start in range(0, len(new), AT_ONCE):
        client.log_batch(run.info.run_id, params=new[start : start + AT_ONCE])
    client.log_artifact(run.info.run_id, str(about.config_file))
