"""Networks made ready to predict fast, and predicting with them on all cores of a CPU or in large batches on a GPU.

What is fast was measured (docs/benchmarks.md). On a CPU: batch norms folded, channels last, a few patterns at a time so
that activations stay in the cache, one core for each few, the networks and the mirrored views one after the other. On
a GPU: hundreds of patterns at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, TypeVar

import torch
from torch import nn

from spi_lightning.data.normalisation import Normalisation
from spi_lightning.inference.ensemble import CPU_BATCH, Ensemble
from spi_lightning.inference.folding import folded
from spi_lightning.inference.mirroring import Mirror, member_probabilities, mirrored
from spi_lightning.inference.parallel import each_on_one_core

Precision = Literal["float32", "bfloat16", "float16"]
Part = TypeVar("Part")
Result = TypeVar("Result")

# What goes through a network at once: on a CPU, pixels whose activations stay in the cache; on a GPU, patterns.
CPU_PIXELS = CPU_BATCH * 192 * 96
GPU_BATCH = 512
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Engine:
    """An ensemble's networks in the form in which they predict fastest; the ensemble itself is left as it is.

    Attributes:
        device: where they compute.
        batch: patterns that suit the device at once.
    """

    def __init__(self, ensemble: Ensemble, precision: Precision = "float32"):
        """Fold the networks, and convert them.

        Args:
            ensemble: on any device.
            precision: of weights and activations. Probabilities in float32 agree with the ensemble's own to 1e-4.
        """
        self.device = ensemble.device
        self.batch = batch_for(self.device, ensemble.trained_on.shape)
        self._normalisation, self._mirrors = ensemble.normalisation, ensemble.mirrors
        self._networks = [lowered(folded(network), precision) for network in ensemble.networks]

    @torch.inference_mode()
    def probabilities(self, counts: torch.Tensor, networks: slice = slice(None)) -> torch.Tensor:
        """As :meth:`Ensemble.probabilities`: counts ``(n, rows, columns)`` → ``(n, networks)`` float32, all at once.

        Args:
            counts: photons, of any number type, on any device.
            networks: which of them predict; all by default.
        """
        patterns = self._normalisation(counts.to(self.device))[:, None]
        members = [member_probabilities(network, patterns, self._mirrors) for network in self._networks[networks]]
        return torch.stack(members, dim=1)

    def __len__(self) -> int:
        """Number of networks."""
        return len(self._networks)


class Lowered(nn.Module):
    """A network that computes with fewer bits; float32 goes in and comes out."""

    def __init__(self, network: nn.Module, dtype: torch.dtype):
        super().__init__()
        self.network, self.dtype = network.to(dtype), dtype

    def forward(self, patterns: torch.Tensor) -> torch.Tensor:
        """Normalised patterns ``(n, 1, rows, columns)`` → logits ``(n, 2)``."""
        return self.network(patterns.to(self.dtype)).float()


def lowered(network: nn.Module, precision: Precision) -> nn.Module:
    """The network itself, or one that converts it (in place) and computes with fewer bits."""
    return network if precision == "float32" else Lowered(network, DTYPES[precision]).eval()


def batch_for(device: torch.device, shape: Sequence[int]) -> int:
    """How many patterns of a shape (rows, columns) a device likes to have at once."""
    return max(1, CPU_PIXELS // math.prod(shape)) if device.type == "cpu" else GPU_BATCH


def on_device(function: Callable[[Part], Result], parts: Iterable[Part], device: torch.device) -> Iterator[Result]:
    """Apply a function of torch to parts: on a CPU to one on each core at a time, else to one after the other.

    Yields:
        The results in the order of the parts.
    """
    return each_on_one_core(function, parts, torch.get_num_threads()) if device.type == "cpu" else map(function, parts)


def logits_of(
    network: nn.Module,
    counts: torch.Tensor,
    normalisation: Normalisation,
    mirror: Mirror = "none",
    advance: Callable[[int], object] = lambda n: None,
) -> torch.Tensor:
    """What a network says of many patterns.

    Args:
        network: in evaluation mode, best :func:`~spi_lightning.inference.folding.folded`.
        counts: ``(n, rows, columns)`` photons, of any number type, on any device.
        normalisation: counts → what the network sees.
        mirror: the view.
        advance: told how many more are done.

    Returns:
        Logits ``(n, 2)`` float32 on the network's device.
    """
    device = next(network.parameters()).device

    @torch.inference_mode()
    def logits(part: torch.Tensor) -> torch.Tensor:
        view = mirrored(normalisation(part.to(device))[:, None], mirror)
        return network(view.contiguous(memory_format=torch.channels_last)).float()

    return _of_all(logits, counts, device, advance)


def view_probabilities(
    network: nn.Module,
    counts: torch.Tensor,
    normalisation: Normalisation,
    mirrors: Sequence[Mirror],
    advance: Callable[[int], object] = lambda n: None,
) -> torch.Tensor:
    """Probability of a single hit by one network, the mean over mirrored views: ``(n,)`` float32 on its device.

    Arguments as of :func:`logits_of`; ``mirrors``: the views, one at least.
    """
    device = next(network.parameters()).device

    def probabilities(part: torch.Tensor) -> torch.Tensor:
        return member_probabilities(network, normalisation(part.to(device))[:, None], mirrors)

    return _of_all(probabilities, counts, device, advance)


def _of_all(
    function: Callable[[torch.Tensor], torch.Tensor],
    counts: torch.Tensor,
    device: torch.device,
    advance: Callable[[int], object],
) -> torch.Tensor:
    found = []
    for part in on_device(function, counts.split(batch_for(device, counts.shape[1:])), device):
        found.append(part)
        advance(len(part))
    return torch.cat(found)
