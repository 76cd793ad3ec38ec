"""Where a result comes from: versions, commit, machine."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import spi_lightning

PACKAGES = (
    *("torch", "pytorch-lightning", "torchmetrics", "batchgenerators", "scikit-learn", "safetensors"),
    *("numpy", "scipy", "h5py", "hdf5plugin", "hydra-core", "omegaconf", "pydantic"),
)


def provenance() -> dict[str, Any]:
    """Versions, machine, command line, and the commit of a development checkout (None elsewhere)."""
    versions = {"spi-lightning": spi_lightning.__version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    system = f"{platform.system()} {platform.machine()}"
    return {
        "versions": versions,
        "machine": {"system": system, "processor": _processor(), "cores": os.cpu_count()},
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "commit": current_commit(),
    }


def current_commit() -> str | None:
    """Commit of a development checkout; None where the package is installed."""
    return _git("rev-parse", "HEAD")


def uncommitted_changes() -> str | None:
    """Difference of a development checkout to its commit; None where there is none, or no checkout."""
    return _git("diff", "HEAD") or None


def _processor() -> str:
    """The processor's name, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _git(*arguments: str) -> str | None:
    root = Path(spi_lightning.__file__).resolve().parents[1]
    if not (root / ".git").exists():  # installed from a wheel: a repository further up is somebody else's
        return None
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def write_json(path: Path, content: Any) -> None:
    """Write JSON under a temporary name, then rename: a reader sees the old file or the new one, whole."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write text under a temporary name, then rename."""
    temporary = path.with_name(f"{path.name}.partial-{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
