"""Where a result comes from: versions, commit, machine."""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import spi_lightning

PACKAGES = (
    *("torch", "pytorch-lightning", "torchmetrics", "batchgenerators", "scikit-learn", "safetensors"),
    *("numpy", "scipy", "h5py", "hdf5plugin", "hydra-core", "omegaconf", "pydantic"),
)

CODE = ("spi_lightning", "hydra_plugins", "conf")  # folders of a checkout that decide on what a job does
SUBMITTED = "SPI_LIGHTNING_SUBMITTED"  # in a job of a cluster, the environment's copy of submission()


def provenance() -> dict[str, Any]:
    """Versions, machine, command line, and the commit of a development checkout (None elsewhere).

    A job that was submitted to a cluster also has what :func:`submission` said then, and whether the code is another.
    """
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
        "folder": os.getcwd(),  # from which relative paths of the config count
        **_since_submission(),
    }


def submission() -> dict[str, Any]:
    """When, and with which code, a job is submitted that starts later, perhaps with other code: commit, changes."""
    commit = current_commit()
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {"time": now, "commit": commit, "changes": _changes(commit or "")}


def _since_submission() -> dict[str, Any]:
    if SUBMITTED not in os.environ:
        return {}
    then = json.loads(os.environ[SUBMITTED])
    return {"submitted": then, "code changed since": _changes(then["commit"] or "") != then["changes"]}


def _changes(commit: str) -> str | None:
    """Fingerprint of how the package's code differs from a commit; None where it does not, or git cannot say."""
    difference = _git("diff", commit, "--", *CODE) if re.fullmatch("[0-9a-f]{40}", commit) else None
    return hashlib.sha256(difference.encode()).hexdigest()[:16] if difference else None


def current_commit() -> str | None:
    """Commit of a development checkout; None where the package is installed."""
    return _git("rev-parse", "HEAD")


def uncommitted_changes() -> str | None:
    """Difference of a development checkout to its commit; None where there is none, or no checkout."""
    return _git("diff", "HEAD") or None


def changed_since(commit: str) -> list[str] | None:
    """Files of the package that a development checkout has otherwise than a commit; None where git cannot say.

    Args:
        commit: 40 hexadecimal digits; nothing else is handed to git.
    """
    if not re.fullmatch("[0-9a-f]{40}", commit):
        return None
    told = _git("diff", "--name-only", commit, "--", *CODE)
    return None if told is None else told.splitlines()


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
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
