"""Compose what the command line asks for before Hydra takes over, so that a mistake is told in one sentence."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any, TypeVar

from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from yaml import YAMLError

from spi_lightning.config.check import checked, fields_at
from spi_lightning.config.targets import parameters_of
from spi_lightning.errors import SpiError, nearest

T = TypeVar("T")

WITH_VALUE = ("--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp", "--cfg", "-c", "--package", "-p")


def check_command_line(name: str, conf: Path, schema: type[Any]) -> None:
    """Compose and check every job that the command line asks for.

    In a sweep, each swept value is tried once, with the first value of the others.

    Raises:
        SpiError: an override cannot be parsed, names an unknown key or group choice, or has a value of a wrong type.
    """
    arguments, unknown = get_args_parser().parse_known_args()
    if unknown:
        raise SpiError(f"Unknown option {unknown[0]}. Settings are given as KEY=VALUE; see --help.")
    if arguments.cfg and arguments.multirun:
        raise SpiError("--cfg shows the config of one job. Leave -m out, and give one value of each setting.")
    if arguments.config_name or arguments.config_path or arguments.hydra_help or arguments.info or arguments.cfg:
        return  # Hydra's own business
    folder = arguments.config_dir
    if folder and not Path(folder).is_dir():
        raise SpiError(f"--config-dir {folder}: there is no such folder.")
    search = [f"hydra.searchpath=[file://{Path(folder).resolve()}]"] if folder else []
    preset, multirun = _sweep(name, conf, [*search, *arguments.overrides])
    for overrides in _jobs([*preset, *arguments.overrides], arguments.multirun or multirun):
        checked_config = composed(name, conf, schema, [*search, *overrides])
        if any(override.startswith("run=") for override in overrides):
            _make_folder(str(checked_config.run))


def _sweep(name: str, conf: Path, overrides: list[str]) -> tuple[list[str], bool]:
    """The swept values of a preset, as overrides, and whether it starts a sweep by itself.

    Raises:
        SpiError: a setting of ``hydra.sweeper`` is wrong, which Hydra would tell in a traceback.
    """
    chosen = [override for override in overrides if override.lstrip("+~").startswith(("sweep=", "hydra.", "hydra/"))]
    if not chosen:
        return [], False
    with initialize_config_dir(str(conf), version_base="1.3"):
        try:
            hydra = compose(name, overrides=chosen, return_hydra_config=True).hydra
        except HydraException:
            return [], False  # told where all overrides are composed
    sweeper: dict[str, Any] = dict(OmegaConf.to_container(hydra.sweeper))  # type: ignore[arg-type]
    module, _, kind = str(sweeper.pop("_target_")).rpartition(".")
    if module.startswith("hydra_plugins.spi_lightning."):  # others check for themselves
        ours = getattr(importlib.import_module(module), kind)
        checked(parameters_of(ours), sweeper, "hydra.sweeper")
        ours(**sweeper)
    params = sweeper.get("params") or {}
    return [f"{key}={values}" for key, values in params.items()], str(hydra.mode) == "RunMode.MULTIRUN"


def _make_folder(run: str) -> None:
    """Make the folder that the user named: where that fails, Hydra's own attempt would end in a traceback."""
    if not run:
        raise SpiError("run: the folder to write to is empty. Give one with run=FOLDER, or leave the key out.")
    try:
        Path(run).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SpiError(
            f"run: the folder {run} cannot be made ({error.strerror}). Choose another: run=FOLDER."
        ) from None


def options_first(arguments: list[str]) -> list[str]:
    """Hydra takes options only before the settings or after them, not in between: put them first."""
    options: list[str] = []
    settings: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if not argument.startswith("-"):
            settings.append(argument)
            continue
        options.append(argument)
        if argument in WITH_VALUE and (value := next(rest, None)) is not None:
            options.append(value)
    return [*options, *settings]


def composed(name: str, conf: Path, schema: type[T], overrides: list[str]) -> T:
    """Compose a config as the command line would, and check it.

    Args:
        name: of the primary config.
        conf: folder of configs.
        schema: dataclass that the config must fit.
        overrides: ``KEY=VALUE`` each.

    Raises:
        SpiError: an override names an unknown key or choice, or has a value of a wrong type.
    """
    try:
        with initialize_config_dir(str(conf), version_base="1.3"):
            cfg = compose(name, overrides=overrides)
        values = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise SpiError(_sentence(error, name, conf, schema, overrides)) from None
    except (YAMLError, UnicodeDecodeError) as error:  # the latter does not say in which file
        said = " ".join(str(error).split())
        raise SpiError(f"A config cannot be read as YAML ({said}). Mend it; your own are in --config-dir.") from None
    except ValueError as error:  # a number where the name of a file of a group belongs
        if "group" not in str(error):
            raise
        raise SpiError(f"{' '.join(str(error).split())} Give GROUP=NAME, one of those that --help lists.") from None
    except RecursionError:
        raise SpiError(
            "A config includes itself, by itself or by others, in its list of defaults. Break the circle."
        ) from None
    return checked(schema, values)


def _jobs(overrides: list[str], multirun: bool) -> list[list[str]]:
    """Each swept value once, with the first one of the others; a later override of a key replaces an earlier one."""
    parser = OverridesParser.create()
    choices: dict[str, list[str]] = {}
    for text in overrides:
        try:
            override = parser.parse_override(text)
        except HydraException as error:
            raise SpiError(f"'{text}' cannot be read as KEY=VALUE. {str(error).splitlines()[0]}") from None
        key = override.get_key_element()
        if not override.is_sweep_override():
            choices[key] = [text]
        elif not multirun:
            raise SpiError(f"'{text}' gives several values: add -m to run one job for each, or quote the value.")
        elif override.is_discrete_sweep():
            try:
                choices[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
            except HydraException:  # a glob over a group's choices, which Hydra alone can look up
                continue
    values = list(choices.values())
    first = [each[0] for each in values]
    jobs = [first]
    for position, each in enumerate(values):
        jobs += [[*first[:position], value, *first[position + 1 :]] for value in each[1:]]
    return jobs


def _sentence(error: Exception, name: str, conf: Path, schema: type[Any], overrides: list[str]) -> str:
    """What Hydra says, with the nearest valid name."""
    text = str(error)
    if match := re.search(r"Could not override '([^']+)'", text):
        key = match[1]
        *path, last = key.split(".")
        valid = fields_at(schema, tuple(path)) or _keys_at(path, name, conf, overrides)
        groups = sorted(p.name for p in conf.iterdir() if p.is_dir()) if not path else []
        if last in valid:
            return f"{key}: what is given has a key that is not there. To add keys, write '+{key}=…' for '{key}=…'."
        known = f" Valid here: {', '.join(valid)}." if valid else ""
        candidates = [*valid, *groups]
        for depth, block in enumerate(path):  # the block itself may not be there
            blocks = fields_at(schema, tuple(path[:depth]))
            if not valid and block not in blocks:
                last, candidates = block, blocks
                break
        return f"{key}: there is no such key.{nearest(last, candidates)}{known}"
    if "hydra/launcher/submitit_slurm" in text:
        return "hydra/launcher: what SLURM needs is not installed: pip install 'spi-lightning[slurm]'."
    if match := re.search(r"Could not (?:find|load) '([^']+)'", text):
        group, _, choice = match[1].rpartition("/")
        names = sorted(path.stem for path in (conf / group).glob("*.yaml"))
        return f"{group}={choice}: there is no such choice.{nearest(choice, names)} Valid: {', '.join(names)}."
    if isinstance(error, MissingMandatoryValue):
        key = error.full_key
        return f"{key}: this value must be given, as {key}=VALUE."
    if text.startswith("Error merging override"):
        return f"{text}: {str(error.__cause__).partition(chr(10))[0]}."
    return " ".join(text.split())


def _keys_at(path: list[str], name: str, conf: Path, overrides: list[str]) -> list[str]:
    """Keys of a block whose fields depend on what was chosen, such as those of a network."""
    choices = [override for override in overrides if "." not in override.partition("=")[0]]
    try:
        with initialize_config_dir(str(conf), version_base="1.3"):
            config = compose(name, overrides=choices, return_hydra_config=path[0] == "hydra")
            block = OmegaConf.select(config, ".".join(path))
    except (HydraException, OmegaConfBaseException):
        return []
    return [str(key) for key in block] if OmegaConf.is_dict(block) else []
