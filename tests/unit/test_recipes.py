"""Recipes that the documentation keeps."""

from __future__ import annotations

from pathlib import Path

from spi_lightning.commands.recorded import read_recorded


def test_recipes_of_the_documentation_can_be_trained() -> None:
    folders = [path.parent for path in (Path(__file__).parents[2] / "docs/runs").glob("*/config.yaml")]
    assert folders
    for folder in folders:
        recorded = read_recorded(folder)
        assert recorded.threads_of_folds() is not None
        assert {"data", "labels", "versions", "commit"} <= recorded.jobs[0].keys()
        assert not Path(str(recorded.config["run"])).is_absolute()
