"""Ways to spoil the folders of runs; each gives a function of the folder that they lie in."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import h5py
import torch
from safetensors.torch import load_file, save_file

FOLD = "trained/folds/0/"


def written(path: str, content: str | bytes) -> Callable[[Path], object]:
    raw = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / path).write_bytes(raw)


def removed(*paths: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        for path in paths:
            place = folder / path
            shutil.rmtree(place) if place.is_dir() else place.unlink()

    return make


def cut(path: str) -> Callable[[Path], object]:
    return lambda folder: (folder / path).write_bytes((folder / path).read_bytes()[:-200])


def json_with(path: str, **values: Any) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        content = json.loads((folder / path).read_text())
        (folder / path).write_text(json.dumps(content | values))

    return make


def hdf5_with(path: str, name: str, values: Any) -> Callable[[Path], None]:
    """Another dataset, or attribute (``@NAME``), in place of one that a file holds."""

    def make(folder: Path) -> None:
        with h5py.File(folder / path, "a") as file:
            if name.startswith("@"):
                file.attrs[name[1:]] = values
                return
            del file[name]
            if values is not None:
                file[name] = values

    return make


def weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    """Other weights in the ensemble, and their hash."""

    def make(folder: Path) -> None:
        path = folder / "trained/ensemble/weights.safetensors"
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path)
        digest = sha256(path.read_bytes()).hexdigest()
        json_with("trained/ensemble/ensemble.json", weights_sha256=digest)(folder)

    return make


def architecture(**values: Any) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        path = folder / "trained/ensemble/ensemble.json"
        content = json.loads(path.read_text())
        content["architecture"] |= values
        path.write_text(json.dumps(content))

    return make


def setting(run: str, old: str, new: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        path = folder / run / "config.yaml"
        text = path.read_text()
        assert text.count(old), old
        path.write_text(text.replace(old, new))

    return make


def all_of(*makers: Callable[[Path], object]) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        for each in makers:
            each(folder)

    return make


def another_network(folder: Path) -> None:
    state = {"state_dict": {"network.stem.weight": torch.zeros(4, 1, 3, 3)}}
    torch.save(state, folder / FOLD / "last.ckpt")


def unfinished(*more: Callable[[Path], object]) -> Callable[[Path], None]:
    """A training that was killed in its first fold."""
    gone = removed("trained/scores.h5", "trained/folds/0/predictions.h5", "trained/ensemble")
    return all_of(gone, json_with("trained/status.json", state="running"), *more)


def at_work(run: str) -> Callable[[Path], object]:
    """Somebody else's lock; it is held as long as what is returned is kept."""

    def make(folder: Path) -> object:
        (folder / run).mkdir(exist_ok=True)
        lock = open(folder / run / "lock", "w")  # noqa: SIM115
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("process 12345 on beamline-7\n")
        lock.flush()
        return lock

    return make


def inside(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).mkdir(parents=True)
