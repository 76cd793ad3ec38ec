"""What a config may say of loggers, and what each does before anything is told."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import Any

import pytest
import wandb
from hydra import compose, initialize_config_dir
from mlflow.tracking import MlflowClient
from omegaconf import OmegaConf

from spi_lightning.config.earlier import earlier_state, without_retired
from spi_lightning.config.targets import check_target, instantiate
from spi_lightning.errors import SpiError
from spi_lightning.tracking.mlflow import MLflow
from spi_lightning.tracking.run import keep_id, kept_id
from spi_lightning.tracking.session import tracked
from spi_lightning.tracking.wandb import WeightsAndBiases
from tests.unit.tracking.opened import database, loggers, run_folder
from tests.unit.tracking.wandb_file import OfflineRun

CONF = Path(__file__).resolve().parents[3] / "conf"
NOWHERE = "http://127.0.0.1:9"


def chosen(*overrides: str) -> dict[str, Any]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        blocks = OmegaConf.to_container(compose("train", overrides=["data.path=x", *overrides]).logger)
    assert isinstance(blocks, dict)
    return {str(name): block for name, block in blocks.items()}


@pytest.mark.parametrize(
    ("override", "names"),
    [
        ((), ["csv", "tensorboard"]),
        (("logger=wandb",), ["wandb"]),
        (("logger=[csv,wandb,mlflow]",), ["csv", "wandb", "mlflow"]),
        (("logger=none",), []),
    ],
)
def test_loggers_are_chosen_by_name_and_can_be_built(override: tuple[str, ...], names: list[str]) -> None:
    blocks = chosen(*override)
    assert list(blocks) == names
    for name, block in blocks.items():
        instantiate(block, f"logger.{name}", "logger")


@pytest.mark.parametrize(
    "target",
    ["pytorch_lightning.loggers.CSVLogger", "spi_lightning.tracking.run.Logger", "spi_lightning.tracking.session.Runs"],
)
def test_nothing_else_is_built(target: str) -> None:
    with pytest.raises(SpiError, match=r"not on the list .*spi_lightning\.tracking\.wandb\.WeightsAndBiases"):
        check_target({"_target_": target}, "logger.mine", "logger")


@pytest.mark.parametrize("uri", ["outputs/mlruns", "file:///tmp/mlruns", ""])
def test_folders_are_refused_as_mlflow_does(uri: str) -> None:
    with pytest.raises(SpiError, match=r"logger\.mlflow\.uri is .* sqlite:///outputs/mlflow\.db"):
        MLflow(uri, "experiment")


def test_settings_of_earlier_versions_are_passed_over(tmp_path: Path) -> None:
    old, new = {"seed": 1, "trainer": {"epochs": 3, "tensorboard": True}}, {"seed": 1, "trainer": {"epochs": 3}}
    assert without_retired(old) == new
    (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(old)))
    (tmp_path / "status.json").write_text('{"state": "complete"}')
    here = {"logger": {"csv": {"_target_": "x"}}, "seed": 1, "trainer": {"epochs": 3, "log_every": 50}}
    assert earlier_state(tmp_path, OmegaConf.to_yaml(OmegaConf.create(here))) == "complete"


def test_wandb_is_online_where_a_key_or_a_login_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    login = tmp_path / "netrc"
    monkeypatch.setenv("NETRC", str(login))
    auto = WeightsAndBiases("p", None, "auto", 1.0, False)
    public, own = "https://api.public.example", "https://wandb.institute.example"
    assert auto._mode(public) == "offline"
    login.write_text("machine api.wandb.ai login user password secret\n")
    assert auto._mode(public) == "online"
    monkeypatch.setenv("WANDB_BASE_URL", own)
    assert auto._mode(own) == "offline"
    login.write_text("machine wandb.institute.example login user password secret\n")
    assert auto._mode(own) == "online"
    login.unlink()
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    assert auto._mode(own) == "online"
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert auto._mode(own) == "offline"
    assert WeightsAndBiases("p", None, "online", 1.0, False)._mode(own) == "online"


def test_without_its_server_wandb_goes_on_offline(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", NOWHERE)
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    wandb.teardown()  # it reads the address once
    run = run_folder(tmp_path)
    with tracked({"wandb": WeightsAndBiases("p", None, "online", 1.0, False)}, run) as runs:
        runs.log({"loss": 0.5}, 3, 0)

    wandb.teardown()
    assert OfflineRun(run).curve("loss") == {3: 0.5}
    warnings = [record.getMessage() for record in caplog.records if record.name == "spi_lightning"]
    assert len(warnings) == 1
    assert "the server cannot be used" in warnings[0]
    assert f"wandb sync {run}/wandb/offline-run-" in warnings[0]
    assert capfd.readouterr().err == ""


def test_folds_that_start_at_once_share_a_database_and_a_parent(tmp_path: Path) -> None:
    run, logger = run_folder(tmp_path), MLflow(f"sqlite:///{tmp_path}/new/mlflow.db", "experiment")
    barrier = threading.Barrier(3)

    def fold(number: int) -> None:
        (run / "folds" / str(number)).mkdir(exist_ok=True)
        barrier.wait()
        with tracked({"mlflow": logger}, run, number) as runs:
            runs.log({"loss": 0.1 * number}, 1, 0)

    threads = [threading.Thread(target=fold, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    client = MlflowClient(logger.uri)
    experiment = client.get_experiment_by_name("experiment")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id])
    assert sorted(each.info.run_name for each in found) == ["run", "run/fold 0", "run/fold 1", "run/fold 2"]
    parents = {each.data.tags.get("mlflow.parentRunId") for each in found}
    assert parents == {None, kept_id(run, "mlflow")}
    assert Path(experiment.artifact_location.removeprefix("file://")) == tmp_path / "new/mlflow_files"


def test_a_run_of_a_database_that_is_gone_is_begun_anew(tmp_path: Path) -> None:
    run = run_folder(tmp_path)
    keep_id(run, "mlflow", "f" * 32)
    with tracked({"mlflow": loggers(tmp_path)["mlflow"]}, run):
        pass
    known = kept_id(run, "mlflow")
    assert known is not None
    assert MlflowClient(database(tmp_path)).get_run(known).info.status == "FINISHED"


def test_local_loggers_ask_no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []

    def refuse(*where: object, **_: object) -> None:
        asked.append(where)
        raise OSError("no network here")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with tracked(loggers(tmp_path), run_folder(tmp_path)) as runs:
        assert len(runs) == 4
        runs.publish()
    assert asked == []


def test_a_logger_that_cannot_be_opened_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "full.db").write_text("this is no database")
    with tracked({"mlflow": MLflow(f"sqlite:///{tmp_path}/full.db", "experiment")}, run_folder(tmp_path)) as runs:
        assert len(runs) == 0
    (warning,) = [record.getMessage() for record in caplog.records if record.name == "spi_lightning"]
    assert "logger.mlflow is left out" in warning
