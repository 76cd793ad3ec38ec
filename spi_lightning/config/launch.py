"""What every command does around its own work: help, a checked config, a job scope, errors that can be read."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from spi_lightning.config.help import help_text
from spi_lightning.errors import SpiError

T = TypeVar("T")
STOPPED_BY_SIGTERM = 128 + signal.SIGTERM


@dataclass(frozen=True)
class Rerun(Generic[T]):
    """What a command does when it is started again in a folder.

    Attributes:
        resumable: it goes on where it was; once complete, it is not run again.
        repeatable: it replaces what it made, with any settings.
        may_change: settings that may be others when an interrupted task goes on.
        refuse: looks at the checked config, the job's folder and the resolved config, and may raise a
            :class:`SpiError`, before anything is written there.
        whole: whether what a complete job made is still there, so that nothing is left to do.
    """

    resumable: bool = False
    repeatable: bool = False
    may_change: tuple[str, ...] = ()
    refuse: Callable[[T, Path, str], None] = lambda config, folder, config_yaml: None
    whole: Callable[[T, Path], bool] = lambda config, folder: True


def launch(
    name: str, schema: Callable[[], type[T]], task: Callable[[T, Any], None], rerun: Rerun[T] | None = None
) -> None:
    """Run a command.

    Args:
        name: of its primary config, ``conf/NAME.yaml``.
        schema: gives the dataclass that the config must fit; a function, since its module may be slow to import.
        task: does the work, given the checked config and the :class:`~spi_lightning.config.scope.Job`.
        rerun: what happens in a folder that has been used; by default it is refused, but for the same settings.
    """
    if any(argument in ("--help", "-h") for argument in sys.argv[1:]):
        try:
            print(help_text(name, conf_folder(), sys.argv[1:]), flush=True)
        except BrokenPipeError:  # piped into head, say, which has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    import hydra
    from omegaconf import OmegaConf

    from spi_lightning.config.compose import check_command_line, options_first

    OmegaConf.register_new_resolver("fold_folder", _fold_folder, replace=True)
    sys.argv[1:] = options_first(sys.argv[1:])
    try:
        check_command_line(name, conf_folder(), schema())
    except SpiError as error:
        _complain(error)
        sys.exit(1)
    refused: list[SpiError] = []

    def run(cfg: Any) -> None:
        try:
            _run(cfg, schema(), task, rerun or Rerun())
        except SpiError as error:
            _complain(error)
            if _elsewhere():
                raise  # only so does the process that started this one learn of it
            refused.append(error)

    # What a scheduler sends before it kills: leave in order, so that the status says so and workers end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(STOPPED_BY_SIGTERM))
    hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name=name)(run)()
    if refused:
        sys.exit(1)


def conf_folder() -> Path:
    """The folder of configs: the package's own, or the one beside the ``pyproject.toml`` of a checkout."""
    package = Path(__file__).resolve().parents[1]
    beside = package.parent / "conf"
    # An editable install may leave a stale copy inside the package; a checkout is known by its pyproject.toml.
    if beside.is_dir() and (package.parent / "pyproject.toml").is_file():
        return beside
    return package / "conf"


def _fold_folder(fold: int | None, otherwise: str | int) -> str:
    """Where in a run folder the job that trains one fold belongs; ``otherwise``, the one that trains them all."""
    return str(otherwise) if fold is None else f"folds/{fold}"


def _elsewhere() -> bool:
    """Whether a launcher has put this job of a sweep into another process."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    hydra = HydraConfig.get()
    return hydra.mode == RunMode.MULTIRUN and not hydra.launcher._target_.endswith(".BasicLauncher")


def _run(cfg: Any, schema: type[T], task: Callable[[T, Any], None], rerun: Rerun[T]) -> None:
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    from spi_lightning.config.check import checked
    from spi_lightning.config.earlier import earlier_state
    from spi_lightning.config.scope import job_scope, sole_job

    folder = Path(HydraConfig.get().runtime.output_dir)
    config_yaml = OmegaConf.to_yaml(cfg, resolve=True)
    settings = checked(schema, OmegaConf.to_container(cfg, resolve=True))
    with sole_job(folder):
        rerun.refuse(settings, folder, config_yaml)
        state = None if rerun.repeatable else earlier_state(folder, config_yaml, rerun.may_change)
        if state == "complete" and rerun.resumable and rerun.whole(settings, folder):
            print(f"{folder} is complete: nothing is left to do.")
            return
        with job_scope(folder, config_yaml) as job:
            task(settings, job)


def _complain(error: SpiError) -> None:
    print(f"error: {error}", file=sys.stderr)
