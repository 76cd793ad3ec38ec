"""Nothing that is loaded runs code: checkpoints, ensembles, arrays, scores."""

from __future__ import annotations

import json
import pickle
from hashlib import sha256
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from tests.integration.payload import EVALUATE, PREDICT, RESUME, Payload, ran, refused


@pytest.mark.parametrize("form", ["torch's zip", "torch's old form", "a bare pickle"])
@pytest.mark.parametrize("command", [EVALUATE, RESUME])
def test_a_pickle_in_a_checkpoint(form: str, command: str, here: Path, marker: Path) -> None:
    path = here / "trained/folds/0/last.ckpt"
    content = {**torch.load(path, weights_only=True), "more": Payload(marker)}
    if form == "a bare pickle":
        path.write_bytes(pickle.dumps(content["more"]))
        pickle.loads(path.read_bytes())
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "torch's zip")
        torch.load(path, weights_only=False)
    assert ran(marker)
    if command == RESUME:
        (here / "trained/folds/0/predictions.h5").unlink()
    refused(command, "folds/0/last.ckpt")
    assert not ran(marker)


def test_a_pickle_in_place_of_the_weights_of_an_ensemble(here: Path, marker: Path) -> None:
    folder = here / "trained/ensemble"
    content = pickle.dumps(Payload(marker))
    pickle.loads(content)
    assert ran(marker)
    (folder / "weights.safetensors").write_bytes(content)
    facts = json.loads((folder / "ensemble.json").read_text())
    (folder / "ensemble.json").write_text(json.dumps(facts | {"weights_sha256": sha256(content).hexdigest()}))
    refused(PREDICT, "weights.safetensors", "not a safetensors file")
    assert not ran(marker)


@pytest.mark.parametrize("key", ["data.prepare.mask_file", "data.prepare.labels.path"])
def test_objects_in_an_array(key: str, here: Path, marker: Path) -> None:
    values = np.empty((96, 48), dtype=object)
    values[:] = Payload(marker)
    np.save(here / "bad.npy", values)
    np.load(here / "bad.npy", allow_pickle=True)
    assert ran(marker)
    refused(f"spi-inspect data.path=simulated/patterns.cxi {key}=bad.npy run=out", "bad.npy")
    assert not ran(marker)


def test_a_pickle_in_an_attribute_and_in_a_dataset_of_a_file_of_scores(here: Path, marker: Path) -> None:
    path = here / "predicted/scores.h5"
    content = np.void(pickle.dumps(Payload(marker)))
    with h5py.File(path, "a") as file:
        for name in ("source", "mirrors", "more"):
            file.attrs[name] = content
        pickle.loads(file.attrs["more"].tobytes())
        del file["id"]
        file["id"] = np.array([content] * 120)
    assert ran(marker)
    refused("spi-select run=predicted callbacks=none", "predicted/scores.h5")
    assert not ran(marker)
