"""What all commands share: help, configs of one's own, the wheel."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = sorted(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"])


@pytest.mark.parametrize("command", COMMANDS)
def test_help_says_what_can_be_set_and_imports_nothing_heavy(command: str) -> None:
    module = f"spi_lightning.commands.{command.removeprefix('spi-')}"
    code = (
        f"import sys; sys.argv = ['{command}', '--help']; from {module} import main; main(); "
        "heavy = {'torch', 'numpy', 'h5py', 'hydra', 'omegaconf', 'pydantic', 'matplotlib', 'scipy', 'rich'}; "
        "print('HEAVY', sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "HEAVY []" in done.stdout
    assert "run:" in done.stdout
    assert "--config-dir" in done.stdout


def test_help_explains_a_group(spi) -> None:
    assert "what the experiment is after" in spi("spi-simulate", "--help", "simulate").stdout
    assert "0.130" in spi("spi-simulate", "--help", "instrument=pnccd_front").stdout


def test_a_config_folder_of_ones_own_adds_choices(spi, tmp_path: Path) -> None:
    (tmp_path / "mine/instrument").mkdir(parents=True)
    (tmp_path / "mine/instrument/ours.yaml").write_text(
        "photon_energy: 2000.0\ndistance: 0.2\npixel_size: 1.0e-4\ncentre: null\npolarisation: vertical\n"
    )
    few = ("simulate=tiny", "simulate.n_patterns=2", "workers=1", "run=out")
    spi("spi-simulate", "--config-dir", "mine", "instrument=ours", *few)
    config = (tmp_path / "out/config.yaml").read_text()
    assert "photon_energy: 2000.0" in config
    assert "polarisation: vertical" in config
    missing = spi("spi-simulate", "--config-dir", "nowhere", *few, ok=False)
    assert "there is no such folder" in missing.stderr


def test_a_job_without_a_named_folder_makes_one_of_its_own_and_no_other(spi, tmp_path: Path) -> None:
    few = ("simulate=tiny", "simulate.n_patterns=2", "workers=1")
    for expected in (1, 2):
        spi("spi-simulate", *few)
        folders = list((tmp_path / "outputs/simulate").iterdir())
        assert len(folders) == expected
        assert all((folder / "patterns.cxi").exists() for folder in folders)


@pytest.mark.slow
def test_the_wheel_works_from_any_folder(tmp_path: Path) -> None:
    """Build it, install it in an environment of its own, and run a command from /."""
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)],
        check=True,
        capture_output=True,
    )
    wheel = next(tmp_path.glob("*.whl"))
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env/bin/python"
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", str(wheel)], check=True, capture_output=True)
    # The dependencies are those of this environment: what is tested is what the wheel carries.
    here = next(path for path in sys.path if path.endswith("site-packages"))
    site = next((tmp_path / "env/lib").glob("python*/site-packages"))
    (site / "dependencies.pth").write_text(here + "\n")
    script = str(tmp_path / "env/bin/spi-simulate")
    out = tmp_path / "out"
    code = "import spi_lightning; print(spi_lightning.__file__)"
    where = subprocess.run([python, "-c", code], cwd="/", check=True, capture_output=True, text=True).stdout
    assert str(site) in where
    for arguments in (["--help"], ["simulate=tiny", "simulate.n_patterns=2", "workers=1", f"run={out}"]):
        subprocess.run([script, *arguments], cwd="/", check=True, capture_output=True)
    assert (out / "patterns.cxi").exists()
