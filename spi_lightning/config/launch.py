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
STOPPED_BY_CTRL_C = 128 + signal.SIGINT


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
        part: key that gives a job a part of the work, such as one fold, in a folder inside of the run's; null there
            is the job that puts the parts together.
        gatherable: whether all parts are there.
    """

    resumable: bool = False
    repeatable: bool = False
    may_change: tuple[str, ...] = ()
    refuse: Callable[[T, Path, str], None] = lambda config, folder, config_yaml: None
    whole: Callable[[T, Path], bool] = lambda config, folder: True
    part: str | None = None
    gatherable: Callable[[T, Path], bool] = lambda config, folder: False


@dataclass(frozen=True)
class Command(Generic[T]):
    """What Hydra calls for each job.

    Attributes:
        schema: gives the dataclass that the config must fit.
        task: does the work.
        rerun: what happens in a folder that has been used.
    """

    schema: Callable[[], type[T]]
    task: Callable[[T, Any], None]
    rerun: Rerun[T]

    def __call__(self, cfg: Any) -> None:
        """Run a job in the folder that Hydra has for it. One of a sweep raises what it failed of, as Hydra wants it."""
        from hydra.core.hydra_config import HydraConfig
        from hydra.types import RunMode

        folder = Path(os.path.relpath(HydraConfig.get().runtime.output_dir))
        in_sweep = HydraConfig.get().mode == RunMode.MULTIRUN
        if in_sweep:
            print(f"{folder}:", flush=True)
        try:
            self._run(cfg, folder)
        except SpiError as error:
            print(f"error: {error}", file=sys.stderr)
            if in_sweep:
                raise
            sys.exit(1)
        except Exception as error:
            print(f"error: {type(error).__name__}: {error} (see {folder / 'traceback.txt'})", file=sys.stderr)
            raise

    def check(self, cfg: Any) -> tuple[str, T]:
        """A job's config in YAML, and as settings; ``cfg`` may hold Hydra's own, too.

        Raises:
            SpiError: it does not fit the schema.
        """
        from omegaconf import OmegaConf

        from spi_lightning.config.check import checked

        own = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
        return OmegaConf.to_yaml(own, resolve=True), checked(self.schema(), OmegaConf.to_container(own, resolve=True))

    def is_complete(self, config: tuple[str, T], folder: Path) -> bool:
        """Whether a job with this config (:meth:`check`) has been done, and would not be done again."""
        from spi_lightning.config.earlier import earlier_state

        if self.rerun.repeatable or not self.rerun.resumable:
            return False
        try:
            state = earlier_state(folder, config[0], self.rerun.may_change)
            return state == "complete" and self.rerun.whole(config[1], folder)
        except SpiError:
            return False

    def is_gatherable(self, config: tuple[str, T], folder: Path) -> bool:
        """Whether all parts of a run are there."""
        return self.rerun.gatherable(config[1], folder)

    def _run(self, cfg: Any, folder: Path) -> None:
        from spi_lightning.config.earlier import earlier_state
        from spi_lightning.config.scope import job_scope, sole_job

        config_yaml, settings = self.check(cfg)
        with sole_job(folder):
            self.rerun.refuse(settings, folder, config_yaml)
            state = None if self.rerun.repeatable else earlier_state(folder, config_yaml, self.rerun.may_change)
            if state == "complete" and self.rerun.resumable and self.rerun.whole(settings, folder):
                print(f"{folder} is complete: nothing is left to do.")
                return
            with job_scope(folder, config_yaml) as job:
                self.task(settings, job)


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

    OmegaConf.register_new_resolver("part_folder", _part_folder, replace=True)
    sys.argv[1:] = options_first(sys.argv[1:])
    try:
        check_command_line(name, conf_folder(), schema())
    except SpiError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    # What a scheduler sends before it kills: leave in order, so that the status says so and workers end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(STOPPED_BY_SIGTERM))
    command = Command(schema, task, rerun or Rerun())
    try:
        hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name=name)(command)()
    except KeyboardInterrupt:
        print("Stopped by Ctrl-C.", file=sys.stderr)
        sys.exit(STOPPED_BY_CTRL_C)


def conf_folder() -> Path:
    """The folder of configs: the package's own, or the one beside the ``pyproject.toml`` of a checkout."""
    package = Path(__file__).resolve().parents[1]
    beside = package.parent / "conf"
    # An editable install may leave a stale copy inside the package; a checkout is known by its pyproject.toml.
    if beside.is_dir() and (package.parent / "pyproject.toml").is_file():
        return beside
    return package / "conf"


def _part_folder(name: str, within: str, part: int | None) -> str:
    """The folder of a job ``name``; what makes a part of it, such as a fold, has one inside of that."""
    return str(name) if part is None else f"{name}/{within}/{part}"
