"""Configs that are loaded run nothing, and are not interpolated."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import hydra.utils
import pytest
import yaml
from omegaconf import OmegaConf

from spi_lightning.commands.scored import scored_run
from spi_lightning.config.targets import ALLOWED, check_target
from spi_lightning.errors import SpiError
from spi_lightning.report.page import write_page
from tests.integration.conftest import BIN
from tests.integration.payload import CONFIG, EVALUATE, RESUME, SELECT, ran, refused
from tests.integration.running import run_here

EVIL = [
    *("os.mkdir", "os.system", "builtins.eval", "builtins.__import__", "subprocess.Popen", "subprocess.run"),
    *("torch.load", "code.InteractiveInterpreter.runsource", "runpy.run_path", "pickle.loads", "pathlib.Path.touch"),
    *("hydra.utils.call", "hydra.utils.instantiate", "spi_lightning.config.launch.launch", "spi_lightning.cores.os"),
    *("spi_lightning.training.losses.torch.load", "spi_lightning.models.small_cnn.nn.Module", "", "os", ".."),
]


@pytest.mark.parametrize("role", ALLOWED)
def test_no_role_takes_a_target_that_is_not_on_its_list(role: str, marker: Path) -> None:
    hydra.utils.instantiate({"_target_": "os.mkdir", "path": str(marker)})
    assert marker.is_dir()
    marker.rmdir()
    for target in EVIL:
        with pytest.raises(SpiError, match="not on the list"):
            check_target({"_target_": target, "path": str(marker)}, "key", role)
    assert not marker.exists()


@pytest.mark.parametrize("word", ["_args_", "_partial_", "_recursive_", "_convert_"])
def test_hydras_own_words_are_keys_like_others(word: str) -> None:
    block = {"_target_": "spi_lightning.training.losses.CrossEntropy", word: True}
    with pytest.raises(SpiError, match="no such key"):
        check_target(block, "loss", "loss")


PLACES = ("model", "loss", "optimizer", "scheduler", "augmentation", "callbacks.psd", "steps.size", "logger.csv")


@pytest.mark.parametrize("place", [*PLACES, "callbacks.em.em", "trainer", "hydra.callbacks.mine", "hydra.launcher", ""])
def test_a_target_in_the_config_of_a_loaded_run(place: str, here: Path, marker: Path) -> None:
    config = OmegaConf.load(here / CONFIG)
    evil = {"_target_": "os.mkdir", "path": str(marker)}
    hydra.utils.instantiate(evil)
    marker.rmdir()
    OmegaConf.update(config, f"{place}._target_".lstrip("."), evil["_target_"], force_add=True)
    OmegaConf.update(config, f"{place}.path".lstrip("."), evil["path"], force_add=True)
    OmegaConf.save(config, here / CONFIG)
    with pytest.raises(SpiError, match=r"config\.yaml"):
        scored_run(here / "trained")  # as spi-select does
    assert not marker.exists()


def test_every_command_that_loads_a_run_refuses_hydras_keys_in_its_config(here: Path, marker: Path) -> None:
    evil = {"mine": {"_target_": "os.mkdir", "path": str(marker)}}
    text = (here / CONFIG).read_text() + yaml.safe_dump({"hydra": {"callbacks": evil, "searchpath": ["file:///"]}})
    (here / CONFIG).write_text(text)
    for command in (EVALUATE, SELECT, RESUME, "spi-reproduce run=trained"):
        refused(command, "hydra")
    assert run_here("spi-report run=trained")[0] == 0  # which shows it as text
    assert not marker.exists()


SECRET = "SPI_TEST_SECRET"


@pytest.mark.parametrize(
    "value",
    [
        f"${{oc.env:{SECRET}}}",
        f"${{oc.decode:${{oc.env:{SECRET}}}}}",
        "${hydra:runtime.cwd}",
        "${now:%Y}",
        "${part_folder:a,b,1}",
    ],
)
def test_interpolations_in_a_loaded_config_stay_text(value: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECRET, "abcdef123456")
    if "oc.env" in value:
        assert OmegaConf.create({"it": value}).it == "abcdef123456"
    config = OmegaConf.load(here / CONFIG)
    config.data.path = value
    OmegaConf.save(config, here / CONFIG)
    with pytest.raises(SpiError) as error:
        scored_run(here / "trained")  # as spi-select and spi-evaluate do
    assert value in str(error.value)
    page = write_page(here / "trained").read_text()
    assert "abcdef123456" not in str(error.value) + page


@pytest.mark.parametrize("file", [CONFIG, "predicted/config.yaml"])
def test_yaml_tags_in_a_loaded_config(file: str, here: Path, marker: Path) -> None:
    bad = f"data: !!python/object/apply:os.mkdir ['{marker}']\n"
    yaml.unsafe_load(bad)
    marker.rmdir()
    (here / file).write_text(bad)
    folder = file.partition("/")[0]
    refused(f"spi-select run={folder} callbacks=none", "config.yaml", "python/object/apply")
    run_here(f"spi-report run={folder}")
    assert not marker.exists()


def test_plugins_of_hydra_beside_the_data_and_in_a_run_folder(here: Path, marker: Path) -> None:
    for place in (here, here / "trained"):
        (place / "hydra_plugins").mkdir()
        (place / "hydra_plugins/mine.py").write_text(f"open({str(marker)!r}, 'w').close()\n")
        (place / "sitecustomize.py").write_text(f"open({str(marker)!r}, 'w').close()\n")
    subprocess.run([sys.executable, "-c", "import hydra_plugins.mine"], cwd=here, check=True)
    assert ran(marker)
    done = subprocess.run([BIN / "spi-report", "run=trained"], cwd=here, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not ran(marker)
