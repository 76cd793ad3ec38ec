from __future__ import annotations

import dataclasses
import hashlib
import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from spi_lightning.data.normalisation import Normalisation
from spi_lightning.errors import SpiError
from spi_lightning.inference.ensemble import TrainedOn
from spi_lightning.inference.ensemble_file import load_ensemble, save_ensemble
from spi_lightning.inference.first_looks import FirstLooks
from spi_lightning.inference.thresholds import ThresholdSettings
from tests.unit.inference.small import SHAPE, small_ensemble
from tests.unit.patterns.fake_run import photons


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_ensemble(tmp_path / "ensemble", small_ensemble())
    return tmp_path / "ensemble"


def change_facts(folder: Path, **changes: Any) -> None:
    facts = json.loads((folder / "ensemble.json").read_text())
    (folder / "ensemble.json").write_text(json.dumps(facts | changes))


def put_weights(folder: Path, content: bytes) -> None:
    """Replace the weights, hash and all, as an attacker would."""
    (folder / "weights.safetensors").write_bytes(content)
    change_facts(folder, weights_sha256=hashlib.sha256(content).hexdigest())


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    path = folder / "weights.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path)
    put_weights(folder, path.read_bytes())


def test_what_is_loaded_is_what_was_saved_to_the_bit(tmp_path: Path) -> None:
    saved = small_ensemble(
        mirrors=("none", "both"),
        threshold=0.123456789,
        chosen_by=ThresholdSettings("precision", 0.7),
        trained_on=TrainedOn(SHAPE, 640, {"crop": {"shape": [48, 60], "binning": 2}}, "d", "l"),
    )
    save_ensemble(tmp_path, saved)
    before = torch.get_rng_state()
    loaded = load_ensemble(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)
    for mine, theirs in zip(saved.networks, loaded.networks, strict=True):
        expected = theirs.state_dict()
        assert all(torch.equal(tensor, expected[name]) for name, tensor in mine.state_dict().items())
    counts = torch.from_numpy(photons(6))
    assert torch.equal(loaded.probabilities(counts), saved.probabilities(counts))
    for name in ("architecture", "normalisation", "mirrors", "threshold", "chosen_by", "trained_on"):
        assert getattr(loaded, name) == getattr(saved, name), name
    assert loaded.description["experiment"] == "a test"
    assert loaded.description["versions"]["torch"] == torch.__version__


def test_first_looks_are_kept_and_change_no_score(folder: Path, tmp_path: Path) -> None:
    looks = FirstLooks((-3.5, 12.0), (0.5, 1.0), (0, 2), 0.05)
    assert load_ensemble(folder).first_looks is None
    save_ensemble(tmp_path / "other", dataclasses.replace(load_ensemble(folder), first_looks=looks))
    other = load_ensemble(tmp_path / "other")
    assert other.first_looks == looks
    assert other.fingerprint == load_ensemble(folder).fingerprint


def test_the_folder_holds_two_files_and_names_of_weights_as_documented(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == ["ensemble.json", "weights.safetensors"]
    names = set(load_file(folder / "weights.safetensors"))
    assert {"0.stem.weight", "2.head.bias"} <= names


def test_the_fingerprint_is_of_what_scores_depend_on(folder: Path) -> None:
    first = load_ensemble(folder)
    assert len(first.fingerprint) == 64
    save_ensemble(folder, dataclasses.replace(first, threshold=0.9, description={"other": "words"}))
    second = load_ensemble(folder)
    assert second.threshold == 0.9
    assert second.fingerprint == first.fingerprint
    weights = small_ensemble(2).networks
    for changes in ({"mirrors": ("none",)}, {"normalisation": Normalisation("sqrt", 0.1, 0.9)}, {"networks": weights}):
        save_ensemble(folder, dataclasses.replace(first, **changes))
        assert load_ensemble(folder).fingerprint != first.fingerprint, changes


def test_paths_of_the_training_machine_are_left_out(tmp_path: Path) -> None:
    prepare = {"mask_file": "/secret/place/mask.npy", "labels": {"path": "/secret/labels.csv"}, "sample_frames": 10}
    save_ensemble(tmp_path, small_ensemble(trained_on=TrainedOn(SHAPE, None, prepare, "d", "l")))
    assert "secret" not in (tmp_path / "ensemble.json").read_text()
    assert load_ensemble(tmp_path).trained_on.prepare == {"mask_file": "mask.npy", "sample_frames": 10}
    assert prepare["mask_file"] == "/secret/place/mask.npy"


def test_a_training_that_diverged_is_not_saved(tmp_path: Path) -> None:
    ensemble = small_ensemble()
    next(ensemble.networks[1].parameters()).fill_(float("nan"))
    with pytest.raises(SpiError, match=r"Network 1 .* not finite, in stem\.weight"):
        save_ensemble(tmp_path / "ensemble", ensemble)
    assert not (tmp_path / "ensemble").exists()


def test_networks_of_several_architectures_are_not_saved(tmp_path: Path) -> None:
    ensemble = small_ensemble(2)
    odd = dataclasses.replace(ensemble, networks=(ensemble.networks[0], torch.nn.Linear(2, 2)))
    with pytest.raises(SpiError, match="Network 1 is not of the architecture of network 0"):
        save_ensemble(tmp_path, odd)


@pytest.mark.parametrize("name", ["ensemble.json", "weights.safetensors"])
def test_a_missing_file_is_told(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(SpiError, match=f"holds no {name}"):
        load_ensemble(folder)


def test_the_run_folder_in_place_of_the_ensembles(folder: Path) -> None:
    with pytest.raises(SpiError, match=f"Did you mean {folder}"):
        load_ensemble(folder.parent)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "something"}, "not the description of an ensemble"),
        ({"version": 2}, "has version 2 of its format; this program reads version 1"),
        ({"networks": 4}, "networks 0, 1, 2, but ensemble.json speaks of 4"),
        ({"networks": 0}, "networks is 0"),
        ({"networks": "3"}, "networks: found '3'"),
        ({"mirrors": []}, "mirrors is"),
        ({"mirrors": ["diagonal"]}, "mirrors.0: found 'diagonal'"),
        ({"threshold": 2.0}, "threshold is 2.0"),
        ({"normalisation": {"transform": "none", "mean": 0.0, "sd": 0.0}}, r"normalisation\.sd is 0.0"),
        ({"normalisation": {"transform": "exp", "mean": 0.0, "sd": 1.0}}, "found 'exp'"),
        ({"chosen_by": {"rule": "max_f1", "value": 3.0}}, r"threshold\.value is 3.0"),
        ({"weights_sha256": "0" * 64}, "its SHA-256 is"),
        ({"surprise": 1}, "there is no such key"),
        ({"trained_on": {}}, "missing from the config"),
        ({"architecture": {}}, "the class to build is missing"),
    ],
)
def test_facts_that_cannot_be_are_told(folder: Path, changes: dict, message: str) -> None:
    change_facts(folder, **changes)
    with pytest.raises(SpiError, match=message) as told:
        load_ensemble(folder)
    assert str(folder) in str(told.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b"null", b"[" * 100_000])
def test_facts_that_are_no_json_object(folder: Path, content: bytes) -> None:
    (folder / "ensemble.json").write_bytes(content)
    with pytest.raises(SpiError, match=r"ensemble\.json is not"):
        load_ensemble(folder)


def test_damaged_weights_are_told(folder: Path) -> None:
    path = folder / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(SpiError, match="is damaged, or belongs to another"):
        load_ensemble(folder)


def test_weights_of_another_architecture_are_told(folder: Path) -> None:
    facts = json.loads((folder / "ensemble.json").read_text())
    change_facts(folder, architecture=facts["architecture"] | {"filters": [4, 16]})
    with pytest.raises(SpiError, match="network 0 is not of the architecture"):
        load_ensemble(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights.pop("1.head.bias"), r"1 weights are missing, such as 'head\.bias'"),
        (lambda weights: weights.update({"1.more": torch.zeros(1)}), "1 weights are too many, such as 'more'"),
        (lambda weights: weights.update({"1.head.bias": torch.zeros(3)}), r"'head\.bias' is \[3\]"),
        (lambda weights: weights.update({"1.head.bias": torch.zeros(2).double()}), "torch.float64"),
        (lambda weights: weights.update({"9.head.bias": torch.zeros(2)}), "networks 0, 1, 2, 9"),
    ],
)
def test_weights_that_do_not_fit_are_told(folder: Path, change: Callable, message: str) -> None:
    change_weights(folder, change)
    with pytest.raises(SpiError, match=message):
        load_ensemble(folder)


class Payload:
    """Touches a file when it is unpickled."""

    def __init__(self, proof: Path):
        self.proof = proof

    def __reduce__(self) -> tuple:
        return Path.touch, (self.proof,)


def test_a_pickle_in_place_of_the_weights_does_not_run(folder: Path, tmp_path: Path) -> None:
    proof = tmp_path / "ran"
    content = pickle.dumps({"0.stem.weight": Payload(proof)})
    put_weights(folder, content)
    with pytest.raises(SpiError, match="not a safetensors file"):
        load_ensemble(folder)
    assert not proof.exists()
    pickle.loads(content)  # it would have
    assert proof.exists()


def test_a_checkpoint_of_torch_in_place_of_the_weights_does_not_run(folder: Path, tmp_path: Path) -> None:
    proof = tmp_path / "ran"
    torch.save({"0.stem.weight": Payload(proof)}, tmp_path / "weights.pt")
    put_weights(folder, (tmp_path / "weights.pt").read_bytes())
    with pytest.raises(SpiError, match="not a safetensors file"):
        load_ensemble(folder)
    assert not proof.exists()


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.exec",
        "torch.load",
        "torch.nn.Linear",
        "spi_lightning.simulation.particles.Spheroid",  # may be built by a config, but is no network
        "spi_lightning.models.preact_resnet.torch.load",
    ],
)
def test_what_is_no_listed_network_is_refused_and_does_not_run(folder: Path, tmp_path: Path, target: str) -> None:
    proof = tmp_path / "ran"
    change_facts(folder, architecture={"_target_": target, "command": f"touch {proof}"})
    with pytest.raises(SpiError, match="not on the list"):
        load_ensemble(folder)
    assert not proof.exists()


@given(data=st.binary(max_size=200), header=st.text(max_size=80))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_for_weights_are_told(folder: Path, data: bytes, header: str) -> None:
    for content in (data, struct.pack("<Q", len(header.encode())) + header.encode() + data):
        put_weights(folder, content)
        with pytest.raises(SpiError):
            load_ensemble(folder)


@pytest.mark.parametrize(
    "header",
    [
        {"0.stem.weight": {"dtype": "F8_E8M0", "shape": [1], "data_offsets": [0, 1]}},
        {"0.stem.weight": {"dtype": "F4", "shape": [2], "data_offsets": [0, 1]}},
        {"0.stem.weight": {"dtype": "C64", "shape": [1], "data_offsets": [0, 8]}},
        {"0.stem.weight": {"dtype": "F32", "shape": [1 << 62, 4], "data_offsets": [0, 4]}},
        {"0.stem.weight": {"dtype": "F32", "shape": [0, 1 << 62], "data_offsets": [0, 0]}},
        {"0.stem.weight": {"dtype": "F32", "shape": [0, 1 << 63], "data_offsets": [0, 0]}},
        {},
    ],
)
def test_headers_that_torch_cannot_take_are_told(folder: Path, header: dict) -> None:
    text = json.dumps(header).encode()
    size = max([0, *(entry["data_offsets"][1] for entry in header.values())])
    put_weights(folder, struct.pack("<Q", len(text)) + text + bytes(size))
    with pytest.raises(SpiError):
        load_ensemble(folder)
