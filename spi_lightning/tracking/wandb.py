"""Weights & Biases: runs on its server, or in a folder from which ``wandb sync`` sends them later."""

from __future__ import annotations

import logging
import netrc
import os
import secrets
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal
from urllib.parse import urlsplit

from spi_lightning.errors import require
from spi_lightning.records import rows_of
from spi_lightning.tracking.run import About, Place, Results, State, keep_id, kept_id

if TYPE_CHECKING:
    import wandb

log = logging.getLogger("spi_lightning")

NAME = "wandb"
PUBLIC = "api.wandb.ai"  # which newer versions reach by another name; a login for it is good there, too
KEYS = ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE")
LONGEST = 200  # characters of what its server is said to have
EXIT_CODES = {"complete": 0, "failed": 1, "stopped": 143}


@dataclass(frozen=True)
class WeightsAndBiases:
    """A run for each fold and one for the training as a whole, in a group.

    Lightning's own WandbLogger is not used: it goes on in whatever run the process has open.

    Attributes:
        project: that runs belong to.
        entity: user or team; None for the default one of the account.
        mode: online, offline, or auto: online where a key or a login is found.
        patience: seconds that the server may take to answer, and to receive the last data; the rest stays on disk.
        system_statistics: load of the machine's processors and memory, every 15 s.
    """

    project: str
    entity: str | None
    mode: Literal["auto", "online", "offline"]
    patience: float
    system_statistics: bool

    package: ClassVar[str | None] = "wandb"

    def __post_init__(self) -> None:
        require(bool(self.project), "logger.wandb.project", self.project, "a name")
        require(self.patience > 0, "logger.wandb.patience", self.patience, "more than 0 s")

    def opened(self, place: Place, about: About) -> _Run:
        """Go on with the run whose id is kept, or begin one."""
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # to its makers; read when it is imported
        import wandb

        run_id = kept_id(place.folder, NAME)
        if run_id is None:
            run_id = secrets.token_hex(4)
            keep_id(place.folder, NAME, run_id)
        server = wandb.setup(wandb.Settings(silent=True)).settings.base_url
        mode = self._mode(server)
        try:
            return _Run(self._begun(mode, run_id, place, about))
        except wandb.Error as error:
            if mode == "offline":
                raise
            run = self._begun("offline", secrets.token_hex(4), place, about)  # wandb holds on to the other id
            said = " ".join(str(error).split())[:LONGEST]
            log.warning("logger.wandb: the server cannot be used (%s). %s", said, _send_later(run))
            return _Run(run)

    def _begun(self, mode: Literal["online", "offline"], run_id: str, place: Place, about: About) -> wandb.Run:
        import wandb

        settings = wandb.Settings(
            silent=True,
            console="off",
            reinit="create_new",  # other runs of this process are left alone
            disable_git=True,
            disable_code=True,
            disable_job_creation=True,
            x_disable_meta=True,
            x_save_requirements=False,
            x_disable_stats=not self.system_statistics,
            x_transaction_log_flush_interval=1.0,  # seconds, which a kill may cost; it would be 15
        )
        if mode == "online":  # what goes to a disk is waited for
            settings.init_timeout = settings.finish_timeout = self.patience
            settings.finish_timeout_raises = True
        return wandb.init(
            project=self.project,
            entity=self.entity,
            group=place.group,
            name=place.name,
            job_type="training" if place.fold is None else "fold",
            id=run_id,
            resume="allow",
            mode=mode,
            dir=place.folder,
            config={**about.config, "about": about.facts},
            allow_val_change=True,
            settings=settings,
        )

    def _mode(self, server: str) -> Literal["online", "offline"]:
        if self.mode != "auto":
            return self.mode
        return "online" if os.environ.get("WANDB_MODE") != "offline" and _has_login(server) else "offline"


class _Run:
    def __init__(self, run: wandb.Run):
        self._run = run

    def go_on_from(self, step: int) -> None:
        """A step that the server has already is not taken a second time."""

    def log(self, values: Mapping[str, float], step: int, epoch: int) -> None:
        self._run.log({**values, "epoch": epoch}, step=step)

    def flush(self) -> None:
        """Another process writes what was told, within a second; there is no way to wait for it."""

    def publish(self, results: Results) -> None:
        import wandb

        shown: dict[str, Any] = {f"figures/{name}": wandb.Image(str(path)) for name, path in results.figures.items()}
        for name, path in results.tables.items():
            if lines := rows_of(path):
                cells = [[_value(cell) for cell in line.values()] for line in lines]
                shown[f"tables/{name}"] = wandb.Table(
                    columns=list(lines[0]), data=cells, allow_mixed_types=True, log_mode="IMMUTABLE"
                )
        self._run.log(shown)
        self._run.summary.update(results.metrics)

    def close(self, state: State) -> None:
        try:
            self._run.finish(exit_code=EXIT_CODES[state])
        except TimeoutError:
            raise TimeoutError(f"its server has not taken all in time. {_send_later(self._run)}") from None


def _send_later(run: wandb.Run) -> str:
    return f"All is kept on disk; send it with: wandb sync {shlex.quote(str(Path(run.dir).parent))}"


def _has_login(server: str) -> bool:
    """Whether wandb would find a key or a login, without asking for one."""
    if any(os.environ.get(key) for key in KEYS):
        return True
    hosts = [urlsplit(server).netloc] if os.environ.get("WANDB_BASE_URL") else [urlsplit(server).netloc, PUBLIC]
    try:
        known = netrc.netrc(os.environ.get("NETRC") or None)
        return any(known.authenticators(host) is not None for host in hosts)
    except (OSError, netrc.NetrcParseError):
        return False


def _value(cell: str) -> str | float | None:
    """A cell of a CSV file: a number where it is one, None where it is empty."""
    try:
        return float(cell) if cell else None
    except ValueError:
        return cell
