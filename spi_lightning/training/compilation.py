"""Compiling a network's training, where a compiler is at hand."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from spi_lightning.errors import SpiError

Forward = Callable[[torch.Tensor], torch.Tensor]


def compiled(network: nn.Module, device: str) -> Forward:
    """The network's forward pass as a compiled function; on a GPU also captured as a graph, as its backward pass is.

    It trains the network's own weights, whose names stay as they are. The compiling itself is done by the first batch.

    Args:
        network: patterns → logits.
        device: of the network, by the time it is trained.
    """
    return torch.compile(network.forward, mode=_mode(device), dynamic=False)


def check_compiler(device: str) -> None:
    """Find out in seconds, with a tiny function, whether anything can be compiled for a device.

    Raises:
        SpiError: not here: there is no C++ compiler, or no header of Python.
    """
    try:
        torch.compile(_tiny, mode=_mode(device))(torch.ones(8, device=device))
    except RuntimeError as error:
        said = str(error).strip().splitlines()[0]
        raise SpiError(
            f"trainer.compile is true, but torch.compile does not work here ({said}). It needs a C++ compiler (g++) "
            "and the headers of Python (python3-dev), on a GPU also Triton. Install them, or set trainer.compile=false."
        ) from None


def _mode(device: str) -> str:
    return "default" if torch.device(device).type == "cpu" else "reduce-overhead"


def _tiny(values: torch.Tensor) -> torch.Tensor:
    return values.sin() + 1
