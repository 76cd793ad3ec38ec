"""Keep of a run what is enough to train it again, small and without the names of a machine: a recipe."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from spi_lightning.commands.recorded import Recorded, files_of
from spi_lightning.errors import SpiError
from spi_lightning.provenance import write_json, write_text
from spi_lightning.report.comparison import TABLES

# Of provenance.json; what is left out are the command line, the folder, and what tables and config say anyway.
KEPT = (
    *("versions", "machine", "commit", "data", "labels", "truth", "device", "computes with", "threads"),
    *("threads of each fold", "threshold"),
)


def write_recipe(recorded: Recorded, folder: Path) -> list[Path]:
    """Write ``config.yaml``, ``provenance.json`` and ``tables/`` of a run, and its uncommitted changes where there are.

    Args:
        recorded: the run.
        folder: where; what an earlier recipe has left there is replaced.

    Returns:
        The files.

    Raises:
        SpiError: the config names files by the full path of a machine; or something else stands in the folder.
    """
    from omegaconf import OmegaConf

    if full := [f"{key}={path}" for key, path in files_of(recorded.config) if Path(path).expanduser().is_absolute()]:
        raise SpiError(
            f"recipe: the config of {recorded.folder} names files by their place on this machine ({', '.join(full)}). "
            "Say where they shall be found, from the folder that commands are started in: data.path=FILES and the like."
        )
    ours = {"config.yaml", "provenance.json", "uncommitted.diff", "tables", "reproduction"}
    if folder.is_dir() and (other := sorted({path.name for path in folder.iterdir()} - ours)):
        raise SpiError(f"recipe: {folder} holds something else than a recipe ({other[0]}). Give another recipe=FOLDER.")
    name = Path(str(recorded.config["run"]))
    run = str(Path(name.name) if name.is_absolute() else name)
    facts: dict[str, Any] = {key: found for key in KEPT if (found := recorded.fact(key)) is not None}
    if (threads := recorded.threads_of_folds()) is not None:
        facts["threads of each fold"] = list(threads)
    shutil.rmtree(folder / "tables", ignore_errors=True)
    (folder / "tables").mkdir(parents=True)
    files = [folder / "config.yaml", folder / "provenance.json"]
    write_text(files[0], OmegaConf.to_yaml(OmegaConf.create({**recorded.config, "run": run})))
    write_json(files[1], facts)
    (folder / "uncommitted.diff").unlink(missing_ok=True)
    if recorded.uncommitted is not None:
        files.append(folder / "uncommitted.diff")
        write_text(files[-1], recorded.uncommitted)
    for table in TABLES:
        for path in sorted((recorded.folder / "tables").glob(f"{table}.*")):
            files.append(folder / "tables" / path.name)
            write_text(files[-1], path.read_text(encoding="utf-8"))
    return files
