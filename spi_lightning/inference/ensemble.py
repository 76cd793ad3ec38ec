"""Several trained networks, and all that is needed to predict with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from spi_lightning.data.normalisation import Normalisation
from spi_lightning.errors import SpiError, require
from spi_lightning.inference.first_looks import FirstLooks
from spi_lightning.inference.mirroring import Mirror, member_probabilities
from spi_lightning.inference.thresholds import ThresholdSettings

CPU_BATCH = 8  # patterns of 192 x 96 at once on a CPU: their activations stay in the cache, their memory is used again


@dataclass(frozen=True)
class TrainedOn:
    """The patterns that an ensemble was trained on.

    Attributes:
        shape: (rows, columns), prepared.
        mask_bits: bits of the files' masks that made a pixel bad; None: what the files' dialect calls bad.
        prepare: the settings of the data preparation (``data.prepare``), as plain values.
        fingerprint: of the prepared run.
        labels: fingerprint of the labels.
    """

    shape: tuple[int, int]
    mask_bits: int | None
    prepare: dict[str, Any]
    fingerprint: str
    labels: str


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Networks whose probabilities are averaged, ready to predict (:func:`ready`).

    Attributes:
        networks: all of one architecture, in evaluation mode, on one device.
        architecture: config block of a network: ``_target_`` and its parameters.
        normalisation: photon counts → what the networks see.
        mirrors: views of a pattern over which each network's probability is averaged.
        threshold: mean probability from which on a pattern is called a single hit.
        chosen_by: the rule by which the threshold was chosen.
        trained_on: the training patterns.
        description: further plain facts to keep with the ensemble.
        first_looks: by which a cascade may leave patterns out; None where nobody has looked.
        fingerprint: SHA-256 (hex) over all that scores depend on: weights, architecture, normalisation, mirrors, as
            they were loaded; not the threshold. Empty before it was saved and loaded.
    """

    networks: tuple[nn.Module, ...]
    architecture: dict[str, Any]
    normalisation: Normalisation
    mirrors: tuple[Mirror, ...]
    threshold: float
    chosen_by: ThresholdSettings
    trained_on: TrainedOn
    description: dict[str, Any]
    first_looks: FirstLooks | None = None
    fingerprint: str = ""

    def __post_init__(self) -> None:
        require(len(self.networks) >= 1, "The number of networks", len(self.networks), "1 or more")
        check_mirrors(self.mirrors)
        check_threshold(self.threshold)

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self.networks[0].parameters()).device

    def check_shape(self, shape: tuple[int, int]) -> None:
        """Raise :class:`SpiError` unless prepared patterns have the shape of those that it was trained on."""
        if tuple(shape) != self.trained_on.shape:
            rows, columns = self.trained_on.shape
            crop = self.trained_on.prepare.get("crop", {})
            raise SpiError(
                f"The ensemble was trained on patterns of {rows} x {columns} pixels (data.prepare.crop.shape="
                f"{crop.get('shape')}, data.prepare.crop.binning={crop.get('binning', 1)}), but these are "
                f"{shape[0]} x {shape[1]}. Prepare them in the same way: with data=as_trained, leave "
                "data.prepare.crop as it is; frames of another detector need an ensemble of their own."
            )

    @torch.inference_mode()
    def probabilities(self, counts: torch.Tensor, batch: int = CPU_BATCH) -> torch.Tensor:
        """Probability of a single hit by each network, the mean over the mirrored views: as the method says it.

        :class:`~spi_lightning.inference.engine.Engine` gives the same, faster.

        Args:
            counts: ``(n, rows, columns)`` photons, of any number type, on any device.
            batch: patterns that go through a network at once.

        Returns:
            ``(n, networks)`` float32 on the ensemble's device. The ensemble's probability is their mean.

        Raises:
            SpiError: the patterns have another shape than those of the training.
        """
        self.check_shape((counts.shape[1], counts.shape[2]))
        found = torch.empty((len(counts), len(self.networks)), dtype=torch.float32, device=self.device)
        for start in range(0, len(counts), batch):
            patterns = self.normalisation(counts[start : start + batch].to(self.device))[:, None]
            for member, network in enumerate(self.networks):
                found[start : start + batch, member] = member_probabilities(network, patterns, self.mirrors)
        return found


def ready(network: nn.Module, device: str | torch.device = "cpu") -> nn.Module:
    """The network itself, on the device, in evaluation mode, weights without gradient and channels last."""
    network = network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.eval().requires_grad_(False)


def check_mirrors(mirrors: Sequence[Mirror]) -> None:
    """Raise :class:`SpiError` unless there is a view, and each only once."""
    fits = len(mirrors) >= 1 and len(set(mirrors)) == len(mirrors)
    require(fits, "mirrors", list(mirrors), "one or more of none, rows, columns, both, each once")


def check_threshold(threshold: float) -> None:
    """Raise :class:`SpiError` unless ``threshold`` is a probability."""
    require(0 <= threshold <= 1, "threshold", threshold, "a probability, from 0 to 1")
