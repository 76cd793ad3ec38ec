"""Traps that others have fallen into and that no other test would notice."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PACKAGES = ("spi_lightning", "hydra_plugins", "benchmarks")
SOURCES = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
COMMANDS = [path for path in (ROOT / "conf").glob("*.yaml") if re.search(r"^run: \S*\$\{now", path.read_text(), re.M)]


@pytest.mark.parametrize("config", COMMANDS, ids=lambda path: path.stem)
def test_folders_of_jobs_that_start_in_the_same_second_differ(config: Path) -> None:
    assert re.search(r"^run: outputs/\w+/\$\{now:%Y-%m-%d_%H-%M-%S-%f\}", config.read_text(), re.M)


def test_commands_have_such_folders() -> None:
    assert {"simulate", "inspect", "train", "predict"} <= {path.stem for path in COMMANDS}


def test_only_one_of_the_two_copies_of_lightning_is_imported() -> None:
    assert len(SOURCES) > 100
    assert [path for path in SOURCES if re.search(r"^\s*(import|from) lightning\b", path.read_text(), re.M)] == []


def test_the_compromised_releases_of_lightning_cannot_be_installed() -> None:
    lines = re.findall(r'"(pytorch-lightning[^"]+)"', (ROOT / "pyproject.toml").read_text())
    assert len(lines) == 1
    allowed = Requirement(lines[0]).specifier
    assert "2.6.6" in allowed
    assert not {"2.6.2", "2.6.3"} & set(allowed.filter(["2.6.1", "2.6.2", "2.6.3", "2.6.4"]))


def test_nothing_lets_torch_run_what_it_loads() -> None:
    words = re.compile(r"weights_only\s*=\s*False|allow_pickle\s*=\s*True|TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD")
    assert [path for path in SOURCES if words.search(path.read_text())] == []
