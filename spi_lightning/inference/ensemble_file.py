"""Keeping an ensemble in a folder from which loading cannot run code.

``weights.safetensors`` holds the weights of all networks (``0.stem.weight``, ...), ``ensemble.json`` all else. The
latter is written last and knows the hash of the former: what is whole is known to be whole.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save_file
from torch import nn

from spi_lightning.config.check import checked
from spi_lightning.config.targets import instantiate
from spi_lightning.data.normalisation import Normalisation
from spi_lightning.errors import SpiError, require
from spi_lightning.inference.ensemble import Ensemble, TrainedOn, check_mirrors, check_threshold, ready
from spi_lightning.inference.first_looks import FirstLooks
from spi_lightning.inference.mirroring import Mirror
from spi_lightning.inference.thresholds import ThresholdSettings
from spi_lightning.patterns.export_cxi import replaced_when_done
from spi_lightning.provenance import current_commit, provenance, write_json

FORMAT = "spi-lightning ensemble"
VERSION = 1
FACTS, WEIGHTS = "ensemble.json", "weights.safetensors"
SCORES_DEPEND_ON = ("architecture", "normalisation", "mirrors", "weights_sha256")


@dataclass(frozen=True)
class _Facts:
    """What stands in ``ensemble.json``; units and meanings as in :class:`Ensemble`."""

    format: str
    version: int
    architecture: dict[str, Any]
    networks: int
    normalisation: Normalisation
    mirrors: tuple[Mirror, ...]
    threshold: float
    chosen_by: ThresholdSettings
    trained_on: TrainedOn
    description: dict[str, Any]
    weights_sha256: str
    first_looks: FirstLooks | None = None


def save_ensemble(folder: str | Path, ensemble: Ensemble) -> None:
    """Write an ensemble into a folder, which is made where it is missing; one that is there is replaced.

    Paths of the training machine are left out of the data preparation: the label file, and the folder of the mask file.
    Versions and commit of the program are added to the description.

    Raises:
        SpiError: weights are not finite; the networks do not have the same weights by name, shape and type; or the
            folder cannot be written to.
    """
    folder = Path(folder)
    states = [_plain_state(network) for network in ensemble.networks]
    for number, state in enumerate(states):
        if lost := [name for name, tensor in state.items() if not tensor.isfinite().all()]:
            raise SpiError(
                f"Network {number} of the ensemble has weights that are not finite, in {lost[0]}: its training has "
                "diverged. Train it again with a smaller optimizer.lr."
            )
        if wrong := _difference(state, states[0]):
            raise SpiError(f"Network {number} is not of the architecture of network 0: {wrong}")
    weights = {f"{number}.{name}": tensor for number, state in enumerate(states) for name, tensor in state.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SpiError(f"The folder {folder} cannot be made ({error.strerror}). Choose another.") from error
    with replaced_when_done(folder / WEIGHTS) as partial:
        save_file(weights, partial)
        digest = hashlib.sha256(partial.read_bytes()).hexdigest()
    facts = _Facts(
        format=FORMAT,
        version=VERSION,
        architecture=ensemble.architecture,
        networks=len(states),
        normalisation=ensemble.normalisation,
        mirrors=ensemble.mirrors,
        threshold=ensemble.threshold,
        chosen_by=ensemble.chosen_by,
        trained_on=dataclasses.replace(ensemble.trained_on, prepare=_portable(ensemble.trained_on.prepare)),
        description=ensemble.description | {"versions": provenance()["versions"], "commit": current_commit()},
        weights_sha256=digest,
        first_looks=ensemble.first_looks,
    )
    write_json(folder / FACTS, dataclasses.asdict(facts))


def load_ensemble(folder: str | Path, device: str | torch.device = "cpu") -> Ensemble:
    """Read an ensemble. Nothing in the files can run: they are JSON, plain numbers, and the name of a listed network.

    Raises:
        SpiError: a file is missing, damaged, of another format, or does not belong to the other; or the architecture is
            not on the list of what may be built, or does not have these weights.
    """
    folder = Path(folder)
    facts = _facts(folder / FACTS, _read(folder, FACTS))
    stored = _weights(folder, facts)
    where = f"{folder / FACTS}: architecture"
    networks = []
    for number in range(facts.networks):
        with torch.random.fork_rng(devices=[]):  # the weights that it draws are replaced: leave the caller's sequence
            network = instantiate(facts.architecture, where, "model")
        state = {name[len(f"{number}.") :]: stored[name] for name in stored if name.startswith(f"{number}.")}
        if wrong := _difference(state, network.state_dict()):
            raise SpiError(
                f"{folder / WEIGHTS}: network {number} is not of the architecture that {FACTS} names: {wrong} The "
                "folder was put together wrongly, or written by another version of the program. Copy or save it again."
            )
        if lost := [name for name, tensor in state.items() if not tensor.isfinite().all()]:
            raise SpiError(
                f"{folder / WEIGHTS}: network {number} has weights that are not finite, in {lost[0]}. The file was "
                "changed by another program: copy or save it again."
            )
        network.load_state_dict(state)
        networks.append(ready(network, device))
    return Ensemble(
        networks=tuple(networks),
        architecture=facts.architecture,
        normalisation=facts.normalisation,
        mirrors=facts.mirrors,
        threshold=facts.threshold,
        chosen_by=facts.chosen_by,
        trained_on=facts.trained_on,
        description=facts.description,
        first_looks=facts.first_looks,
        fingerprint=_fingerprint(facts),
    )


def _plain_state(network: nn.Module) -> dict[str, torch.Tensor]:
    """Weights and buffers as tensors of their own, on the CPU, in the usual layout."""
    return {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in network.state_dict().items()
    }


def _portable(prepare: dict[str, Any]) -> dict[str, Any]:
    """Settings of the data preparation without paths; of the mask file, its name."""
    kept = {name: value for name, value in copy.deepcopy(prepare).items() if name != "labels"}
    if kept.get("mask_file") is not None:
        kept["mask_file"] = Path(kept["mask_file"]).name
    return kept


def _difference(state: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> str:
    """How weights differ by name, shape or type from those that are expected; empty where they do not."""
    if missing := [name for name in expected if name not in state]:
        return f"{len(missing)} weights are missing, such as '{missing[0]}'."
    if strange := [name for name in state if name not in expected]:
        return f"{len(strange)} weights are too many, such as '{strange[0]}'."
    for name, tensor in expected.items():
        if (found := state[name]).shape != tensor.shape or found.dtype != tensor.dtype:
            return f"'{name}' is {list(found.shape)} {found.dtype}; expected was {list(tensor.shape)} {tensor.dtype}."
    return ""


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except FileNotFoundError:
        inside = folder / "ensemble"
        hint = f" Did you mean {inside}?" if (inside / FACTS).is_file() else ""
        raise SpiError(
            f"{folder} holds no {name}: it is not the folder of an ensemble, or only a part of it.{hint} Give "
            "RUN/ensemble of a finished training, or copy the folder again."
        ) from None
    except OSError as error:
        raise SpiError(f"{folder / name} cannot be read ({error.strerror}). Check the permissions.") from None


def _facts(path: Path, content: bytes) -> _Facts:
    again = "Copy the folder again, or save the ensemble anew."
    try:
        values = json.loads(content)
    except (ValueError, RecursionError):
        raise SpiError(f"{path} is not JSON: it is damaged. {again}") from None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise SpiError(f"{path} is not the description of an ensemble (its format is not '{FORMAT}'). {again}")
    if values.get("version") != VERSION:
        raise SpiError(
            f"{path} has version {values.get('version')!r} of its format; this program reads version {VERSION}. Use "
            "the version of spi-lightning that wrote it."
        )
    try:
        facts = checked(_Facts, values, str(path))
        require(facts.networks >= 1, "networks", facts.networks, "1 or more")
        check_mirrors(facts.mirrors)
        check_threshold(facts.threshold)
    except SpiError as error:
        text = str(error)
        raise SpiError(text if text.startswith(str(path)) else f"{path}: {text}") from None
    return facts


def _fingerprint(facts: _Facts) -> str:
    known = dataclasses.asdict(facts)
    return hashlib.sha256(
        json.dumps({name: known[name] for name in SCORES_DEPEND_ON}, sort_keys=True).encode()
    ).hexdigest()


def _weights(folder: Path, facts: _Facts) -> dict[str, torch.Tensor]:
    path = folder / WEIGHTS
    content = _read(folder, WEIGHTS)
    if (digest := hashlib.sha256(content).hexdigest()) != facts.weights_sha256:
        raise SpiError(
            f"{path} is damaged, or belongs to another {FACTS}: its SHA-256 is {digest[:12]}..., but "
            f"{facts.weights_sha256[:12]}... is expected. Copy both files again, or save the ensemble anew."
        )
    try:
        tensors = tensors_from_bytes(content)
    except (SafetensorError, KeyError, TypeError) as error:  # the latter: types and sizes that torch does not have
        raise SpiError(
            f"{path} is not a safetensors file ({error}); nothing else is read. Copy or save it again."
        ) from None
    numbers = {name.partition(".")[0] for name in tensors}
    if numbers != {str(number) for number in range(facts.networks)}:
        raise SpiError(
            f"{path} holds weights of the networks {', '.join(sorted(numbers))}, but {FACTS} speaks of "
            f"{facts.networks}. The files do not belong together: copy or save them again."
        )
    return tensors
