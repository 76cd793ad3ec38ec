"""What every command does around its own work: help, a checked config, a job scope, errors that can be read."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from spi_lightning.config.help import help_text
from spi_lightning.errors import SpiError

T = TypeVar("T")
STOPPED_BY_SIGTERM = 128 + signal.SIGTERM


def launch(
    name: str,
    schema: Callable[[], type[T]],
    task: Callable[[T, Any], None],
    *,
    resumable: bool = False,
    repeatable: bool = False,
    may_change: tuple[str, ...] = (),
) -> None:
    """Run a command.

    Args:
        name: of its primary config, ``conf/NAME.yaml``.
        schema: gives the dataclass that the config must fit; a function, since its module may be slow to import.
        task: does the work, given the checked config and the :class:`~spi_lightning.config.scope.Job`.
        resumable: started again in the same folder, the task goes on where it was; once complete, it is not run again.
        repeatable: started again in the same folder, with any settings, the task replaces what it made.
        may_change: settings that may be others when an interrupted task goes on.
    """
    if any(argument in ("--help", "-h") for argument in sys.argv[1:]):
        print(help_text(name, conf_folder(), sys.argv[1:]))
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

    def run(cfg: Any) -> None:
        _run(cfg, schema(), task, resumable, repeatable, may_change)

    # What a scheduler sends before it kills: leave in order, so that the status says so and workers end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(STOPPED_BY_SIGTERM))
    hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name=name)(run)()


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


def _run(
    cfg: Any,
    schema: type[T],
    task: Callable[[T, Any], None],
    resumable: bool,
    repeatable: bool,
    may_change: tuple[str, ...],
) -> None:
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from omegaconf import OmegaConf

    from spi_lightning.config.check import checked
    from spi_lightning.config.earlier import earlier_state
    from spi_lightning.config.scope import job_scope, sole_job

    runtime = HydraConfig.get()
    folder = Path(runtime.runtime.output_dir)
    config_yaml = OmegaConf.to_yaml(cfg, resolve=True)
    try:
        settings = checked(schema, OmegaConf.to_container(cfg, resolve=True))
        with sole_job(folder):
            if not repeatable and earlier_state(folder, config_yaml, may_change) == "complete" and resumable:
                print(f"{folder} is complete: nothing is left to do.")
                return
            with job_scope(folder, config_yaml) as job:
                task(settings, job)
    except SpiError as error:
        _complain(error)
        if runtime.mode == RunMode.MULTIRUN:  # Hydra goes on with the other jobs and reports this one at the end
            raise
        sys.exit(1)


def _complain(error: SpiError) -> None:
    print(f"error: {error}", file=sys.stderr)
